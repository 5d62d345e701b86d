"""The edge on a real socket: what is a request, in which order requests are answered, what is refused and how."""

import asyncio
import gc
import json

import pytest

from tests.planes.plane import KEY, MESSAGE, MESSAGE_NUSD, ask, get, plane, post
from tests.planes.wire import END_CHUNK, Peer, always, chunk, reply, run, until, upstream
from tollhouse.dataplane.exchange import Exchange
from tollhouse.dataplane.head import ASGI_MAX_BODY_BYTES
from tollhouse.terms.events import SettleKind

ANSWER = reply(MESSAGE)
HOST = b"host: tollhouse\r\n"
KEY_LINE = b"x-api-key: " + KEY + b"\r\n"
CHUNKED = b"POST /v1/messages HTTP/1.1\r\n" + HOST + KEY_LINE + b"transfer-encoding: chunked\r\n\r\n"


def code_of(body: bytes) -> str:
    code: str = json.loads(body)["error"]["code"]
    return code


def test_a_call_and_its_settlement() -> None:
    async def story() -> None:
        async with upstream(always(ANSWER)) as provider, plane(provider.port) as running:
            async with await running.client() as client:
                client.send(post(None, b"anthropic-beta: a", b"X-New: 1", b"cookie: c"))
                answer = await client.answer()
            assert (answer.status, answer.body) == (200, MESSAGE)
            settle = running.settled.settle
            assert (settle.kind, settle.amount_nusd) == (SettleKind.EXACT, MESSAGE_NUSD)
            assert answer.headers[b"x-tollhouse-cost-usd"] == b"0.000105000"
            head, body = provider.requests[0]
            assert body == ask()
            assert b"x-api-key: upstream-secret" in head
            assert KEY not in head
            assert b"anthropic-beta: a\r\nx-new: 1" in head
            assert b"cookie" not in head

    run(story())


def test_a_connection_is_kept_alive_over_both_planes() -> None:
    async def story() -> None:
        async with (
            upstream(always(ANSWER)) as provider,
            plane(provider.port) as running,
            await running.client() as client,
        ):
            for _ in range(3):
                client.send(post())
                assert (await client.answer()).body == MESSAGE
                client.send(get(b"/healthz"))
                assert (await client.answer()).body == b"/healthz 0"
                client.send(get(b"/v1/models"))
                assert (await client.answer()).status == 200
            assert provider.connections == 1

    run(story())


@pytest.mark.parametrize("request_", [post(), post(b"{"), get(b"/v1/models")], ids=["call", "refused", "models"])
def test_an_answered_call_does_not_wait_for_the_next_request_to_be_freed(request_: bytes) -> None:
    def exchanges() -> int:
        return sum(isinstance(one, Exchange) for one in gc.get_objects())

    async def story() -> None:
        async with (
            upstream(always(ANSWER)) as provider,
            plane(provider.port) as running,
            await running.client() as client,
        ):
            gc.collect()
            before = exchanges()
            gc.disable()  # freed at once, and not by the collector
            try:
                for _ in range(3):  # read by the parser, then known by its form
                    client.send(request_)
                    assert (await client.answer()).status in (200, 400)
                    await until(lambda: exchanges() == before, timeout_s=5)
            finally:
                gc.enable()

    run(story())


def test_pipelined_requests_are_answered_in_order() -> None:
    """One slow, others quick, both planes mixed, all in one packet and byte by byte."""
    requests = [post(), get(b"/a"), get(b"/v1/models"), post(b"{"), get(b"/b"), post(), post(b"x" * 9, path=b"/c")]

    async def slow(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.02)
            peer.send(ANSWER)

    async def story(size: int) -> None:
        async with upstream(slow) as provider, plane(provider.port) as running, await running.client() as client:
            wire = b"".join(requests)
            for at in range(0, len(wire), size):
                client.send(wire[at : at + size])
                if size == 1 and at % 7 == 0:
                    await asyncio.sleep(0)
            answers = [await client.answer() for _ in requests]
            assert [answer.status for answer in answers] == [200, 200, 200, 400, 200, 200, 200]
            assert answers[0].body == answers[5].body == MESSAGE
            assert [answers[at].body for at in (1, 4, 6)] == [b"/a 0", b"/b 0", b"/c 9"]
            assert code_of(answers[3].body) == "invalid_json"
            assert len(running.settlements) == 2

    run(story(1_000_000))
    run(story(1))


