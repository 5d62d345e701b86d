"""Who is refused, by what status, in which words; and that nobody else is. Seen through the vendors' SDKs."""

import json
import threading
import time
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.journeys.calls import (
    CHAT_MODEL,
    MODEL,
    QUESTION,
    answer,
    body,
    chat_body,
    end_events,
    message,
    post,
    start_event,
    streamed,
    text_event,
)
from tests.journeys.conftest import Chat, Claude
from tests.scripted import Gate, ScriptedUpstream, reply
from tests.serving import Gateway, eventually
from tollhouse.rules.keys import mint
from tollhouse.terms.money import parse_usd

CHEAP = "0.000001/month"
SUBSCRIPTION_TOKENS = ["sk-ant-oat01-" + "x" * 80, "sk-ant-ort01-" + "y" * 80, "sk-ant-sid01-" + "z" * 80]


@pytest.fixture(autouse=True)
def answering(upstream: ScriptedUpstream) -> ScriptedUpstream:
    """The provider answers whatever reaches it; most here must not."""
    upstream.script = lambda received: [reply(200, chat_message()) if "chat" in received.target else answer()]
    return upstream


def chat_message() -> bytes:
    usage = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    return json.dumps(
        {"id": "c", "object": "chat.completion", "model": CHAT_MODEL, "choices": [choice], "usage": usage}
    ).encode()


def code_of(error: anthropic.APIStatusError | openai.APIStatusError) -> str:
    said: Any = error.response.json()
    code: str = said["error"]["code"]
    return code


def refused(error: anthropic.APIStatusError, code: str) -> str:
    """The message a person reads, of a refusal that is what it must be in every dialect."""
    said = error.response.json()
    assert said["error"]["code"] == code
    assert said["request_id"] == error.response.headers["request-id"]
    assert error.response.headers["x-tollhouse-request-id"] == said["request_id"]
    text: str = said["error"]["message"]
    return text


def ask(client: anthropic.Anthropic, **fields: Any) -> anthropic.types.Message:
    return client.messages.create(**body(**fields))


# Who is it


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("sk-th-" + "a" * 49, "Tollhouse key"),
        ("sk-th-short", "cut short"),
        ("sk-ant-api03-somebody", "Tollhouse key"),
        ("hello", "Tollhouse key"),
    ],
)
def test_no_key_of_ours(gateway: Gateway, upstream: ScriptedUpstream, claude: Claude, key: str, words: str) -> None:
    with pytest.raises(anthropic.AuthenticationError) as raised:
        ask(claude(gateway.url, key))  # with its retries: the header tells the SDK not to
    assert words in refused(raised.value, "invalid_key")
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert raised.value.response.json()["error"]["type"] == "authentication_error"
    assert upstream.received == []


def test_a_well_formed_key_that_nobody_made(gateway: Gateway, chat: Chat) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        chat(f"{gateway.url}/v1", mint(b"0" * 32)).chat.completions.create(**chat_body())
    assert code_of(raised.value) == "invalid_key"


def test_no_key_at_all(gateway: Gateway) -> None:
    got = httpx.post(f"{gateway.url}/v1/messages", json=body(), timeout=30, trust_env=False)
    assert (got.status_code, got.json()["error"]["code"]) == (401, "missing_key")
    assert got.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("token", SUBSCRIPTION_TOKENS)
def test_logins_of_subscriptions(gateway: Gateway, upstream: ScriptedUpstream, claude: Claude, token: str) -> None:
    with pytest.raises(anthropic.AuthenticationError) as raised:
        ask(claude(gateway.url, token))
    assert "ANTHROPIC_AUTH_TOKEN" in refused(raised.value, "subscription_token")
    assert upstream.received == []
    assert token not in gateway.log.read_text()


