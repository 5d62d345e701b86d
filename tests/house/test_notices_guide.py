"""The guide of notices: its settings load, and what it shows verifies signatures, in Python and in Node."""

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.node import node
from tollhouse.events.signature import new_secret, secret_bytes, signed_headers
from tollhouse.settings import Settings
from tollhouse.terms.notices import NoticeKind

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "notices.md").read_text("utf-8")
BODY = b'{"id":"ntc_1","text":"\xc3\xa4"}'
Verify = Callable[[str, dict[str, str], bytes], bool]


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(found)


def in_python(secret: str, headers: dict[str, str], body: bytes) -> bool:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    try:
        names["verify"](secret, headers, body)
    except ValueError:
        return False
    return True


def in_node(secret: str, headers: dict[str, str], body: bytes) -> bool:
    encoded = base64.b64encode(body).decode()
    asked = f"verify({json.dumps(secret)}, {json.dumps(headers)}, Buffer.from('{encoded}', 'base64'))"
    found = subprocess.run([node(), "-e", f"{block('js')}\n{asked}"], capture_output=True, text=True, check=False)
    assert found.returncode == 0 or "Error: " in found.stderr
    return found.returncode == 0


@pytest.mark.parametrize("verify", [in_python, in_node])
def test_what_the_guide_shows_verifies(verify: Verify) -> None:
    secret = new_secret()
    headers = signed_headers(secret_bytes(secret), "ntc_1", int(time.time()), BODY)
    assert verify(secret, headers, BODY)
    assert not verify(secret, headers, BODY + b" ")
    assert not verify(new_secret(), headers, BODY)
    assert not verify(secret, {**headers, "webhook-id": "ntc_2"}, BODY)
    assert not verify(secret, signed_headers(secret_bytes(secret), "ntc_1", int(time.time()) - 400, BODY), BODY)


def test_its_settings_and_numbers_are_so(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = [Settings(**yaml.safe_load(found)) for found in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
    assert (loaded[0].webhooks[0].kinds, loaded[1].anomalies.pause) == (
        ("budget.*", "credential.*", "sign_in.*"),
        ("spend", "addresses"),
    )
    usual = Settings()
    assert usual.money.thresholds == (50, 80, 95)
    notices, anomalies = usual.notices, usual.anomalies
    assert (notices.timeout_s, notices.first_retry_s, notices.last_retry_s, notices.give_up_s) == (10, 5, 3_600, 86_400)
    assert (anomalies.spend_factor, anomalies.spend_floor_usd, anomalies.spend_hours) == (10, "1", 6)
    assert (anomalies.new_client_calls, anomalies.addresses) == (50, 20)
    assert (anomalies.refusals, anomalies.refusals_s) == (50, 600)
    assert (anomalies.history_days, anomalies.history_rows) == (7, 200_000)


def test_it_names_every_kind() -> None:
    assert {kind.value for kind in NoticeKind} <= set(re.findall(r"`([a-z_.]+)`", TEXT))