def test_many_pipelined_requests_do_not_pile_up_on_the_stack() -> None:
    refused = post().replace(KEY, b"sk-th-wrong", 1)

    async def story() -> None:
        async with upstream(always(ANSWER)) as provider, plane(provider.port) as running:
            async with await running.client() as client:
                client.send(post(), *[get(b"/v1/models")] * 400, *[refused] * 2)
                statuses = [(await client.answer()).status for _ in range(403)]
                assert statuses == [200] * 401 + [401] * 2
            assert len(running.settlements) == 1

    run(story())


def test_what_a_client_pipelines_does_not_pile_up_in_memory() -> None:
    """While an answer is owed, reading stands still: one read more is taken, not all that the client has."""

    async def story() -> None:
        release = asyncio.Event()

        async def slow(peer: Peer) -> None:
            await peer.request()
            await release.wait()
            peer.send(ANSWER)
            await peer.until_gone()

        async with upstream(slow) as provider, plane(provider.port) as running, await running.client() as client:
            client.send(post())
            await until(lambda: running.gate.working)
            client.send(get(b"/v1/models") * 40_000)
            (edge,) = running.gate.edges
            await until(lambda: edge.pipeline)
            await asyncio.sleep(0.2)
            waiting = len(edge.pipeline)
            assert 0 < waiting < 10_000
            release.set()
            for _ in range(20):
                await client.answer()
                assert len(edge.pipeline) <= waiting + 10_000

    run(story())


@pytest.mark.parametrize(
    "broken", [b"GARBAGE\r\n\r\n", b"GET /x HTTP/1.1\r\n\r\n", b"GET /x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"]
)
def test_good_requests_before_a_malformed_one_are_answered_first(broken: bytes) -> None:
    async def story() -> None:
        async with upstream(always(ANSWER)) as provider, plane(provider.port) as running:
            async with await running.client() as client:
                client.send(post(), post(), broken, post())
                assert (await client.answer()).body == MESSAGE
                last = await client.answer()
                assert last.body == MESSAGE
                assert last.headers[b"connection"] == b"close"
                assert await client.eof()
            async with await running.client() as client:  # with nobody unanswered before it, it is told
                client.send(get(b"/v1/models"))
                await client.answer()
                client.send(broken)
                assert (await client.answer()).status == 400
                assert await client.eof()
            assert len(running.settlements) == 2

    run(story())