def test_revoked_holds_from_the_next_request_while_a_stream_goes_on(
    gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude
) -> None:
    made = gateway.new_key(user)
    gate = Gate()
    upstream.script = lambda received: streamed(start_event(), text_event("a"), gate, text_event("b"), end_events())
    client = claude(gateway.url, made["key"], max_retries=0)
    with client.messages.stream(model=MODEL, max_tokens=100, messages=QUESTION) as stream:
        texts = iter(stream.text_stream)
        assert next(texts) == "a"
        gateway.owner("DELETE", f"/keys/{made['key_id']}")
        with pytest.raises(anthropic.AuthenticationError) as raised:
            ask(client)
        refused(raised.value, "key_revoked")
        gate.open()
        assert list(texts) == ["b"]
    assert [(row["code"], row["kind"]) for row in gateway.entries(user)] == [("", "exact"), ("key_revoked", "")]


def test_rotated_with_grace(gateway: Gateway, user: str, claude: Claude) -> None:
    made = gateway.new_key(user)
    rotated = gateway.owner("POST", f"/keys/{made['key_id']}/rotate", {"grace": "1h"})
    old, new = claude(gateway.url, made["key"]), claude(gateway.url, rotated["key"])
    assert ask(old).content
    assert ask(new).content


def test_rotated_and_the_grace_is_over(gateway: Gateway, user: str, claude: Claude) -> None:
    made = gateway.new_key(user)
    rotated = gateway.owner("POST", f"/keys/{made['key_id']}/rotate", {"grace": "1s"})
    eventually(lambda: post(gateway, made["key"], body()).status_code == 401)
    with pytest.raises(anthropic.AuthenticationError) as raised:
        ask(claude(gateway.url, made["key"]))
    assert "rotated" in refused(raised.value, "key_expired")
    assert ask(claude(gateway.url, rotated["key"])).content


def test_expired(gateway: Gateway, user: str, claude: Claude) -> None:
    assert ask(claude(gateway.url, gateway.key(user, expires="1h"))).content
    key = gateway.key(user, expires="1s")
    eventually(lambda: post(gateway, key, body()).status_code == 401)
    with pytest.raises(anthropic.AuthenticationError) as raised:
        ask(claude(gateway.url, key))
    refused(raised.value, "key_expired")


def test_a_blocked_user(gateway: Gateway, user: str, claude: Claude) -> None:
    clients = [claude(gateway.url, gateway.key(user)) for _ in range(2)]
    gateway.owner("POST", f"/users/{user}/block")
    for client in clients:
        with pytest.raises(anthropic.AuthenticationError) as raised:
            ask(client)
        assert user in refused(raised.value, "user_blocked")
    gateway.owner("POST", f"/users/{user}/unblock")
    assert ask(clients[0]).content


# What may be asked


def test_models_of_a_key(gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude) -> None:
    client = claude(gateway.url, gateway.key(user, models=["claude-haiku-*", MODEL]))
    with pytest.raises(anthropic.BadRequestError) as raised:
        ask(client, model="claude-opus-4-6")
    text = refused(raised.value, "model_not_allowed")
    assert "claude-haiku-*" in text
    assert "claude-opus-4-6" in text
    assert upstream.received == []
    assert ask(client).content


def test_a_model_that_nobody_serves(gateway: Gateway, user: str, claude: Claude, chat: Chat) -> None:
    key = gateway.key(user)
    with pytest.raises(anthropic.BadRequestError) as raised:
        ask(claude(gateway.url, key), model="llama-9")
    text = refused(raised.value, "unknown_model")
    assert "llama-9" in text
    assert "claude-*" in text
    with pytest.raises(openai.BadRequestError) as raised_chat:
        chat(f"{gateway.url}/v1", key).chat.completions.create(**chat_body(model="llama-9"))
    assert code_of(raised_chat.value) == "unknown_model"


