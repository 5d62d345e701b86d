"""OpenAI's Responses and embeddings through the gateway: the SDK's own calls, byte for byte, and what they cost."""

import base64
import json
import socket
import struct
from typing import Any

import httpx
import openai
import pytest

from tests.dialects.recorded import names, recording
from tests.journeys.calls import CHAT_MODEL, in_pieces, post, streamed
from tests.journeys.conftest import LOCAL_MODEL, OPENAI_KEY, Chat
from tests.scripted import CLOSE, ScriptedUpstream, chunk, reply, stream_head
from tests.serving import Gateway, eventually
from tollhouse.terms.money import parse_usd

PATH = "/v1/responses"
INPUT_NUSD, CACHED_NUSD, OUTPUT_NUSD, SEARCH_NUSD = 2_500, 1_250, 10_000, 10_000_000
"""What gpt-4o costs."""
EMBEDDING_MODEL, EMBEDDING_NUSD = "text-embedding-3-small", 20
TEXT_STREAM = recording("responses_text.sse")
TEXT_NUSD = 176 * INPUT_NUSD + 1024 * CACHED_NUSD + 9 * OUTPUT_NUSD
ANSWER = recording("responses_answer.json").replace(b'"flex"', b'"default"')
SERVER_TOOLS = ["file_search", "code_interpreter", "mcp", "image_generation", "computer_use_preview"]


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": CHAT_MODEL, "input": "Hello"} | fields


@pytest.fixture(autouse=True)
def answering(upstream: ScriptedUpstream) -> ScriptedUpstream:
    """The provider answers whatever reaches it."""

    def script(received: Any) -> list[Any]:
        if "embeddings" in received.target:
            return [reply(200, recording("openai_embeddings.json"))]
        return streamed(TEXT_STREAM) if received.json.get("stream") else [reply(200, ANSWER)]

    upstream.script = script
    return upstream


# Answers


def test_a_whole_response(gateway: Gateway, upstream: ScriptedUpstream, user: str, chat: Chat) -> None:
    client = chat(f"{gateway.url}/v1", gateway.key(user, budget="5/month"))
    got = client.responses.with_raw_response.create(**ask(max_output_tokens=50))
    assert got.parse().output_text == "Hello."
    cost = 176 * INPUT_NUSD + 1024 * CACHED_NUSD + 9 * OUTPUT_NUSD + SEARCH_NUSD
    assert parse_usd(got.headers["x-tollhouse-cost-usd"]) == cost
    assert (upstream.last.target, upstream.last.header("authorization")) == (PATH, f"Bearer {OPENAI_KEY}")
    (row,) = gateway.entries(user)
    assert (row["endpoint"], row["kind"], row["status"], row["code"]) == ("responses", "exact", 200, "")
    assert parse_usd(row["amount_usd"]) == cost


@pytest.mark.parametrize("size", [1, 97, 100_000])
def test_a_streamed_response(gateway: Gateway, upstream: ScriptedUpstream, user: str, chat: Chat, size: int) -> None:
    upstream.script = lambda received: streamed(*in_pieces(TEXT_STREAM, size))
    key = gateway.key(user, budget="5/month")
    with chat(f"{gateway.url}/v1", key).responses.stream(**ask()) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == 'Hello 世界 "usage": {\\n\n'
    assert final.usage is not None
    assert final.usage.input_tokens == 1200
    (row,) = gateway.entries(user)
    assert (row["kind"], row["streamed"], row["served_model"]) == ("exact", True, "gpt-4o-2024-08-06")
    assert parse_usd(row["amount_usd"]) == TEXT_NUSD