MALFORMED = {
    "no host": b"GET /v1/models HTTP/1.1\r\n" + KEY_LINE + b"\r\n",
    "two hosts": b"GET /v1/models HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "host with a path": b"GET /v1/models HTTP/1.1\r\nhost: a/b\r\n\r\n",
    "odd transfer coding": b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "unknown transfer coding": b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"transfer-encoding: identity\r\n\r\n",
    "chunked twice": b"POST /x HTTP/1.1\r\n"
    + HOST
    + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    "transfer coding in 1.0": b"POST /x HTTP/1.0\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths": b"POST /x HTTP/1.1\r\n"
    + HOST
    + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /x HTTP/1.1\r\n" + HOST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "length with a sign": b"POST /x HTTP/1.1\r\n" + HOST + b"content-length: +3\r\n\r\nabc",
    "two lengths in one": b"POST /x HTTP/1.1\r\n" + HOST + b"content-length: 3, 3\r\n\r\nabc",
    "length too long": b"POST /x HTTP/1.1\r\n" + HOST + b"content-length: 99999999999999999999\r\n\r\n",
    "trailers": b"POST /v1/messages HTTP/1.1\r\n"
    + HOST
    + KEY_LINE
    + b"transfer-encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n",
    "trailers in the other plane": b"POST /x HTTP/1.1\r\n"
    + HOST
    + b"transfer-encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n",
    "bad chunk size": b"POST /v1/messages HTTP/1.1\r\n" + HOST + KEY_LINE + b"transfer-encoding: chunked\r\n\r\nxx\r\n",
    "absolute form": b"GET http://tollhouse/v1/models HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "authority form": b"CONNECT tollhouse:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/1.2": b"GET /v1/models HTTP/1.2\r\n" + HOST + b"\r\n",
    "HTTP/2": b"GET /v1/models HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 32,
    "bare CR in a value": b"GET /v1/models HTTP/1.1\r\n" + HOST + b"a: b\rc: d\r\n\r\n",
    "bare LF ends a line": b"GET /v1/models HTTP/1.1\n" + HOST + b"\r\n",
    "bare LF ends a header": b"GET /v1/models HTTP/1.1\r\nhost: a\n\r\n",
    "folded header": b"GET /v1/models HTTP/1.1\r\n" + HOST + b"a: b\r\n c\r\n\r\n",
    "NUL in a value": b"GET /v1/models HTTP/1.1\r\n" + HOST + b"a: b\x00c\r\n\r\n",
    "NUL in the path": b"GET /v1/mo\x00dels HTTP/1.1\r\n" + HOST + b"\r\n",
    "space before the colon": b"GET /v1/models HTTP/1.1\r\n" + HOST + b"a : b\r\n\r\n",
    "space in a name": b"GET /v1/models HTTP/1.1\r\n" + HOST + b"a b: c\r\n\r\n",
    "no name": b"GET /v1/models HTTP/1.1\r\n" + HOST + b": c\r\n\r\n",
    "unknown method": b"FETCH /v1/models HTTP/1.1\r\n" + HOST + b"\r\n",
    "key twice": b"GET /v1/models HTTP/1.1\r\n" + HOST + KEY_LINE + KEY_LINE + b"\r\n",
    "other expectation": b"POST /v1/messages HTTP/1.1\r\n"
    + HOST
    + KEY_LINE
    + b"expect: magic\r\ncontent-length: 2\r\n\r\n{}",
}
OTHER_STATUS = {"HTTP/0.9": {400, 505}, "HTTP/1.2": {400, 505}, "HTTP/2": {400, 505}, "other expectation": {417}}


def test_what_is_not_a_request_is_refused_and_the_connection_closed() -> None:
    """Each alone, followed by a good request that must not be answered: where it begins is not certain."""

    async def story() -> None:
        async with upstream(always(ANSWER)) as provider, plane(provider.port) as running:
            for name, wire in MALFORMED.items():
                async with await running.client() as client:
                    client.send(wire, get(b"/smuggled"))
                    answer = await client.answer()
                    assert answer.status in OTHER_STATUS.get(name, {400}), (name, answer.head)
                    assert answer.headers[b"connection"] == b"close", name
                    assert await client.eof(), name
            assert provider.connections == 0
            assert running.settlements == []

    run(story())


@pytest.mark.parametrize("how", ["one packet", "trickled", "one long line", "pipelined"])
def test_a_head_that_is_too_large(how: str) -> None:
    lines = [b"x-%d: %b\r\n" % (number, b"v" * 90) for number in range(50)]
    if how == "one long line":
        lines = [b"x: " + b"v" * 6_000 + b"\r\n"]

    async def story() -> None:
        async with plane(edge={"max_head_bytes": 4_096}) as running, await running.client() as client:
            if how == "pipelined":
                client.send(get(b"/a"))
            client.send(b"GET /v1/models HTTP/1.1\r\n", HOST)
            for line in lines:
                client.send(line)
                if how != "one packet":
                    await client.drain()
                    await asyncio.sleep(0.001)
            if how == "pipelined":
                assert (await client.answer()).status == 200
            answer = await client.answer()
            assert answer.status == 431
            assert b"listen.max_head_bytes" in answer.body
            assert await client.eof()

    run(story())


def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    """Closing with unread bytes resets the connection, and the answer is lost with it."""
    megabyte = b"v" * 1_000_000
    cases = [
        (b"GET /v1/models HTTP/1.1\r\n" + HOST + b"x: " + megabyte, 431),
        (post(megabyte[:800_000]).replace(KEY, b"wrong", 1), 401),
        (post(megabyte[:800_000], b"content-encoding: gzip"), 415),
        (CHUNKED + b"zz\r\n" + megabyte, 400),
        (post(megabyte), 413),
        (CHUNKED + chunk(megabyte), 413),
    ]

    async def story() -> None:
        async with plane(edge={"max_body_bytes": 900_000}) as running:
            for wire, status in cases:
                async with await running.client() as client:
                    client.send(wire)
                    assert (await client.answer()).status == status
                    assert await client.reader.read() == b""  # ended, not reset
            assert running.gate.buffered_bytes == 0

    run(story())


