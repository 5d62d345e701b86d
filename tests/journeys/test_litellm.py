"""LiteLLM's key routes on a running gateway: typed with curl as in its documentation, used with the official client."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.journeys.calls import MODEL, QUESTION, TEXT_STREAM, answer, cost_nusd, streamed
from tests.journeys.conftest import Claude
from tests.scripted import ScriptedUpstream
from tests.serving import Gateway

MASTER_KEY = "sk-master-of-this-house-0123456789"
SONNET = "claude-sonnet-4-5"


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory, provider: ScriptedUpstream) -> Iterator[Gateway]:
    """A gateway with the master key where LiteLLM's users have it."""
    mock = {"name": "mock", "kind": "anthropic", "base_url": provider.url, "api_key": "env:MOCK_KEY"}
    settings = {"local": {"enabled": False}, "providers": [{**mock, "models": ["claude-*"]}]}
    directory = tmp_path_factory.mktemp("litellm")
    gateway = Gateway(directory, settings, MOCK_KEY="the-operators-own", LITELLM_MASTER_KEY=MASTER_KEY)
    try:
        yield gateway.start()
    finally:
        gateway.close()


def curl(*words: str) -> Any:
    """The decoded answer and the status."""
    typed = ("curl", "--silent", "--noproxy", "*", "--max-time", "15", "--write-out", "\n%{http_code}", *words)
    done = subprocess.run(typed, capture_output=True, text=True, timeout=30, check=True)
    text, _, status = done.stdout.rpartition("\n")
    return json.loads(text), int(status)


def typed(gateway: Gateway, path: str, body: dict[str, Any] | str) -> Any:
    """`curl -X POST … -d …` as its users type it: no Content-Type is given, so curl says that it is a form."""
    text = body if isinstance(body, str) else json.dumps(body)
    told, status = curl("-X", "POST", f"{gateway.url}{path}", "-H", f"Authorization: Bearer {MASTER_KEY}", "-d", text)
    assert status == 200, told
    return told


def info(gateway: Gateway, key: str) -> Any:
    told, status = curl(f"{gateway.url}/key/info?key={key}", "-H", f"Authorization: Bearer {MASTER_KEY}")
    assert status == 200, told
    return told["info"]


def ask(client: anthropic.Anthropic, model: str = MODEL) -> Any:
    return client.with_options(max_retries=0).messages.create(model=model, max_tokens=100, messages=QUESTION)


@pytest.mark.filterwarnings("ignore:The model 'claude-sonnet-4-5' is deprecated:DeprecationWarning")
def test_the_one_call_makes_a_user_and_a_key_that_streams(
    litellm: Gateway, upstream: ScriptedUpstream, claude: Claude
) -> None:
    upstream.script = lambda received: streamed(TEXT_STREAM)
    body = '{"user_id":"user_123","max_budget":100,"models":["claude-sonnet-4-5"]}'
    made = typed(litellm, "/key/generate", body)
    client = claude(litellm.url, made["key"])
    with client.messages.stream(model=SONNET, max_tokens=100, messages=QUESTION) as stream:
        text = "".join(stream.text_stream)
        assert text
        assert stream.get_final_message().stop_reason == "end_turn"
    [entry] = litellm.entries("user_123")
    assert (entry["key_id"], entry["requested_model"], entry["streamed"]) == (made["token"], SONNET, True)
    told = info(litellm, made["key"])
    assert (told["user_id"], told["max_budget"], told["models"]) == ("user_123", 100, [SONNET])
    assert told["spend"] == pytest.approx(float(entry["amount_usd"]), abs=1e-12)
    assert told["spend"] > 0
    with pytest.raises(anthropic.BadRequestError):
        ask(client, "claude-opus-4-6")


def test_an_update_holds_on_the_next_request(
    litellm: Gateway, upstream: ScriptedUpstream, claude: Claude, user: str
) -> None:
    upstream.script = lambda received: [answer(1_000, 20)]
    made = typed(litellm, "/key/generate", {"user_id": user, "models": [], "max_budget": 1, "key_alias": user})
    client = claude(litellm.url, made["key"])
    ask(client)
    assert info(litellm, made["token"])["spend"] == pytest.approx(cost_nusd(1_000, 20) / 1e9)
    typed(litellm, "/key/update", {"key": made["key"], "models": ["claude-haiku-*"]})
    with pytest.raises(anthropic.BadRequestError):
        ask(client)
    typed(litellm, "/key/update", {"key": made["key"], "models": [], "max_budget": 0.003})
    with pytest.raises(anthropic.APIStatusError) as refused:
        ask(client)
    assert refused.value.status_code == 402
    typed(litellm, "/key/update", {"key": made["token"], "max_budget": None, "rpm_limit": 3})
    ask(client)
    typed(litellm, "/key/update", {"key_alias": user, "rpm_limit": 1})
    with pytest.raises(anthropic.RateLimitError):
        ask(client)


@pytest.mark.parametrize("by", ["secret", "id", "alias"])
def test_a_deleted_key_is_refused_at_once(
    litellm: Gateway, upstream: ScriptedUpstream, claude: Claude, user: str, by: str
) -> None:
    upstream.script = lambda received: [answer()]
    made = typed(litellm, "/key/generate", {"user_id": user, "key_alias": user})
    client = claude(litellm.url, made["key"])
    ask(client)
    named = {"secret": {"keys": [made["key"]]}, "id": {"keys": [made["token"]]}, "alias": {"key_aliases": [user]}}[by]
    assert typed(litellm, "/key/delete", named) == {"deleted_keys": next(iter(named.values()))}
    with pytest.raises(anthropic.AuthenticationError):
        ask(client)
    sent = len(upstream.received)
    told, status = curl(f"{litellm.url}/key/info?key={made['key']}", "-H", f"Authorization: Bearer {MASTER_KEY}")
    assert (status, told["error"]["code"]) == (404, "404")
    assert len(upstream.received) == sent


def test_only_the_bearer_comes_in(litellm: Gateway, tmp_path: Path) -> None:
    url, body = f"{litellm.url}/key/generate", ("-d", "{}")
    by_socket = ("--unix-socket", str(litellm.home / "admin.sock"))
    for way in (
        (url, *body),
        (*by_socket, "http://tollhouse/key/generate", *body),
        (url, "-H", f"x-api-key: {MASTER_KEY}", *body),
        (url, "-H", f"Cookie: session={MASTER_KEY}", *body),
        (url, "-H", "Authorization: Bearer sk-1234", *body),
    ):
        told, status = curl(*way)
        assert status == 401
        assert told["error"]["type"] == "auth_error"
        assert told["error"]["code"] == "401"
    _, status = curl(*by_socket, "http://tollhouse/key/generate", "-H", f"Authorization: Bearer {MASTER_KEY}", *body)
    assert status == 200