@pytest.mark.parametrize("name", names("responses"))
def test_streams_pass_byte_for_byte(gateway: Gateway, upstream: ScriptedUpstream, user: str, name: str) -> None:
    told = recording(name).replace(b"\n", b"\r\n")
    upstream.script = lambda received: streamed(*in_pieces(told, 61))
    key = gateway.key(user, budget="5/month")
    assert post(gateway, key, ask(stream=True), PATH).content == told
    (row,) = gateway.entries(user)
    unfinished = {"responses_failed.sse": "server_error", "responses_error.sse": "rate_limit_exceeded"}
    assert (row["kind"], row["code"]) == (("upper", unfinished[name]) if name in unfinished else ("exact", ""))
    (budget,) = gateway.me(key)["budgets"]
    assert (budget["posted"], budget["held"]) == (row["amount_usd"], "0")


def test_a_body_goes_up_as_it_came(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    sent = (
        b'{ "input":[{"role":"user","content":"caf\\u00e9 \xc3\xa9","x":1}],\n"model" : "gpt-4o",'
        b'"max_output_tokens":100,"thing_of_tomorrow":{"b":[1.0,1e3,-0],"a":null}, "temperature":0 }'
    )
    key = gateway.key(user, budget="5/month")
    assert post(gateway, key, sent, PATH).content == ANSWER
    assert upstream.last.body == sent
    named = sent.replace(b'"gpt-4o"', b'"mockchat/gpt-4o"').replace(b'"max_output_tokens":100,', b"")
    assert post(gateway, key, named, PATH).headers["x-tollhouse-max-tokens"] == "16384; injected"
    assert upstream.last.body == b'{"max_output_tokens":16384,' + sent.replace(b'"max_output_tokens":100,', b"")[1:]


@pytest.mark.parametrize("path", ["/responses", "/v1/v1/responses", "/openai/responses", "/openai/v1/responses"])
def test_aliases(gateway: Gateway, upstream: ScriptedUpstream, user: str, path: str) -> None:
    assert post(gateway, gateway.key(user), ask(), path).status_code == 200
    assert upstream.last.target == PATH


def test_a_stream_that_breaks_off(gateway: Gateway, upstream: ScriptedUpstream, user: str, chat: Chat) -> None:
    part = b"".join(event + b"\n\n" for event in TEXT_STREAM.split(b"\n\n")[:6])
    upstream.script = lambda received: [stream_head(), chunk(part), CLOSE]
    client = chat(f"{gateway.url}/v1", gateway.key(user))
    seen: list[str] = []
    with pytest.raises(openai.APIError) as raised:
        seen.extend(event.type for event in client.responses.create(**ask(), stream=True))
    assert seen[-1] == "response.output_text.delta"
    assert isinstance(raised.value.body, dict)
    assert (raised.value.body["type"], raised.value.body["code"]) == ("server_error", "upstream_closed")
    (row,) = gateway.entries(user)
    assert (row["kind"], row["code"]) == ("upper", "upstream_closed")


@pytest.mark.parametrize(("model", "kind"), [("gpt-4o", "estimated"), ("gpt-5.2", "upper")])
def test_a_client_that_leaves(gateway: Gateway, upstream: ScriptedUpstream, user: str, model: str, kind: str) -> None:
    """What was shown is all there is with a model that does not reason; of another one the rest is not known."""
    part = b"".join(event + b"\n\n" for event in TEXT_STREAM.split(b"\n\n")[:6]).replace(b"gpt-4o", model.encode())
    upstream.script = lambda received: [stream_head(), chunk(part), 30.0]
    sent = json.dumps(ask(model=model, stream=True, max_output_tokens=5_000))
    headers = {"authorization": f"Bearer {gateway.key(user)}"}
    with httpx.stream("POST", gateway.url + PATH, content=sent, headers=headers, timeout=30, trust_env=False) as got:
        next(got.iter_raw())
    (row,) = eventually(lambda: gateway.entries(user))
    assert (row["kind"], row["code"]) == (kind, "client_gone")
    assert upstream.last.gone.wait(30)
    assert (parse_usd(row["amount_usd"]) < parse_usd(row["hold_usd"])) == (kind == "estimated")


# Refusals


@pytest.mark.parametrize("stream", [False, True])
def test_an_exhausted_budget_is_429_and_not_repeated(
    gateway: Gateway, upstream: ScriptedUpstream, user: str, chat: Chat, stream: bool
) -> None:
    client = chat(f"{gateway.url}/v1", gateway.key(user, budget="0.000001/month"))
    with pytest.raises(openai.RateLimitError) as raised:
        client.responses.create(**ask(), stream=stream)
    error, headers = raised.value, raised.value.response.headers
    assert (error.status_code, error.type, error.code) == (429, "insufficient_quota", "budget_exhausted")
    assert headers["x-should-retry"] == "false"
    assert isinstance(error.body, dict)
    assert error.body["scope"].startswith("key ")
    assert error.body["request_id"] == headers["x-tollhouse-request-id"]
    assert upstream.received == []
    (row,) = gateway.entries(user)
    assert (row["status"], row["code"], row["kind"]) == (429, "budget_exhausted", "")
    chatting = post(gateway, gateway.key(user, budget="0.000001/month"), {"model": CHAT_MODEL}, "/v1/chat/completions")
    assert chatting.status_code == 402


@pytest.mark.parametrize("kind", SERVER_TOOLS)
def test_tools_without_a_known_price(gateway: Gateway, upstream: ScriptedUpstream, user: str, kind: str) -> None:
    fields = ask(tools=[{"type": kind}], max_tool_calls=1)
    got = post(gateway, gateway.key(user, budget="50/month"), fields, PATH)
    error = got.json()["error"]
    assert (got.status_code, error["code"], error["details"]["feature"]) == (400, "unbounded_feature", kind)
    assert upstream.received == []
    assert post(gateway, gateway.key(user), fields, PATH).status_code == 200  # no budget: nothing to break


def test_web_searches_are_bounded_by_max_tool_calls(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    key = gateway.key(user, budget="50/month")
    refused = post(gateway, key, ask(tools=[{"type": "web_search"}]), PATH)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unbounded_feature")
    assert "max_tool_calls" in refused.json()["error"]["message"]
    assert upstream.received == []
    plain = post(gateway, key, ask(max_output_tokens=50), PATH)
    searching = post(gateway, key, ask(max_output_tokens=50, tools=[{"type": "web_search"}], max_tool_calls=2), PATH)
    more = parse_usd(searching.headers["x-tollhouse-held-usd"]) - parse_usd(plain.headers["x-tollhouse-held-usd"])
    assert more >= 2 * (SEARCH_NUSD + 128_000 * INPUT_NUSD)


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/a.png"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
    ],
)
def test_what_lives_at_the_provider_holds_the_window(gateway: Gateway, user: str, fields: dict[str, Any]) -> None:
    got = post(gateway, gateway.key(user, budget="50/month"), ask(max_output_tokens=50, **fields), PATH)
    assert parse_usd(got.headers["x-tollhouse-held-usd"]) >= 128_000 * INPUT_NUSD + 50 * OUTPUT_NUSD