def test_bodies_at_the_cap() -> None:
    """At the cap it is read; one byte more is 413, announced or not, alone or pipelined."""
    fits, over = ask(system="x" * 1_000), ask(system="x" * 1_001)

    def chunked(body: bytes) -> bytes:
        return CHUNKED + b"".join(chunk(body[at : at + 90]) for at in range(0, len(body), 90)) + END_CHUNK

    async def story() -> None:
        async with (
            upstream(always(ANSWER)) as provider,
            plane(provider.port, edge={"max_body_bytes": len(fits)}) as running,
        ):
            for make in (post, chunked):
                for before in (b"", post()):
                    async with await running.client() as client:
                        client.send(before, make(fits), make(over))
                        if before:
                            assert (await client.answer()).status == 200
                        assert (await client.answer()).status == 200
                        answer = await client.answer()
                        assert answer.status == 413
                        assert json.loads(answer.body)["error"]["type"] == "request_too_large"
            assert {body for _, body in provider.requests} == {fits, ask()}

    run(story())


def test_a_management_body_is_capped_too() -> None:
    async def story() -> None:
        async with plane() as running:
            for before in (b"", get(b"/v1/models"), get(b"/a")):
                async with await running.client() as client:
                    client.send(before)
                    if before:
                        await client.answer()
                    client.send(post(b"x" * ASGI_MAX_BODY_BYTES, path=b"/api/v1/keys"))
                    assert (await client.answer()).body == b"/api/v1/keys %d" % ASGI_MAX_BODY_BYTES
                    client.send(post(b"x" * (ASGI_MAX_BODY_BYTES + 1), path=b"/api/v1/keys"))
                    assert (await client.answer()).status == 413
                    assert await client.eof()
            async with await running.client() as client:
                client.send(b"POST /api/v1/keys HTTP/1.1\r\n", HOST, b"transfer-encoding: chunked\r\n\r\n")
                client.send(b"%x\r\n" % (ASGI_MAX_BODY_BYTES + 1), b"x" * (ASGI_MAX_BODY_BYTES + 1))
                assert (await client.answer()).status == 413

    run(story())


def test_the_memory_for_bodies_is_bounded_over_all_connections() -> None:
    async def story() -> None:
        async with plane(edge={"max_buffered_bytes": 50_000}) as running:
            clients = [await running.client() for _ in range(3)]
            for client in clients:
                client.send(post(b"x" * 30_000)[:-10_000])
                await asyncio.sleep(0.02)
            assert running.gate.buffered_bytes < 50_000
            answers = [await client.answer() for client in clients[2:]]
            assert [(answer.status, code_of(answer.body)) for answer in answers] == [(503, "overloaded")]
            for client in clients:
                client.close()
            await until(lambda: running.gate.buffered_bytes == 0)

    run(story())


def test_expect_100_continue() -> None:
    body = ask()
    good = post(body, b"expect: 100-continue")
    head = good[: -len(body)]

    async def story() -> None:
        async with upstream(always(ANSWER)) as provider, plane(provider.port) as running:
            async with await running.client() as client:
                for _ in range(2):
                    client.send(head)
                    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                    client.send(body)
                    assert (await client.answer()).body == MESSAGE
                client.send(good)  # the body comes along unasked
                assert (await client.answer()).body == MESSAGE
                client.send(post(), head)  # pipelined: not before its turn
                assert (await client.answer()).body == MESSAGE
                assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                client.send(body)
                assert (await client.answer()).body == MESSAGE
                client.send(head.replace(KEY, b"wrong", 1))  # refused instead
                answer = await client.answer()
                assert (answer.status, answer.interim) == (401, [])
                assert await client.eof()
            async with await running.client() as client:
                client.send(post(b"hello", b"expect: 100-continue", path=b"/other")[:-5])
                assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                client.send(b"hello")
                assert (await client.answer()).body == b"/other 5"

    run(story())


