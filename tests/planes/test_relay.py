"""An answer on its way: streams cut at every byte are settled once and rightly, and the client learns of the cut."""

import asyncio
import json
import tracemalloc

import pytest

from tests.dialects.recorded import recording
from tests.planes.plane import BUDGET, MESSAGE, Running, ask, plane, post
from tests.planes.wire import STREAM_HEAD, Answer, Peer, chunk, reply, run, upstream
from tollhouse.terms.events import SettleKind

STREAM = recording("anthropic_text.sse")
CHAT_STREAM = recording("openai_text.sse")
CHAT_PATH = b"/v1/chat/completions"


class Cut:
    """An upstream that plays the next part on every call, then ends as told."""

    def __init__(self, parts: list[bytes], how: str) -> None:
        self.parts = parts
        self.how = how
        self.played = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            await peer.request()
            part = self.parts[self.played]
            self.played += 1
            peer.send(STREAM_HEAD)
            if part:
                peer.send(chunk(part))
            await peer.drain()
            if self.how == "reset":
                await asyncio.sleep(0.001)
                peer.reset()
                return
            if self.how == "garble":
                peer.send(b"what?\r\n")
                await peer.until_gone()
                return
            if self.how == "close":
                return
            peer.send(b"0\r\n\r\n")


async def call(running: Running, wire: bytes) -> Answer:
    async with await running.client() as client:
        client.send(wire)
        return await client.answer()


@pytest.mark.parametrize("how", ["close", "garble", "end"])
def test_a_stream_cut_at_every_byte(how: str) -> None:
    """Exact once the provider's last word on usage has passed, the whole hold before."""
    parts = [STREAM[:size] for size in range(0, len(STREAM) + 1, 1 if how == "close" else 7)]
    final_at = STREAM.index(b"\n\n", STREAM.index(b"event: message_delta")) + 2

    async def story() -> None:
        script = Cut(parts, how)
        async with upstream(script) as provider, plane(provider.port) as running:
            for part in parts:
                answer = await call(running, post(ask(stream=True)))
                settlement = running.settlements[-1]
                settle = settlement.settle
                if len(part) >= final_at:
                    assert settle.kind is SettleKind.EXACT, len(part)
                else:
                    assert (settle.kind, settle.amount_nusd) == (SettleKind.UPPER, settlement.hold.hold_nusd), len(part)
                assert answer.status == 200
                assert answer.body.startswith(part)
                rest = answer.body[len(part) :]
                if how == "end" or (b"event: message_stop\ndata:" in part and part.endswith(b"\n\n")):
                    assert rest == b"" or rest.startswith(b"event: error\n")
                elif part.endswith(b"\n\n") or not part:
                    assert answer.whole
                    assert rest.startswith(b"event: error\ndata: ")
                    assert json.loads(rest.split(b"data: ", 1)[1])["type"] == "error"
                else:
                    assert (answer.whole, rest) == (False, b"")
            assert len(running.settlements) == len(parts) == len({one.hold.attempt_id for one in running.settlements})
            assert running.held == 0
            posted = sum(one.settle.amount_nusd for one in running.settlements)
            assert running.accounts.standing(BUDGET).posted == posted

    run(story())


def test_a_chat_stream_whose_usage_is_ours_alone() -> None:
    """The usage chunk we asked for is swallowed; cut before it the hold stands, after it the amount is exact."""
    usage_at = CHAT_STREAM.rindex(b"data: {")
    parts = [CHAT_STREAM[:usage_at], CHAT_STREAM[: CHAT_STREAM.index(b"\n\n", usage_at) + 2], CHAT_STREAM]
    body = json.dumps({"model": "gpt-x", "max_tokens": 9, "stream": True, "messages": []}).encode()

    async def story() -> None:
        async with upstream(Cut(parts, "close")) as provider, plane(provider.port) as running:
            for _ in parts:
                answer = await call(running, post(body, path=CHAT_PATH))
                assert answer.body.startswith(CHAT_STREAM[:usage_at])
                assert b'"usage":{' not in answer.body
            kinds = [one.settle.kind for one in running.settlements]
            assert kinds == [SettleKind.UPPER, SettleKind.EXACT, SettleKind.EXACT]
            assert b'"include_usage": true' in provider.requests[0][1].replace(b":true", b": true")

    run(story())


def test_the_settlement_is_journalled_before_the_closing_event_leaves() -> None:
    async def story() -> None:
        release = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            peer.send(STREAM_HEAD, chunk(STREAM))
            await release.wait()
            peer.send(b"0\r\n\r\n")

        async with upstream(script) as provider, plane(provider.port) as running, await running.client() as client:
            client.send(post(ask(stream=True)))
            await client.reader.readuntil(b"message_stop")
            assert running.settled.settle.kind is SettleKind.EXACT  # though the provider has not ended yet
            release.set()

    run(story())


