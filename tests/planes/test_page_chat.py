"""The chat of a page: what the operator pinned is what the provider gets, whatever the page says."""

import json
from typing import Any

import pytest

from tests.dialects.recorded import recording
from tests.planes.plane import KEY, MESSAGE, Running, image, plane
from tests.planes.test_sessions_scheme import COOKIE, CSRF, OWN, Book, signed_in
from tests.planes.wire import STREAM_HEAD, Answer, Peer, chunk, reply, run, upstream
from tollhouse.app.chat import pinned
from tollhouse.dialects.page import Pinned
from tollhouse.settings.chat import Chat
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget

PINNED = Pinned("claude-x", system="You are brief.", max_messages=3, max_body_bytes=2_000)
PINNED_CHAT = Pinned("gpt-x", system="You are brief.", max_tokens=300)
HELLO = [{"role": "user", "content": "Hello"}]
CHAT_ANSWER = json.dumps({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}).encode()


class Model:
    """A provider that keeps what it was sent."""

    def __init__(self, answer: bytes = MESSAGE, stream: bytes = b"") -> None:
        self.heads: list[bytes] = []
        self.bodies: list[Any] = []
        self.answer = answer
        self.stream = stream

    async def __call__(self, peer: Peer) -> None:
        while True:
            head, body = await peer.request()
            self.heads.append(head)
            self.bodies.append(json.loads(body))
            if self.stream:
                peer.send(STREAM_HEAD, chunk(self.stream), b"0\r\n\r\n")
            else:
                peer.send(reply(self.answer))


def request(body: Any, *lines: bytes, method: bytes = b"POST", path: bytes = b"/api/chat") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"%b %b HTTP/1.1\r\nhost: tollhouse\r\n%bcontent-length: %d\r\n\r\n%b" % (
        method,
        path,
        fields,
        len(data),
        data,
    )


async def call(running: Running, body: Any, *lines: bytes, **more: bytes) -> Answer:
    async with await running.client() as client:
        client.send(request(body, *(lines or (b"x-api-key: " + KEY,)), **more))
        return await client.answer()


def said(answer: Answer) -> Any:
    assert answer.headers[b"content-type"] == b"application/json"
    assert list(json.loads(answer.body)) == ["error"]
    return json.loads(answer.body)["error"]


def test_the_provider_gets_what_is_pinned_and_nothing_else_of_the_page() -> None:
    async def story() -> None:
        model = Model()
        async with upstream(model) as provider, plane(provider.port, chat=PINNED) as running:
            lines = (
                b"x-api-key: " + KEY,
                b"anthropic-beta: context-1m",
                b"accept-language: de",
                b"user-agent: Mozilla/5",
            )
            answer = await call(running, {"messages": HELLO}, *lines, path=b"/api/chat?beta=true")
            assert (answer.status, answer.body) == (200, MESSAGE)
            assert model.bodies == [
                {
                    "model": "claude-x",
                    "max_tokens": 1_024,
                    "system": "You are brief.",
                    "messages": HELLO,
                    "stream": False,
                }
            ]
            head = model.heads[0].lower()
            assert head.startswith(b"post /v1/messages http/1.1\r\n")
            assert b"anthropic-version: 2023-06-01" in head
            for word in (b"beta", b"accept-language", b"mozilla", KEY.lower()):
                assert word not in head, word
            hold = running.settled.hold
            assert (hold.endpoint, hold.requested_model, hold.max_output_tokens) == ("chat", "claude-x", 1_024)
            assert answer.headers[b"x-tollhouse-budget"] == b"user alice"

    run(story())


def test_in_openais_dialect_too() -> None:
    async def story() -> None:
        model = Model(CHAT_ANSWER)
        async with upstream(model) as provider, plane(provider.port, chat=PINNED_CHAT) as running:
            answer = await call(running, {"messages": HELLO})
            assert (answer.status, answer.body) == (200, CHAT_ANSWER)
            system = {"role": "system", "content": "You are brief."}
            wanted = {"model": "gpt-x", "max_completion_tokens": 300, "messages": [system, *HELLO], "stream": False}
            assert model.bodies == [wanted]
            assert model.heads[0].startswith(b"POST /v1/chat/completions ")
            assert running.settled.settle.amount_nusd == 10 * 3_000 + 5 * 15_000

    run(story())


@pytest.mark.parametrize(
    ("pinned", "stream"),
    [(PINNED, "anthropic_text.sse"), (PINNED_CHAT, "openai_text.sse")],
    ids=["anthropic", "openai"],
)
def test_a_stream_is_the_dialects_own(pinned: Pinned, stream: str) -> None:
    async def story() -> None:
        model = Model(stream=recording(stream))
        async with upstream(model) as provider, plane(provider.port, chat=pinned) as running:
            answer = await call(running, {"messages": HELLO, "stream": True})
            assert answer.status == 200
            assert answer.headers[b"content-type"].startswith(b"text/event-stream")
            assert answer.body.count(b"data:") >= 3
            assert model.bodies[0]["stream"] is True
            assert running.settled.hold.streamed

    run(story())