def test_http_1_0() -> None:
    """No chunks, no interim answers, and the end of the connection ends the answer."""
    events = b"event: ping\ndata: {}\n\n"

    async def streaming(peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            if b'"stream": true' in body:
                peer.send(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(events),
                    events,
                )
            else:
                peer.send(ANSWER)

    async def story() -> None:
        async with upstream(streaming) as provider, plane(provider.port) as running:
            async with await running.client() as client:
                client.send(post(ask(stream=True), version=b"1.0").replace(b"host: tollhouse\r\n", b""))
                answer = await client.answer()
                assert b"transfer-encoding" not in answer.headers
                assert answer.headers[b"connection"] == b"close"
                assert answer.body == events
            async with await running.client() as client:
                client.send(post(None, b"expect: 100-continue", b"connection: keep-alive", version=b"1.0"))
                answer = await client.answer()
                assert (answer.body, answer.interim) == (MESSAGE, [])
                assert answer.headers[b"connection"] == b"close"
                assert await client.eof()

    run(story())


def test_methods() -> None:
    async def story() -> None:
        origins = frozenset((b"https://app.example",))
        async with plane(options={"cors_origins": origins}) as running, await running.client() as client:
            client.send(get(b"/v1/models", method=b"HEAD"), get(b"/v1/models"))
            head, answer = await client.answer(b"HEAD"), await client.answer()
            assert head.headers[b"content-length"] == b"%d" % len(answer.body)
            for method in (b"GET", b"PUT", b"DELETE", b"HEAD", b"TRACE"):
                client.send(get(b"/v1/messages", method=method))
                answer = await client.answer(method)
                assert answer.status == 405
                assert b"connection" not in answer.headers  # nothing of it is still to come
            client.send(get(b"/v1/messages", b"origin: https://app.example", method=b"OPTIONS"))
            answer = await client.answer()
            assert answer.status == 204
            assert answer.headers[b"access-control-allow-methods"] == b"POST"
            assert b"content-length" not in answer.headers
            client.send(get(b"/v1/messages", b"origin: https://evil.example", method=b"OPTIONS"))
            assert (await client.answer()).status == 403
            client.send(get(b"/v1/models"))
            assert (await client.answer()).status == 200

    run(story())


@pytest.mark.parametrize("path", [b"/v1/models", b"/other"])
@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_no_protocol_is_switched(path: bytes, protocol: bytes) -> None:
    """The request is answered as if it had not asked; what follows is not read as HTTP."""

    async def story() -> None:
        async with plane() as running, await running.client() as client:
            client.send(get(path, b"connection: upgrade", b"upgrade: " + protocol), get(b"/smuggled"))
            answer = await client.answer()
            assert answer.status == 200
            assert answer.headers[b"connection"] == b"close"
            assert await client.eof()

    run(story())


def test_an_upgrade_with_a_body() -> None:
    async def story() -> None:
        async with upstream(always(ANSWER)) as provider, plane(provider.port) as running:
            async with await running.client() as client:
                client.send(post(None, b"connection: upgrade", b"upgrade: h2c"), get(b"/smuggled"))
                answer = await client.answer()
                assert answer.body == MESSAGE
                assert answer.headers[b"connection"] == b"close"
                assert await client.eof()
            assert b"upgrade" not in provider.requests[0][0].lower()

    run(story())


def test_too_many_connections() -> None:
    async def story() -> None:
        async with plane(edge={"max_connections": 2}) as running:
            first, second = await running.client(), await running.client()
            async with await running.client() as third:
                assert (await third.answer()).status == 503
                assert await third.eof()
            assert running.gate.refused_connections == 1
            first.close()
            await until(lambda: len(running.gate.edges) == 1)
            async with await running.client() as fourth:
                fourth.send(get(b"/v1/models"))
                assert (await fourth.answer()).status == 200
            second.close()

    run(story())


def test_every_request_is_in_the_log_once() -> None:
    async def story() -> None:
        async with upstream(always(ANSWER)) as provider, plane(provider.port) as running:
            async with await running.client() as client:
                for wire in (get(b"/v1/models"), post(b"{"), post(), post(path=b"/v1/messages/count_tokens")):
                    client.send(wire)
                    await client.answer()
                client.send(post()[:-3])
                await asyncio.sleep(0.02)
            await until(lambda: len(running.refused) == 4)
            assert [(row.status, row.code) for row in running.refused] == [
                (200, ""),
                (400, "invalid_json"),
                (200, ""),
                (0, "client_gone"),
            ]
            assert len(running.settlements) == 1

    run(story())