def test_background_runs(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    got = post(gateway, gateway.key(user, budget="50/month"), ask(background=True), PATH)
    assert (got.status_code, got.json()["error"]["details"]["feature"]) == (400, "background")
    assert upstream.received == []


def test_a_model_of_another_provider(gateway: Gateway, user: str) -> None:
    got = post(gateway, gateway.key(user), ask(model="claude-sonnet-4-6"), PATH)
    assert (got.status_code, got.json()["error"]["code"]) == (400, "wrong_dialect")
    assert got.json()["error"]["details"]["endpoints"] == ["/v1/messages"]


@pytest.mark.parametrize("early", [b"", b"\x81\x85\x00\x00\x00\x00hello"])
def test_a_websocket_is_refused_and_http_goes_on(gateway: Gateway, user: str, early: bytes) -> None:
    """Codex tries one first and falls back at 426. The answer has its length, then the connection ends."""
    host = gateway.url.removeprefix("http://")
    nonce = base64.b64encode(struct.pack("QQ", 1, 2)).decode()
    head = (
        f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {gateway.key(user)}\r\n\r\n"
    )
    name, port = host.split(":")
    with socket.create_connection((name, int(port)), timeout=30) as client:
        client.sendall(head.encode() + early)
        answer = b""
        while data := client.recv(65_536):
            answer += data
    lines, _, content = answer.partition(b"\r\n\r\n")
    headers = [line.lower() for line in lines.split(b"\r\n")]
    assert headers[0].startswith(b"http/1.1 426 ")
    assert b"connection: close" in headers
    assert b"upgrade: http/1.1" in headers
    assert b"content-length: %d" % len(content) in headers
    assert json.loads(content)["error"]["code"] == "upgrade_required"
    assert httpx.get(gateway.url + PATH, timeout=30, trust_env=False).status_code == 405
    assert post(gateway, gateway.key(user), ask(), PATH).status_code == 200


# Embeddings


def test_embeddings(gateway: Gateway, upstream: ScriptedUpstream, user: str, chat: Chat) -> None:
    client = chat(f"{gateway.url}/v1", gateway.key(user, budget="0.01/month"))
    got = client.embeddings.with_raw_response.create(model=EMBEDDING_MODEL, input=["one", "two"])
    assert len(got.parse().data) == 2
    assert upstream.last.target == "/v1/embeddings"
    assert "x-tollhouse-max-tokens" not in got.headers
    assert upstream.last.json == {"model": EMBEDDING_MODEL, "input": ["one", "two"], "encoding_format": "base64"}
    assert parse_usd(got.headers["x-tollhouse-cost-usd"]) == 8 * EMBEDDING_NUSD
    held_nusd = parse_usd(got.headers["x-tollhouse-held-usd"])
    assert 8 * EMBEDDING_NUSD <= held_nusd < 5_000 * EMBEDDING_NUSD
    (row,) = gateway.entries(user)
    assert (row["endpoint"], row["kind"], row["usage"]["input_tokens"]) == ("embeddings", "exact", 8)
    assert row["max_output_tokens"] == 0


def test_many_embeddings_may_be_longer_than_the_window_together(gateway: Gateway, user: str) -> None:
    fields = {"model": EMBEDDING_MODEL, "input": ["x" * 8_000] * 40}
    got = post(gateway, gateway.key(user, budget="1/month"), fields, "/v1/embeddings")
    assert parse_usd(got.headers["x-tollhouse-held-usd"]) >= 40 * 8_000 * EMBEDDING_NUSD


def test_embeddings_beyond_the_budget(gateway: Gateway, upstream: ScriptedUpstream, user: str, chat: Chat) -> None:
    client = chat(f"{gateway.url}/v1", gateway.key(user, budget="0.000001/month"))
    with pytest.raises(openai.APIStatusError) as raised:
        client.embeddings.create(model=EMBEDDING_MODEL, input="x")
    assert (raised.value.status_code, raised.value.type) == (402, "insufficient_quota")
    assert upstream.received == []


# The embedded model


def test_responses_of_the_embedded_model(real: Gateway, user: str, chat: Chat) -> None:
    client = chat(f"{real.url}/v1", real.key(user, budget="1/month"))
    whole = client.responses.create(model=LOCAL_MODEL, input="Say hello.", max_output_tokens=6)
    assert whole.output_text
    deltas: list[str] = []
    for event in client.responses.create(model=LOCAL_MODEL, input="Say hello.", max_output_tokens=6, stream=True):
        if event.type == "response.output_text.delta":
            deltas.append(event.delta)
        elif event.type == "response.completed":
            assert event.response.usage is not None
            assert event.response.usage.output_tokens == 6
    assert "".join(deltas)
    rows = real.entries(user)
    assert [(row["kind"], row["usage"]["output_tokens"]) for row in rows] == [("exact", 6)] * 2


def test_the_embedded_model_has_no_embeddings(real: Gateway, user: str, chat: Chat) -> None:
    client = chat(f"{real.url}/v1", real.key(user), max_retries=0)
    with pytest.raises(openai.InternalServerError, match="does not support embeddings") as raised:
        client.embeddings.create(model=LOCAL_MODEL, input="x")
    assert raised.value.status_code == 501