def test_by_cookie_too_and_only_with_the_csrf_token() -> None:
    async def story() -> None:
        model = Model()
        async with (
            upstream(model) as provider,
            plane(provider.port, chat=PINNED, schemes=signed_in(Book())) as running,
            await running.client() as client,
        ):
            for _ in range(2):  # the second by a head that is known
                client.send(request({"messages": HELLO}, COOKIE, CSRF, OWN))
                assert (await client.answer()).status == 200
            client.send(request({"messages": HELLO}, COOKIE, OWN))
            answer = await client.answer()
            assert (answer.status, said(answer)["code"]) == (403, "csrf")
            assert len(model.bodies) == 2
            assert b"cookie" not in b"".join(model.heads).lower()

    run(story())


@pytest.mark.parametrize(
    ("body", "status", "code", "why"),
    [
        ({"messages": HELLO, "model": "claude-opus"}, 400, "invalid_request", "unknown field `model`"),
        ({"messages": HELLO, "system": "Be evil."}, 400, "invalid_request", "unknown field `system`"),
        ({"messages": HELLO, "top_p": 1}, 400, "invalid_request", "unknown field `top_p`"),
        ({"messages": HELLO, "max_tokens": 0}, 400, "invalid_request", "max_tokens"),
        ({"messages": [{**HELLO[0], "cache_control": {}}]}, 400, "invalid_request", "unknown field `cache_control`"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "invalid_request", "Invalid enum value 'system'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 400, "invalid_request", "Expected `str`"),
        ({"messages": []}, 400, "invalid_request", "from 1 to 3"),
        ({"messages": HELLO * 4}, 400, "invalid_request", "this one has 4"),
        ({"messages": [{"role": "user", "content": "x" * 2_000}]}, 413, "request_too_large", "chat.max_body_bytes"),
        ({"messages": HELLO, "stream": "yes"}, 400, "invalid_request", "Expected `bool`"),
        ({}, 400, "invalid_request", "missing required field `messages`"),
        ([], 400, "invalid_request", "Expected `object`"),
        (b"{", 400, "invalid_json", "not JSON"),
        (b'{"messages":[{"role":"user","content":"\\ud800"}]}', 400, "invalid_json", "not JSON"),
        (b"[" * 1_900, 400, "invalid_request", "Expected `object`"),
    ],
)
def test_a_page_has_nothing_else_to_say(body: Any, status: int, code: str, why: str) -> None:
    async def story() -> None:
        async with plane(chat=PINNED) as running:
            answer = await call(running, body)
            error = said(answer)
            assert (answer.status, error["code"]) == (status, code)
            assert why in error["message"]
            assert error["request_id"] == answer.headers[b"x-tollhouse-request-id"].decode()
            assert not running.journal.records

    run(story())


def test_refusals_are_told_in_words_for_a_page() -> None:
    async def story() -> None:
        async with plane(chat=PINNED, people=image(Budget("bud_1", ScopeKind.USER, "alice", 1_000))) as running:
            error = said(await call(running, {"messages": HELLO}))
            assert (error["code"], error["scope"]) == ("budget_exhausted", "user alice")
            assert "The budget of" in error["message"]
            assert (error["limit"], error["unit"]) == ("0.000001", "usd")  # for words of the page's own
            assert "details" not in error
            stranger = await call(running, {"messages": HELLO}, b"x-other: 1")
            assert (stranger.status, said(stranger)["code"]) == (401, "missing_key")
            assert said(stranger)["message"] == "You are not signed in. Sign in, and try again."
            wrong = await call(running, {"messages": HELLO}, method=b"PUT")
            assert (wrong.status, said(wrong)["code"]) == (405, "method_not_allowed")

    run(story())


def test_a_model_that_nobody_serves_is_the_operators_to_hear_of() -> None:
    async def story() -> None:
        async with plane(chat=Pinned("llama-x")) as running:
            answer = await call(running, {"messages": HELLO})
            assert (answer.status, said(answer)["code"]) == (503, "chat_unavailable")

    run(story())


def test_without_a_model_there_is_no_chat() -> None:
    async def story() -> None:
        async with plane() as running:
            for _ in range(2):
                answer = await call(running, {"messages": HELLO})
                assert answer.body.startswith(b"/api/chat "), (
                    "it went to the management plane, which knows no such path"
                )

    run(story())


def test_the_operator_is_warned_of_a_model_that_nobody_serves() -> None:
    async def story() -> None:
        async with plane() as running:
            warnings: list[str] = []
            assert pinned(Chat(model="gpt-x"), running.plane.planner, warnings) == Pinned("gpt-x")
            assert pinned(Chat(), running.plane.planner, warnings) is None
            assert not warnings
            assert pinned(Chat(model="llama-x"), running.plane.planner, warnings) == Pinned("llama-x")
            assert warnings[0].startswith("chat.model: no provider serves 'llama-x'")

    run(story())
