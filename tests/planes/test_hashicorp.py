"""`vault:` against a scripted server: what is read, how long it is good, every way in which it cannot be had."""

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.hashicorp import TOKEN, FakeVault, Token, Version
from tests.planes.wire import run
from tests.scripted import CLOSE, ScriptedUpstream, reply
from tollhouse.ports import Reading
from tollhouse.sources import hashicorp
from tollhouse.sources.files import File
from tollhouse.sources.hashicorp import HashiCorp, HashiCorpOptions, HashiCorpSecret
from tollhouse.terms.errors import SourceError

SECRET = "sk-ant-api03-one-0123456789"
PATH = "secret/llm/anthropic"
REST = f"{PATH}#api_key"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(hashicorp, "monotonic", made)
    return made


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture
def vault(server: ScriptedUpstream) -> FakeVault:
    made = FakeVault()
    made.write(PATH, {"api_key": SECRET, "number": 7, "nothing": ""})
    server.script = made.answer
    server.received.clear()
    return made


def source(
    server: ScriptedUpstream, rest: str = REST, token: Callable[[], str] = lambda: TOKEN, **options: object
) -> HashiCorpSecret:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made = HashiCorpOptions(**{"address": server.url, "timeout_s": 30.0, **options})  # type: ignore[arg-type]
    return HashiCorpSecret(rest, HashiCorp(made, token, tls))


def read(one: HashiCorpSecret) -> Reading:
    found: list[Reading] = []

    async def story() -> None:
        found.append(await one.read())

    run(story())
    return found[0]


def failure(one: HashiCorpSecret) -> str:
    with pytest.raises(SourceError) as failed:
        read(one)
    assert TOKEN not in str(failed.value)
    assert SECRET not in str(failed.value)
    return str(failed.value)


def test_a_secret_is_read(server: ScriptedUpstream, vault: FakeVault) -> None:
    vault.namespace = "team-a"
    one = source(server, namespace="team-a")
    reading = read(one)
    assert (reading.secret, reading.lifetime_s, reading.again_s) == (SECRET, 300, None)
    assert one.name == f"vault:{REST}"
    assert vault.asked == ["GET /v1/auth/token/lookup-self", "GET /v1/secret/data/llm/anthropic"]
    vault.write(PATH, {"api_key": "another"})
    assert read(one).secret == "another"
    assert len(vault.asked) == 3  # a token that never ends is looked at once


@pytest.mark.parametrize(
    ("stated", "lifetime_s"), [("30m", 1800), ("1h30m", 5400), ("90", 90), ("1d", 86_400), ("soon", 300), ("", 300)]
)
def test_its_metadata_may_say_how_long_it_is_good(
    server: ScriptedUpstream, vault: FakeVault, stated: str, lifetime_s: float
) -> None:
    vault.write(PATH, {"api_key": SECRET}, ttl=stated)
    assert read(source(server)).lifetime_s == lifetime_s


def test_a_lease_says_it_first(server: ScriptedUpstream, vault: FakeVault) -> None:
    vault.lease_duration = 77
    vault.write(PATH, {"api_key": SECRET}, ttl="1h")
    assert read(source(server)).lifetime_s == 77


def test_no_longer_than_until_it_is_deleted(server: ScriptedUpstream, vault: FakeVault) -> None:
    at = datetime.now(UTC) + timedelta(seconds=200)
    vault.secrets[PATH] = [Version({"api_key": SECRET}, deletion_time=f"{at:%Y-%m-%dT%H:%M:%S}.123456789Z")]
    lifetime_s = read(source(server)).lifetime_s
    assert lifetime_s is not None
    assert 100 < lifetime_s <= 201


def sealed(vault: FakeVault) -> None:
    vault.sealed = True


def no_policy(vault: FakeVault) -> None:
    vault.tokens.clear()


def nothing_there(vault: FakeVault) -> None:
    vault.secrets.clear()


def deleted(vault: FakeVault) -> None:
    vault.secrets[PATH].append(Version(None, deletion_time="2026-11-22T10:00:00Z"))


