"""What travels through untouched, what is taken out, and what an upstream's error becomes: nothing else."""

import gzip
import json
import time

import httpx
import pytest

from tests.dialects.recorded import recording
from tests.journeys.calls import MODEL, QUESTION, answer, body, chat_body, event, in_pieces, message, post, streamed
from tests.journeys.conftest import OPENAI_KEY, PROVIDER_KEY, Chat, Claude
from tests.scripted import ScriptedUpstream, reply
from tests.serving import Gateway
from tollhouse.terms.money import parse_usd

TOOLS = [
    {
        "name": "get_weather",
        "description": "Weather of a place",
        "input_schema": {"type": "object", "properties": {"location": {"type": "string"}}},
    }
]


# Tool use


@pytest.mark.parametrize("size", [7, 100_000])
def test_tool_use_in_a_stream(
    gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude, size: int
) -> None:
    told = recording("anthropic_tools.sse")
    upstream.script = lambda received: streamed(*in_pieces(told, size))
    key = gateway.key(user)
    with claude(gateway.url, key).messages.stream(
        model="claude-opus-4-6", max_tokens=200, messages=QUESTION, tools=TOOLS
    ) as stream:
        final = stream.get_final_message()
    thinking, text, tool = final.content
    assert (thinking.signature, text.text) == ("EqQBCgIYAhIkNmY3ZGRhYzY0", "Let me look.")
    assert (tool.name, tool.input) == ("get_weather", {"location": "San Francisco"})
    (row,) = gateway.entries(user)
    assert (row["kind"], row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == ("exact", 412, 89)
    raw = post(gateway, key, body(model="claude-opus-4-6", stream=True, tools=TOOLS))
    assert raw.content == told


def test_openai_tool_calls_in_a_stream(gateway: Gateway, upstream: ScriptedUpstream, user: str, chat: Chat) -> None:
    told = recording("openai_tools.sse")
    upstream.script = lambda received: streamed(*in_pieces(told, 50))
    key = gateway.key(user)
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    client = chat(f"{gateway.url}/v1", key)
    with client.chat.completions.create(**chat_body(tools=tools), stream=True) as chunks:
        calls = [choice.delta.tool_calls for piece in chunks for choice in piece.choices if choice.delta.tool_calls]
    arguments = "".join(call.function.arguments for (call,) in calls)
    assert calls[0][0].function.name == "get_weather"
    assert json.loads(arguments) == {"location": "Paris"}
    assert upstream.last.json["stream_options"] == {"include_usage": True}
    (row,) = gateway.entries(user)
    assert (row["kind"], row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == ("exact", 80, 17)

    asked = chat_body(stream=True, stream_options={"include_usage": True})
    raw = post(gateway, key, asked, "/v1/chat/completions")
    assert raw.content == told
    unasked = post(gateway, key, chat_body(stream=True), "/v1/chat/completions")
    without = [event for event in told.split(b"\n\n") if b'"choices":[],"usage"' not in event]
    assert unasked.content == b"\n\n".join(without)


# Bytes


STRANGE_BODY = (
    b'{ "messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9","x":1}],\n"model" : "claude-sonnet-4-6",'
    b'"max_tokens":100,"thing_of_tomorrow":{"b":[1.0,1e3,-0],"a":null}, "temperature":0 }'
)


def test_a_body_goes_up_as_it_came(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    strange = b'{"type":"message", "usage":{"input_tokens":1,"output_tokens":2},"new":[ 1 ]}\n'
    upstream.script = lambda received: [reply(200, strange)]
    got = post(gateway, gateway.key(user, budget="5/month"), STRANGE_BODY)
    assert upstream.last.body == STRANGE_BODY
    assert got.content == strange


def test_unknown_events_and_comments_pass(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    told = recording("anthropic_text.sse")
    first, _, rest = told.partition(b"\n\n")
    told = first + b"\n\n" + event("thing_of_tomorrow", deep={"x": [1]}) + b": comment\n\n" + rest
    upstream.script = lambda received: streamed(*in_pieces(told, 33))
    assert post(gateway, gateway.key(user), body(stream=True)).content == told
    assert gateway.entries(user)[0]["kind"] == "exact"


def test_headers_go_up_as_they_came(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    upstream.script = lambda received: [answer()]
    key = gateway.key(user)
    sent = {
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "thing-2026-01-01,other-2025-02-03",
        "anthropic-thing-of-tomorrow": "yes",
        "x-new-header": 'a, b;c="d"',
        "user-agent": "claude-cli/2.1.0 (external, cli)",
        "x-claude-code-session-id": "session-1",
        "accept": "application/json",
        "x-stainless-lang": "python",
    }
    taken_out = {
        "cookie": "session=secret",
        "accept-encoding": "gzip, br",
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-proto": "https",
        "x-real-ip": "10.0.0.1",
        "forwarded": "for=10.0.0.1",
        "via": "1.1 proxy",
        "openai-organization": "org-1",
        "openai-project": "proj-1",
        "x-openwebui-user-email": "a@b.example",
        "x-tollhouse-thing": "1",
        "te": "trailers",
        "connection": "keep-alive, x-hop",
        "x-hop": "1",
        "proxy-authorization": "Basic eA==",
        "authorization": f"Bearer {key}",
    }
    lines = {**sent, **taken_out, "x-api-key": key, "content-type": "application/json"}
    target = f"{gateway.url}/v1/messages?beta=true&x=%20y"
    assert httpx.post(target, json=body(), headers=lines, timeout=30, trust_env=False).status_code == 200
    got = upstream.last
    assert got.target == "/v1/messages?beta=true&x=%20y"
    for name, value in sent.items():
        assert got.header(name) == value
    assert got.header("x-api-key") == PROVIDER_KEY
    assert got.header("accept-encoding") == "identity"
    for name in taken_out.keys() - {"accept-encoding"}:
        assert got.header(name) is None, name
    assert key.encode() not in got.head
    assert got.header("host") == f"127.0.0.1:{upstream.port}"
    (row,) = gateway.entries(user)
    assert (row["client"], row["session"]) == ("claude-cli", "session-1")


def test_openai_gets_the_operators_key(gateway: Gateway, upstream: ScriptedUpstream, user: str, chat: Chat) -> None:
    upstream.script = lambda received: [reply(200, recording("openai_audio.json"))]
    client = chat(f"{gateway.url}/v1", gateway.key(user), organization="org-of-the-client", project="proj")
    client.chat.completions.create(**chat_body())
    assert upstream.last.target == "/v1/chat/completions"
    assert upstream.last.header("authorization") == f"Bearer {OPENAI_KEY}"
    assert upstream.last.header("openai-organization") is None
    assert upstream.last.header("openai-project") is None
    assert str(upstream.last.header("user-agent")).startswith("OpenAI/Python")


def test_headers_of_an_answer(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    sent = (
        ("request-id", "req_of_the_provider"),
        ("x-new-header", "yes"),
        ("anthropic-ratelimit-requests-remaining", "3"),
        ("x-ratelimit-remaining-tokens", "4"),
        ("anthropic-organization-id", "org-of-the-operator"),
        ("set-cookie", "a=b"),
        ("access-control-allow-origin", "*"),
        ("x-tollhouse-cost-usd", "0"),
        ("connection", "keep-alive"),
    )
    upstream.script = lambda received: [reply(200, message(), *sent)]
    key, began = gateway.key(user), time.monotonic()
    got = post(gateway, key, body())
    took_ms = (time.monotonic() - began) * 1e3
    assert got.headers["request-id"] == "req_of_the_provider"
    assert got.headers["x-new-header"] == "yes"
    assert got.headers["x-tollhouse-cost-usd"] == "0.000330000"
    assert 0 < float(got.headers["x-tollhouse-overhead-ms"]) < took_ms  # never nothing: the clock is finer than that
    gone = {"anthropic-ratelimit-requests-remaining", "x-ratelimit-remaining-tokens", "anthropic-organization-id"}
    assert not (gone | {"set-cookie", "access-control-allow-origin"}) & set(got.headers)
    assert gateway.entries(user)[0]["upstream_request_id"] == "req_of_the_provider"


def test_a_compressed_request_is_refused(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    packed = gzip.compress(json.dumps(body()).encode())
    got = post(gateway, gateway.key(user), packed, content_encoding="gzip")
    assert (got.status_code, got.json()["error"]["code"]) == (415, "unsupported_encoding")
    assert upstream.received == []


def test_count_tokens(gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude) -> None:
    client = claude(gateway.url, gateway.key(user, budget="0.000000001/month"))  # counting is free
    upstream.script = lambda received: [reply(200, b'{"input_tokens": 4711}')]
    assert client.messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens == 4711
    assert upstream.last.target == "/v1/messages/count_tokens"
    upstream.script = lambda received: [reply(404, b"no such thing")]
    got = client.messages.with_raw_response.count_tokens(model=MODEL, messages=QUESTION)
    assert got.parse().input_tokens > 0
    assert got.headers["x-tollhouse-estimated"] == "true"
    assert [row["amount_usd"] for row in gateway.entries(user)] == ["0", "0"]


def test_models_in_both_shapes(gateway: Gateway, user: str, claude: Claude, chat: Chat) -> None:
    key = gateway.key(user, models=["claude-sonnet-4-6", "gpt-*"])
    assert [model.id for model in claude(gateway.url, key).models.list()] == ["claude-sonnet-4-6", "gpt-4o"]
    assert [model.id for model in chat(f"{gateway.url}/v1", key).models.list()] == ["claude-sonnet-4-6", "gpt-4o"]


# Errors of the upstream


def error_body(kind: str) -> bytes:
    return b'{"type":"error", "error":{"type":"%b","message":"prompt is too long: 1 > 0"}}' % kind.encode()


@pytest.mark.parametrize(
    ("status", "kind", "settled"),
    [
        (400, "invalid_request_error", "voided"),
        (401, "authentication_error", "voided"),
        (403, "permission_error", "voided"),
        (404, "not_found_error", "voided"),
        (413, "request_too_large", "voided"),
        (429, "rate_limit_error", "voided"),
        (500, "api_error", "upper"),
        (529, "overloaded_error", "upper"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_pass_unmodified(
    gateway: Gateway, upstream: ScriptedUpstream, user: str, status: int, kind: str, settled: str, stream: bool
) -> None:
    headers = (("retry-after", "7"), ("request-id", "req_theirs"), ("x-should-retry", "true"))
    upstream.script = lambda received: [reply(status, error_body(kind), *headers)]
    key = gateway.key(user, budget="5/month")
    got = post(gateway, key, body(stream=stream))
    assert (got.status_code, got.content) == (status, error_body(kind))
    assert {name: got.headers[name] for name, _ in headers} == dict(headers)
    assert len(upstream.received) == 1
    (row,) = gateway.entries(user)
    assert (row["kind"], row["status"], row["code"]) == (settled, status, f"upstream_{status}")
    assert parse_usd(row["amount_usd"]) == (parse_usd(row["hold_usd"]) if settled == "upper" else 0)
    (budget,) = gateway.me(key)["budgets"]
    assert (budget["posted"], budget["held"]) == (row["amount_usd"], "0")


@pytest.mark.parametrize(("status", "error"), [(429, "RateLimitError"), (500, "InternalServerError")])
def test_an_error_as_the_sdk_shows_it(
    gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude, status: int, error: str
) -> None:
    upstream.script = lambda received: [reply(status, error_body("some_error"))]
    with pytest.raises(Exception, match="prompt is too long") as raised:
        claude(gateway.url, gateway.key(user), max_retries=0).messages.create(**body())
    assert type(raised.value).__name__ == error


def test_an_error_event_in_a_stream(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    told = recording("anthropic_error.sse")
    upstream.script = lambda received: streamed(told)
    got = post(gateway, gateway.key(user), body(stream=True))
    assert (got.status_code, got.content) == (200, told)
    (row,) = gateway.entries(user)
    assert (row["kind"], row["status"]) == ("upper", 200)
    assert row["code"]