def test_the_wrong_dialect(gateway: Gateway, user: str, claude: Claude, chat: Chat) -> None:
    key = gateway.key(user)
    with pytest.raises(anthropic.BadRequestError) as raised:
        ask(claude(gateway.url, key), model=CHAT_MODEL)
    assert "/v1/chat/completions" in refused(raised.value, "wrong_dialect")
    with pytest.raises(openai.BadRequestError) as raised_chat:
        chat(f"{gateway.url}/v1", key).chat.completions.create(**chat_body(model=MODEL))
    assert "/v1/messages" in str(raised_chat.value)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_request"),
        (b'{"messages":[]}', "invalid_request"),
        (b'{"model":"claude-sonnet-4-6","mod\\u0065l":"claude-opus-4-6","max_tokens":1}', "duplicate_field"),
        (b'{"model":"claude-sonnet-4-6","max_tokens":"many"}', "invalid_request"),
    ],
)
def test_bodies_that_cannot_be_read(
    gateway: Gateway, upstream: ScriptedUpstream, user: str, sent: bytes, code: str
) -> None:
    got = post(gateway, gateway.key(user), sent)
    assert (got.status_code, got.json()["error"]["code"]) == (400, code)
    assert upstream.received == []


def test_an_unpriced_model_under_a_budget(
    gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude
) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        ask(claude(gateway.url, gateway.key(user, budget="5/month")), model="unpriced-1")
    assert 'prices."unpriced-1"' in refused(raised.value, "unpriced_model")
    assert upstream.received == []
    assert ask(claude(gateway.url, gateway.key(user)), model="unpriced-1").content  # no budget: nothing to break


def test_what_has_no_upper_cost(gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude) -> None:
    search = [{"type": "web_search_20250305", "name": "web_search"}]
    client = claude(gateway.url, gateway.key(user, budget="50/month"))
    with pytest.raises(anthropic.BadRequestError) as raised:
        ask(client, tools=search)
    assert "max_uses" in refused(raised.value, "unbounded_feature")
    assert upstream.received == []
    assert ask(client, tools=[{**search[0], "max_uses": 1}]).content


# How much, how often


def test_requests_per_minute(gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude) -> None:
    client = claude(gateway.url, gateway.key(user, limits={"requests_per_minute": 2}), max_retries=0)
    began = time.monotonic()
    first = client.messages.with_raw_response.create(**body())
    assert first.headers["anthropic-ratelimit-requests-limit"] == "2"
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "1"
    ask(client)
    with pytest.raises(anthropic.RateLimitError) as raised:
        ask(client)
    refused(raised.value, "rate_limited")
    headers = raised.value.response.headers
    least_s = 55 - (time.monotonic() - began)
    assert least_s <= int(headers["retry-after"]) <= 60
    assert least_s * 1000 <= int(headers["retry-after-ms"]) <= 60_001
    assert len(upstream.received) == 2
    assert [row["code"] for row in gateway.entries(user)] == ["", "", "rate_limited"]


def test_a_users_limit_holds_over_all_their_keys(gateway: Gateway, user: str, claude: Claude) -> None:
    gateway.owner("POST", "/users", {"user_id": user, "limits": {"requests_per_minute": 1}})
    one, two = (claude(gateway.url, gateway.key(user), max_retries=0) for _ in range(2))
    ask(one)
    with pytest.raises(anthropic.RateLimitError) as raised:
        ask(two)
    assert user in refused(raised.value, "rate_limited")


def test_parallel(gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude) -> None:
    client = claude(gateway.url, gateway.key(user, limits={"parallel_requests": 1}), max_retries=0)
    gate = Gate()
    upstream.script = lambda received: [gate, answer()]
    busy = threading.Thread(target=ask, args=(client,))
    busy.start()
    try:
        assert gate.reached.wait(30)
        with pytest.raises(anthropic.RateLimitError) as raised:
            ask(client)
        refused(raised.value, "rate_limited")
        assert "retry-after" in raised.value.response.headers
    finally:
        gate.open()
        busy.join(30)
    assert ask(client).content


def test_tokens_per_minute(gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude) -> None:
    upstream.script = lambda received: [reply(200, message(900, 100))]
    client = claude(gateway.url, gateway.key(user, limits={"tokens_per_minute": 1_100}), max_retries=0)
    ask(client, max_tokens=10)
    with pytest.raises(anthropic.RateLimitError) as raised:  # the real 1,000 count, not the estimate of some 50
        ask(client, max_tokens=100)
    refused(raised.value, "rate_limited")