def instead(status: int, body: object, *headers: tuple[str, str]) -> Callable[[FakeVault], None]:
    def say(vault: FakeVault) -> None:
        vault.instead = reply(status, body if isinstance(body, bytes) else json.dumps(body).encode(), *headers)

    return say


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        (sealed, "is sealed or not ready (503)"),
        (no_policy, "does not let the token read secret/llm/anthropic (403)"),
        (nothing_there, "has nothing at secret/llm/anthropic (404): no such secret"),
        (deleted, "(404): the latest version is deleted"),
        (instead(500, {"errors": ["internal"]}), "answered 500"),
        (instead(307, b"", ("location", "http://elsewhere.example/")), "sends elsewhere (307), which is not followed"),
        (instead(200, b"<html>hello</html>"), "is no Vault"),
        (instead(200, []), "is no Vault"),
        (instead(200, {"data": {"api_key": SECRET}}), "not key-value version 2"),
        (instead(200, {"data": None}), "not key-value version 2"),
        (instead(200, b'{"data": "' + b"x" * 300_000 + b'"}'), "more than 262144 bytes"),
    ],
)
def test_what_cannot_be_had_is_said_plainly(
    server: ScriptedUpstream, vault: FakeVault, happens: Callable[[FakeVault], None], told: str
) -> None:
    happens(vault)
    assert told in failure(source(server))


@pytest.mark.parametrize("field", ["nothing", "number", "no_such"])
def test_a_field_without_a_text(server: ScriptedUpstream, vault: FakeVault, field: str) -> None:
    assert "no field of this name" in failure(source(server, f"{PATH}#{field}"))


def test_a_server_that_is_slow_or_away(server: ScriptedUpstream, vault: FakeVault) -> None:
    vault.hangs = True
    assert "did not answer within 0.2 s" in failure(source(server, timeout_s=0.2))
    server.script = lambda _: [CLOSE]
    assert "cannot be reached" in failure(source(server))


def test_no_other_path_can_be_reached(server: ScriptedUpstream, vault: FakeVault) -> None:
    failure(source(server, "secret/a b/ü#field"))
    assert vault.asked[-1] == "GET /v1/secret/data/a%20b/%C3%BC"


# --- the token


def test_a_token_is_renewed_when_half_of_its_time_is_over(
    server: ScriptedUpstream, vault: FakeVault, clock: Clock
) -> None:
    vault.tokens[TOKEN] = Token(ttl=30, renewable=True, period=100)
    one = source(server)
    assert read(one).again_s == 50  # the secret is good for longer than the token wants to be left alone
    assert vault.renewed == 1
    clock.now_s += 49
    read(one)
    assert vault.renewed == 1
    clock.now_s += 2
    read(one)
    assert vault.renewed == 2


def test_a_token_that_cannot_be_renewed_serves_as_long_as_it_does(
    server: ScriptedUpstream, vault: FakeVault, clock: Clock
) -> None:
    vault.tokens[TOKEN] = Token(ttl=1000, renewable=False)
    one = source(server)
    assert read(one).secret == SECRET
    assert vault.renewed == 0
    clock.now_s += 1001
    vault.tokens.clear()
    assert "or it has expired" in failure(one)


def test_a_token_that_may_not_look_at_itself_may_read(server: ScriptedUpstream, vault: FakeVault) -> None:
    vault.tokens[TOKEN] = Token(ttl=1000, may_look=False)
    assert read(source(server)).secret == SECRET


def test_an_agent_replaces_the_token(server: ScriptedUpstream, vault: FakeVault, tmp_path: Path) -> None:
    sink = tmp_path / "token"
    sink.write_text(TOKEN)
    one = source(server, token=File(str(sink)).now)
    assert read(one).secret == SECRET
    vault.tokens = {"hvs.the-next": Token()}
    assert "(403)" in failure(one)
    sink.write_text("hvs.the-next\n")
    assert read(one).secret == SECRET
    sink.unlink()
    assert "No such file" in failure(one)


def test_one_token_for_many_secrets(server: ScriptedUpstream, vault: FakeVault) -> None:
    vault.tokens[TOKEN] = Token(ttl=30, renewable=True, period=100)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    shared = HashiCorp(HashiCorpOptions(server.url), lambda: TOKEN, tls)

    async def story() -> None:
        readings = await asyncio.gather(*(HashiCorpSecret(REST, shared).read() for _ in range(5)))
        assert {one.secret for one in readings} == {SECRET}

    run(story())
    assert vault.renewed == 1


@pytest.mark.usefixtures("vault")
def test_no_proxy_is_told_the_token_of_a_vault_on_this_machine(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedUpstream() as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        assert read(source(server)).secret == SECRET
        assert proxy.received == []