WHOLE = {
    "2xx": (reply(MESSAGE), SettleKind.EXACT, ""),
    "2xx that cannot be read": (reply(b"<html>"), SettleKind.UPPER, ""),
    "compressed though identity was asked": (
        reply(b"\x1f\x8b..", 200, b"content-encoding: gzip"),
        SettleKind.UPPER,
        "",
    ),
    "4xx": (reply(b'{"error":1}', 429, b"retry-after: 7"), SettleKind.VOIDED, "upstream_429"),
    "5xx": (reply(b'{"error":1}', 529), SettleKind.UPPER, "upstream_529"),
    "redirect": (reply(b"", 307, b"location: http://127.0.0.1:1/"), SettleKind.VOIDED, "upstream_307"),
    "4xx as an event stream": (
        reply(b"event: error\n\n", 400, content_type=b"text/event-stream"),
        SettleKind.VOIDED,
        "upstream_400",
    ),
    "too large to keep": (reply(MESSAGE[:-1] + b" " * 9_000 + b"}"), SettleKind.UPPER, ""),
    "4xx too large to keep": (reply(b"x" * 9_000, 400), SettleKind.VOIDED, ""),
    "until the connection ends": (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + MESSAGE,
        SettleKind.EXACT,
        "",
    ),
}


@pytest.mark.parametrize("stream", [False, True])
def test_whole_answers_pass_as_they_are(stream: bool) -> None:
    async def story() -> None:
        for name, (wire, kind, code) in WHOLE.items():
            body = wire.split(b"\r\n\r\n", 1)[1]

            async def script(peer: Peer, wire: bytes = wire) -> None:
                await peer.request()
                peer.send(wire)

            options = {"answer_buffer_bytes": 4_000}
            async with upstream(script) as provider, plane(provider.port, options=options) as running:
                answer = await call(running, post(ask(stream=stream)))
                assert (answer.body, answer.whole) == (body, True), name
                assert answer.status == int(wire[9:12])
                settle = running.settled.settle
                assert (settle.kind, settle.code) == (kind, code), name
                assert answer.headers.get(b"retry-after") == (b"7" if b"retry-after" in wire else None)
                large = b"transfer-encoding" in answer.headers
                assert large == (len(body) > 4_000), name
                assert (b"x-tollhouse-cost-usd" in answer.headers) != large, name

    run(story())


FAILING = {
    "refuses": (None, 502, "upstream_unreachable", SettleKind.VOIDED),
    "hangs": ("hang", 504, "upstream_timeout", SettleKind.UPPER),
    "closes": (b"", 502, "upstream_closed", SettleKind.UPPER),
    "closes in the head": (b"HTTP/1.1 200 OK\r\n", 502, "upstream_closed", SettleKind.UPPER),
    "closes in the body": (reply(MESSAGE)[:-5], 502, "upstream_closed", SettleKind.UPPER),
    "talks rubbish": (b"rubbish\r\n\r\n", 502, "upstream_garbled", SettleKind.UPPER),
}


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_fails_before_a_byte_went_on(stream: bool) -> None:
    """One answer in the caller's dialect, one settlement, and the connection stays good."""

    async def story() -> None:
        for name, (wire, status, code, kind) in FAILING.items():

            async def script(peer: Peer, wire: bytes | str | None = wire) -> None:
                await peer.request()
                if isinstance(wire, bytes):
                    peer.send(wire)
                else:
                    await peer.until_gone()

            pool = {"first_byte_timeout_s": 0.3} if wire == "hang" else {}
            async with upstream(script) as provider, plane(provider.port, pool=pool) as running:
                if wire is None:
                    provider.stop_listening()
                async with await running.client() as client:
                    client.send(post(ask(stream=stream)))
                    answer = await client.answer()
                    assert answer.status == status, name
                    assert json.loads(answer.body)["error"]["code"] == code
                    assert b"mock" in answer.body
                    settle = running.settled.settle
                    assert (settle.kind, settle.status, settle.code) == (kind, status, code)
                    client.send(post(b"{"))
                    assert (await client.answer()).status == 400

    run(story())


def test_an_idle_stream_is_ended_with_an_error_event() -> None:
    first = STREAM[: STREAM.index(b"\n\n") + 2]

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(STREAM_HEAD, chunk(first))
        await peer.until_gone()

    async def story() -> None:
        async with upstream(script) as provider, plane(provider.port, pool={"idle_timeout_s": 0.3}) as running:
            answer = await call(running, post(ask(stream=True)))
            assert answer.whole
            assert b"upstream_timeout" in answer.body.removeprefix(first)
            settle = running.settled.settle
            assert (settle.kind, settle.status, settle.code) == (SettleKind.UPPER, 200, "upstream_timeout")

    run(story())


def test_a_long_stream_does_not_hold_its_request() -> None:
    """Once the answer begins the body is gone from memory, ours and the pool's."""
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(STREAM_HEAD, chunk(STREAM[: STREAM.index(b"\n\n") + 2]))
        await release.wait()

    async def story() -> None:
        async with upstream(script) as provider, plane(provider.port) as running, await running.client() as client:
            tracemalloc.start()
            client.send(post(ask(stream=True, system="x" * 6_000_000)))
            await client.reader.readuntil(b"message_start")
            provider.requests.clear()
            held_bytes, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak_bytes > 6_000_000
            assert held_bytes < 3_000_000
            assert running.gate.buffered_bytes == 0
            release.set()

    run(story())
