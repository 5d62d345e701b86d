"""Own keys as people live with them: stored, tested, used, their master keys rotated under calls, and never told."""

import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.scripted import Received, ScriptedUpstream, Step, reply
from tests.serving import Gateway, eventually
from tollhouse.cli import main
from tollhouse.vault import parse_master_keys

OWN = "sk-ant-api03-own-secret-of-ann-0123456789-wxyz"
POOL = "sk-ant-api03-secret-of-the-pool-0123456789-klmn"
SHARED = "sk-ant-api03-the-shared-one"
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "output_tokens": 5},
}
SETTINGS = {"local": {"enabled": False}, "money": {"default_max_tokens": 100}}


def answering(received: Received) -> Iterable[Step]:
    """Lists its models for who has a key of ours, and repeats a wrong one, as some providers do."""
    shown = received.header("x-api-key") or ""
    if shown not in (OWN, POOL, SHARED):
        error = {"type": "authentication_error", "message": f"invalid x-api-key: {shown}"}
        return [reply(401, json.dumps({"type": "error", "error": error}).encode())]
    if received.method == "GET":
        return [reply(200, b'{"data":[],"has_more":false}')]
    return [reply(200, json.dumps(ANSWER).encode())]


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        running.script = answering
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, provider: ScriptedUpstream) -> Iterator[Gateway]:
    row = {"name": "mock", "kind": "anthropic", "base_url": provider.url, "api_key": "env:MOCK", "models": ["claude-*"]}
    place = tmp_path_factory.mktemp("vault")
    running = Gateway(place, {**SETTINGS, "providers": [row]}, MOCK=SHARED)
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def type_(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Commands in this process, at the gateway's home."""
    for name in [name for name in os.environ if name.startswith(("TOLLHOUSE_", "LITELLM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TOLLHOUSE_HOME", str(gateway.home))
    monkeypatch.setenv("TOLLHOUSE_CONFIG", str(gateway.config))

    def run(*words: str, piped: str = "", code: int = 0) -> Any:
        monkeypatch.setattr("sys.stdin", io.StringIO(piped))
        ended = main([*words, "--json"])
        printed = capsys.readouterr()
        assert ended == code, printed.err
        return json.loads(printed.out or printed.err)

    return run


def call(gateway: Gateway, key: str) -> httpx.Response:
    body = {"model": "claude-sonnet-4-6", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    url = f"{gateway.url}/v1/messages"
    return httpx.post(url, json=body, headers={"x-api-key": key}, timeout=30, trust_env=False)


def test_own_keys_from_the_first_master_key_to_a_rotation(
    gateway: Gateway, provider: ScriptedUpstream, type_: Any
) -> None:
    refused = type_("credentials", "add", "mock", "--name", "pool", piped=POOL, code=1)
    assert refused["error"]["code"] == "no_master_key"
    made = type_("vault", "init")
    assert (made["ready"], made["current"]) == (True, 1)  # the running gateway has it already
    type_("vault", "init", code=1)
    pool = type_("credentials", "add", "mock", "--name", "pool", piped=f"{POOL}\n")
    assert (pool["hint"], pool["kind"]) == ("klmn", "anthropic_api")
    type_("plans", "create", "premium", "--own-key", "own_first")
    type_("users", "create", "ann", "--plan", "premium")
    key = gateway.key("ann")
    own = type_("credentials", "add", "mock", "--user", "ann", piped=OWN)

    def paying() -> str | None:
        answer = call(gateway, key)
        assert answer.status_code == 200, answer.text
        return provider.last.header("x-api-key")

    assert paying() == OWN
    shown = eventually(lambda: (one := type_("credentials", "show", own["credential_id"]))["last_used_at"] and one)
    assert shown["refused_at"] is None
    tested = type_("credentials", "test", "pool")
    assert (tested["ok"], tested["status"], tested["host"]) == (True, 200, provider.url)
    assert provider.last.target == "/v1/models?limit=1"
    assert (provider.last.header("x-api-key"), provider.last.header("anthropic-version")) == (POOL, "2023-06-01")

    rotated = type_("vault", "rotate", "--forget-old")
    assert (rotated["made"], rotated["rewrapped"], rotated["forgotten"], rotated["unopened"]) == (2, 2, [1], 0)
    keys = parse_master_keys((gateway.home / "master-keys").read_text(), where="x")
    assert keys.versions == (2,)
    assert paying() == OWN

    type_("credentials", "replace", "pool", piped="sk-ant-api03-revoked-secret-0123456789")
    tested = type_("credentials", "test", "pool", code=1)
    assert (tested["ok"], tested["status"]) == (False, 401)
    assert tested["message"] == "invalid x-api-key: …"
    assert type_("credentials", "show", "pool")["refused_at"] is not None
    type_("credentials", "remove", own["credential_id"])
    assert paying() == SHARED
    type_("credentials", "replace", "pool", piped=POOL)
    type_("credentials", "assign", "pool", "ann")
    assert paying() == POOL
    type_("credentials", "unassign", "ann", "mock")
    assert paying() == SHARED
    assert [row["check"] for row in type_("doctor")["findings"] if row["check"] == "vault"] == ["vault"]
    nowhere(gateway, "own-secret-of-ann", "secret-of-the-pool", "revoked-secret")


def nowhere(gateway: Gateway, *secrets: str) -> None:
    """In no file of the home, and in no line of the log."""
    for path in (*gateway.home.rglob("*"), gateway.log):
        if path.is_file():
            data = path.read_bytes()
            assert [secret for secret in secrets if secret.encode() in data] == [], path


def test_secrets_under_lost_master_keys_are_told_of_and_not_covered_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(("TOLLHOUSE_", "LITELLM_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("TOLLHOUSE_HOME", str(home))
    monkeypatch.setenv("ANTHROPIC_API_KEY", SHARED)
    secrets = iter(range(10))

    def typed(*words: str, code: int = 0) -> Any:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"sk-ant-api03-kept-secret-{next(secrets, '')}"))
        ended = main([*words, "--json"])
        printed = capsys.readouterr()
        assert ended == code, printed.err
        return json.loads(printed.out or printed.err)

    typed("vault", "init")
    typed("credentials", "add", "anthropic", "--name", "kept")
    (home / "master-keys").rename(tmp_path / "backup")
    found = typed("vault", "status")
    assert (found["ready"], found["unopened"]) == (False, 1)
    assert typed("vault", "init", code=1)["error"]["code"] == "master_keys_missing"
    findings = typed("doctor", code=1)["findings"]
    assert [row["level"] for row in findings if row["check"] == "vault"] == ["problem"]
    made = typed("vault", "init", "--start-over")  # beside what is lost, under a number of its own
    assert (made["current"], made["unopened"]) == (2, 1)
    typed("credentials", "add", "anthropic", "--name", "new")
    assert typed("vault", "rotate")["not_opened"][0]["noun"] == "credential"
    with (tmp_path / "backup").open() as backup, (home / "master-keys").open("a") as file:  # it is found after all
        file.write(backup.read())
    assert typed("vault", "rotate")["unopened"] == 0