def test_a_budget_that_is_spent(gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude) -> None:
    client = claude(gateway.url, gateway.key(user, budget=CHEAP))
    with pytest.raises(anthropic.APIStatusError) as raised:
        ask(client)
    error = raised.value.response.json()["error"]
    assert (raised.value.status_code, error["type"]) == (402, "billing_error")
    text = refused(raised.value, "budget_exhausted")
    assert "$0.000001" in text
    details = error["details"]
    assert (details["unit"], details["limit"], details["spent"], details["held"]) == ("usd", "0.000001", "0", "0")
    assert details["affordable_max_tokens"] == 0
    assert details["resets_at"] > time.time()
    assert error["scope"].startswith("key ")
    assert upstream.received == []
    assert len(gateway.entries(user)) == 1  # the SDK did not try again


def test_a_spent_budget_in_the_chat_dialect(gateway: Gateway, user: str, chat: Chat) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        chat(f"{gateway.url}/v1", gateway.key(user, budget=CHEAP)).chat.completions.create(**chat_body())
    assert raised.value.status_code == 402
    assert code_of(raised.value) == "budget_exhausted"
    assert raised.value.response.json()["error"]["type"] == "insufficient_quota"


def test_clamped_to_what_is_left(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    sent = json.dumps(body(max_tokens=20_000, temperature=0.5)).encode()
    got = post(gateway, gateway.key(user, budget="0.2/month"), sent)
    assert got.status_code == 200
    cap, word = got.headers["x-tollhouse-max-tokens"].split("; ")
    assert word == "clamped"
    assert 4_096 <= int(cap) < 20_000
    assert upstream.last.body == sent.replace(b"20000", cap.encode())
    assert parse_usd(got.headers["x-tollhouse-held-usd"]) <= parse_usd("0.2")
    assert parse_usd("0.2") - parse_usd(got.headers["x-tollhouse-held-usd"]) < 100_000  # all that is left, less a token
    assert gateway.entries(user)[0]["max_output_tokens"] == int(cap)


def test_a_budget_that_would_rather_refuse(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    gateway.owner("POST", "/users", {"user_id": user})
    gateway.owner("POST", "/budgets", {"scope": "user", "scope_id": user, "amount": "0.2/month", "edge": "refuse"})
    got = post(gateway, gateway.key(user), body(max_tokens=20_000))
    assert got.status_code == 402
    affordable = got.json()["error"]["details"]["affordable_max_tokens"]
    assert 4_096 <= affordable < 20_000
    assert upstream.received == []
    assert post(gateway, gateway.key(user), body(max_tokens=affordable)).status_code == 200


def test_a_cap_is_added_where_there_is_none(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    sent = json.dumps(chat_body()).encode()
    got = post(gateway, gateway.key(user, budget="5/month"), sent, "/v1/chat/completions")
    cap, word = got.headers["x-tollhouse-max-tokens"].split("; ")
    assert word == "injected"
    assert upstream.last.body == b'{"max_completion_tokens":%b,' % cap.encode() + sent[1:]
    post(gateway, gateway.key(user), sent, "/v1/chat/completions")
    assert upstream.last.body == sent  # without a budget nothing is added


# Two at once


def test_credentials_in_both_headers(gateway: Gateway, user: str) -> None:
    key = gateway.key(user)
    assert post(gateway, key, body(), authorization=f"Bearer {key}").status_code == 200
    assert post(gateway, "not-ours", body(), authorization=f"Bearer {key}").status_code == 200
    assert post(gateway, key, body(), authorization=f"Bearer {SUBSCRIPTION_TOKENS[0]}").status_code == 200


def test_paths_and_methods(gateway: Gateway, user: str) -> None:
    key = gateway.key(user)
    got = httpx.get(f"{gateway.url}/v1/messages", headers={"x-api-key": key}, timeout=30, trust_env=False)
    assert (got.status_code, got.json()["error"]["code"]) == (405, "method_not_allowed")
    got = httpx.post(f"{gateway.url}/v1/nothing", headers={"x-api-key": key}, timeout=30, trust_env=False)
    assert got.status_code == 404
