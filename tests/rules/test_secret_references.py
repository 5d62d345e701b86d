"""How secrets are named: what can be one, who may name it, and what others see of it."""

import pytest

from tollhouse.rules.secret_references import problem, shown

GOOD = [
    "env:ANTHROPIC_API_KEY",
    "file:/run/secrets/key",
    "file:~/key",
    "vault:secret/llm/anthropic#api_key",
    "stored:main",
]


@pytest.mark.parametrize("reference", GOOD)
def test_what_both_may_name(reference: str) -> None:
    assert problem(reference) is None
    assert problem(reference, declared=True) is None
    assert shown(reference) == reference


def test_a_helper_stands_in_the_operators_settings_only() -> None:
    reference = "cmd:/opt/helper --password hunter2"
    assert problem(reference) is None
    told = problem(reference, declared=True)
    assert told is not None
    assert "operator's own settings only" in told
    assert "hunter2" not in told
    assert shown(reference) == "cmd:/opt/helper …"
    assert shown("cmd:/opt/helper") == "cmd:/opt/helper"


@pytest.mark.parametrize(
    "reference",
    [
        *("", "sk-ant-api03-the-key", "env", "env:", "file: ", "CMD:x", "http://vault/x#y", "aws:thing"),
        *("vault:", "vault:mount", "vault:mount/path", "vault:mount/path#", "vault:/path#field", "vault:mount/#field"),
        *("vault:mount/../sys/raw#x", "vault:./a#x", "vault:mount/a?version=1#x", "vault:mount/%2e%2e/a#x"),
    ],
)
def test_what_names_nothing(reference: str) -> None:
    for declared in (False, True):
        told = problem(reference, declared=declared)
        assert told is not None
        assert "write " in told or "no `.`" in told
        assert "the-key" not in told
