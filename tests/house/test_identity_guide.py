"""The guide to identity shows settings that load, and what must not be set is refused with the place and the remedy."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tollhouse.settings import Settings

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "identity.md").read_text("utf-8")
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)]
OURS = [block for block in BLOCKS if block.keys() <= Settings.model_fields.keys()]


@pytest.mark.parametrize("block", OURS, ids=lambda block: block["jwt"][0]["name"] if "jwt" in block else "other")
def test_the_settings_of_the_guide_load(block: dict[str, Any]) -> None:
    settings = Settings(**block)
    for row in settings.jwt:
        assert row.rules(f"jwt:{row.name}").default_plan == "free"


def test_they_are_all_there() -> None:
    assert [block["jwt"][0]["name"] for block in OURS if "jwt" in block] == ["app", "auth0", "clerk", "authjs"]
    assert len(OURS) == 6
    assert len(BLOCKS) == 7, "and Envoy's"


GOOD = {"name": "a", "issuer": "https://id.example", "jwks_url": "https://id.example/jwks", "audience": "x"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"jwks_url": "http://id.example/jwks"}, "over https"),
        ({"jwks_url": "file:///etc/passwd"}, "over https"),
        ({"jwks_url": "https:///jwks"}, "over https"),
        ({"audience": ""}, "give audience or azp"),
        ({"name": "session"}, "signed-in browsers"),
        ({"name": "A name"}, "should match pattern"),
        ({"algorithms": "none"}, "'none' is none of"),
        ({"algorithms": ["RS256", "HS256"]}, "'HS256' is none of"),
        ({"secret": "env:X"}, "give one of"),
        ({"jwks_url": "", "secret": "hunter2hunter2hunter2hunter2hunter2"}, "never stands in a settings file"),
        ({"jwks_url": "", "secret": "env:X", "algorithms": "RS256"}, "'RS256' is none of"),
        ({"jwks_url": "", "public_key": "-----BEGIN PUBLIC KEY-----"}, "never stands in a settings file"),
        ({"jwks_url": ""}, "give one of"),
        ({"isuer": "x"}, "Extra inputs"),
    ],
)
def test_a_wrong_issuer_is_refused_in_words(change: dict[str, Any], why: str) -> None:
    Settings(jwt=[GOOD])
    with pytest.raises(ValidationError, match=re.escape(why)):
        Settings(jwt=[GOOD | change])
