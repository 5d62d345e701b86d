"""The edge and time: what is too slow is ended, what works is let finish, and a shutdown loses nothing."""

import asyncio
from pathlib import Path

import pytest

from tests.planes.plane import KEY, MESSAGE, Running, ask, get, plane, post, uvicorn_config
from tests.planes.virtual_time import run_in_virtual_time
from tests.planes.wire import STREAM_HEAD, Peer, always, chunk, connect, reply, run, until, upstream
from tollhouse.dataplane.gate import SWEEP_S
from tollhouse.dataplane.server import Server
from tollhouse.terms.events import SettleKind

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","model":"claude-x",'
    b'"usage":{"input_tokens":10,"output_tokens":1}}}\n\n'
)
END = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":5}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)


async def trickle(client: Peer, data: bytes) -> None:
    for at in range(len(data)):
        client.send(data[at : at + 1])
        await asyncio.sleep(0.03)


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        (b"GET /v1/models HTTP/1.1\r\nhost: tollhouse\r\nx: " + b"y" * 1000, b"head"),
        (b"POST /api/v1/keys HTTP/1.1\r\nhost: tollhouse\r\n" + b"y" * 1000, b"head"),
        (post(b"y" * 1000), b"body"),
        (post(b"y" * 1000, path=b"/api/v1/keys"), b"body"),
    ],
)
def test_what_trickles_in_is_ended(wire: bytes, says: bytes) -> None:
    """One byte at a time keeps no connection open, whichever plane it is for."""

    async def story() -> None:
        limits = {"head_timeout_s": 0.5, "body_timeout_s": 0.5}
        async with plane(edge=limits) as running, await running.client() as client:
            head, _, body = wire.partition(b"\r\n\r\n")
            if body:
                client.send(head, b"\r\n\r\n")
            started = asyncio.get_running_loop().time()
            trickling = asyncio.ensure_future(trickle(client, body or head))
            answer = await client.answer()
            assert answer.status == 408
            assert says in answer.body
            assert answer.headers[b"connection"] == b"close"
            assert 0.5 <= asyncio.get_running_loop().time() - started <= 0.5 + 2 * SWEEP_S
            assert await client.eof()
            trickling.cancel()
            await asyncio.gather(trickling, return_exceptions=True)
            client.close()
            await until(lambda: not running.gate.edges)
            assert not running.gate.working

    run_in_virtual_time(story())


@pytest.mark.parametrize("timeout_s", [0.1, 0.3, 0.6])
def test_nobody_is_ended_too_early(timeout_s: float) -> None:
    """Whatever the time between two sweeps, and wherever in it a request begins."""

    async def story() -> None:
        limits = {"head_timeout_s": timeout_s, "body_timeout_s": timeout_s}
        async with plane(edge=limits) as running:
            for step in range(10):
                await asyncio.sleep(SWEEP_S * step / 10)
                for wire in (get(b"/v1/models"), post(b"{" + b" " * 100)):
                    async with await running.client() as client:
                        client.send(wire[:-1])
                        await asyncio.sleep(0.9 * timeout_s)
                        client.send(wire[-1:])
                        assert (await client.answer()).status != 408

    run_in_virtual_time(story())


def test_who_says_nothing_is_ended() -> None:
    """Before the first request after head_timeout_s, between requests after keep_alive_s."""

    async def story() -> None:
        async with plane(edge={"head_timeout_s": 0.5, "keep_alive_s": 1.0}) as running:
            loop = asyncio.get_running_loop()
            new, old, blank = [await running.client() for _ in range(3)]
            started = loop.time()
            old.send(get(b"/v1/models"))
            await old.answer()
            trickling = asyncio.ensure_future(trickle(blank, b"\r\n" * 100))
            assert await new.eof()
            assert 0.5 <= loop.time() - started <= 0.5 + SWEEP_S
            assert await blank.eof()
            assert loop.time() - started <= 0.5 + SWEEP_S
            assert await old.eof()
            assert 1.0 <= loop.time() - started <= 1.0 + SWEEP_S
            trickling.cancel()
            await asyncio.gather(trickling, return_exceptions=True)

    run_in_virtual_time(story())


def test_a_request_that_had_to_wait_is_not_late() -> None:
    """Its body stood still because reading paused: only from its turn on does time run."""
    body = ask()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(1.2)
        peer.send(reply(MESSAGE))
        await peer.request()
        peer.send(reply(MESSAGE))

    async def story() -> None:
        async with upstream(slow) as provider:
            limits = {"head_timeout_s": 0.5, "body_timeout_s": 0.5}
            async with plane(provider.port, edge=limits) as running, await running.client() as client:
                client.send(post(), post(body)[: -len(body)])
                assert (await client.answer()).status == 200
                await asyncio.sleep(0.2)
                client.send(body)
                assert (await client.answer()).status == 200

    run_in_virtual_time(story())


def test_pings_while_the_provider_is_silent_also_with_a_request_waiting() -> None:
    """The first byte of a next request stops neither pings nor the clock of a client that does not read."""

    async def thinking(peer: Peer) -> None:
        await peer.request()
        peer.send(STREAM_HEAD, chunk(START))
        await asyncio.sleep(1.6)
        peer.send(chunk(END), b"0\r\n\r\n")

    async def story() -> None:
        async with upstream(thinking) as provider, plane(provider.port, options={"ping_after_s": 0.4}) as running:
            async with await running.client() as client:
                client.send(post(ask(stream=True)), b"G")
                answer = await client.answer()
                assert answer.body.startswith(START)
                assert answer.body.endswith(END)
                pings = answer.body.removeprefix(START).removesuffix(END)
                assert pings.replace(b"\n", b"").replace(b" ", b"").count(b"event:ping") in (2, 3)
            assert running.settled.settle.kind is SettleKind.EXACT

    run_in_virtual_time(story())


def test_no_ping_inside_an_event_or_among_bytes_that_are_not_understood() -> None:
    half = START[:40]
    compressed = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")

    async def story(head: bytes, first: bytes, rest: bytes) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            peer.send(head, *([chunk(first)] if first else []))
            await asyncio.sleep(1.0)
            peer.send(chunk(rest), b"0\r\n\r\n")

        async with upstream(script) as provider, plane(provider.port, options={"ping_after_s": 0.2}) as running:
            async with await running.client() as client:
                client.send(post(ask(stream=True)))
                answer = await client.answer()
                assert answer.body == first + rest
            kind = SettleKind.EXACT if head is STREAM_HEAD else SettleKind.UPPER
            assert running.settled.settle.kind is kind

    async def stories() -> None:
        await asyncio.gather(
            story(STREAM_HEAD, half, START[40:] + END),
            story(compressed, b"", START + END),
            story(compressed, b"\x1f\x8b\n\n", b"rest"),
        )

    run_in_virtual_time(stories())


def test_a_slow_reader_pauses_the_provider_and_loses_nothing() -> None:
    piece = b"event: x\ndata: " + b"z" * 60_000 + b"\n\n"
    count = 300

    async def fire_hose(peer: Peer) -> None:
        await peer.request()
        peer.send(STREAM_HEAD, chunk(START))
        for _ in range(count):
            peer.send(chunk(piece))
            await peer.drain()
            sent.append(len(piece))
        peer.send(chunk(END), b"0\r\n\r\n")

    sent: list[int] = []

    async def story() -> None:
        async with upstream(fire_hose) as provider, plane(provider.port) as running:
            async with await running.client(receive_buffer_bytes=8_192) as client:
                client.send(post(ask(stream=True)))
                await until(lambda: any(edge.flow.write_paused for edge in running.gate.edges))
                before = -1
                while before != len(sent):
                    before = len(sent)
                    await asyncio.sleep(0.5)
                assert before < count  # nobody reads, so nothing more comes
                (edge,) = running.gate.edges
                assert edge.transport.get_write_buffer_size() < 1_000_000
                answer = await client.answer()
                assert answer.body == START + piece * count + END
            assert running.settled.settle.kind is SettleKind.EXACT

    run(story())


@pytest.mark.parametrize("what", ["stream", "whole", "whole, then a byte", "whole, closing", "large"])
def test_who_does_not_read_is_ended(what: str) -> None:
    """While the answer comes, and when all of it is here and only waits in our memory."""
    big = MESSAGE[:-1] + b" " * 6_000_000 + b"}"

    async def script(peer: Peer) -> None:
        await peer.request()
        if what == "stream":
            peer.send(STREAM_HEAD, chunk(START))
            while True:
                peer.send(chunk(b"event: x\ndata: " + b"z" * 60_000 + b"\n\n"))
                await peer.drain()
        peer.send(reply(big))
        await peer.until_gone()

    async def story() -> None:
        limits = {"stall_timeout_s": 0.75, "keep_alive_s": 60.0}
        options = {"answer_buffer_bytes": 1_000_000 if what == "large" else 8_000_000}
        async with upstream(script) as provider, plane(provider.port, edge=limits, options=options) as running:
            async with await running.client(receive_buffer_bytes=8_192) as client:
                line = (b"connection: close",) if what == "whole, closing" else ()
                client.send(post(ask(stream=what == "stream"), *line))
                if what == "whole, then a byte":
                    await asyncio.sleep(SWEEP_S)
                    client.send(b"G")
                await until(lambda: running.settlements)
                await until(lambda: not running.gate.edges)
            wanted = {"stream": SettleKind.ESTIMATED, "large": SettleKind.UPPER}.get(what, SettleKind.EXACT)
            assert running.settled.settle.kind is wanted

    run_in_virtual_time(story())


def test_who_reads_slowly_but_steadily_is_let() -> None:
    big = MESSAGE[:-1] + b" " * 3_000_000 + b"}"

    async def story() -> None:
        edge = {"stall_timeout_s": 2.0}
        async with (
            upstream(always(reply(big))) as provider,
            plane(provider.port, edge=edge) as running,
            await running.client(receive_buffer_bytes=65_536) as client,
        ):
            client.send(post(None, b"connection: close"))
            received = 0
            while piece := await client.reader.read(40_000):
                received += len(piece)
                await asyncio.sleep(SWEEP_S)
            assert received > len(big)

    run_in_virtual_time(story())


# Shutdown


class Serving:
    """The gateway's own server around a plane, with its drain."""

    def __init__(self, running: Running, directory: Path, drain_s: float) -> None:
        self.port = 0
        self.ready = asyncio.Event()
        config = uvicorn_config(running.gate)
        config.port = 0
        self.server = Server(
            config, running.gate, admin_socket=str(directory / "admin.sock"), drain_s=drain_s, on_ready=self.is_ready
        )
        self.task = asyncio.ensure_future(self.server.serve())

    async def is_ready(self) -> None:
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.ready.set()

    async def client(self) -> Peer:
        await self.ready.wait()
        return await connect(self.port)


def test_a_shutdown_lets_answers_finish(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        _, body = await peer.request()
        if b'"stream": true' in body:
            peer.send(STREAM_HEAD, chunk(START))
            await release.wait()
            peer.send(chunk(END), b"0\r\n\r\n")
        else:
            await release.wait()
            peer.send(reply(MESSAGE))

    async def story() -> None:
        async with upstream(script) as provider, plane(provider.port) as running:
            serving = Serving(running, tmp_path, drain_s=60)
            idle, streaming, whole, half, sending = [await serving.client() for _ in range(5)]
            idle.send(get(b"/v1/models"))
            await idle.answer()
            streaming.send(post(ask(stream=True)))
            whole.send(post())
            half.send(post()[:20])
            sending.send(post()[:-5])
            await until(lambda: len(running.gate.working) == 3)
            await until(lambda: len(running.accounts.holds) == 2)
            serving.server.ask_to_stop()
            assert await idle.eof()
            assert await half.eof()
            with pytest.raises(ConnectionRefusedError):
                await connect(serving.port)
            sending.send(post()[-5:])  # it was being received: it is answered
            await until(lambda: len(running.accounts.holds) == 3)
            release.set()
            assert (await streaming.answer()).body == START + END
            answers = [await client.answer() for client in (whole, sending)]
            assert [answer.body for answer in answers] == [MESSAGE, MESSAGE]
            assert answers[0].headers[b"connection"] == b"close"
            await asyncio.wait_for(serving.task, 30)
            assert [one.settle.kind for one in running.settlements] == [SettleKind.EXACT] * 3
            assert not running.accounts.holds

    run(story())


def test_a_shutdown_ends_what_takes_too_long_and_settles_it(tmp_path: Path) -> None:
    """A stream, a whole answer, one whose client has left, one that waits for a connection."""

    async def script(peer: Peer) -> None:
        _, body = await peer.request()
        if b'"stream": true' in body:
            peer.send(STREAM_HEAD, chunk(START))
        await peer.until_gone()

    async def story() -> None:
        pool = {"max_connections_per_origin": 3}
        async with upstream(script) as provider, plane(provider.port, pool=pool) as running:
            serving = Serving(running, tmp_path, drain_s=0.3)
            streaming, whole, gone, waiting = [await serving.client() for _ in range(4)]
            for number, client in enumerate((streaming, whole, gone, waiting), 1):
                client.send(post(ask(stream=client in (streaming, waiting))))
                await until(lambda number=number: len(running.accounts.holds) == number)
            await until(lambda: len(provider.requests) == 3)
            gone.close()
            serving.server.ask_to_stop()
            stream_answer, whole_answer = await streaming.answer(), await whole.answer()
            assert b"event: error" in stream_answer.body
            assert whole_answer.status == 502
            await asyncio.wait_for(serving.task, 30)
            assert not running.accounts.holds
            assert running.held == 0
            kinds = sorted((one.settle.kind.value, one.hold.streamed) for one in running.settlements)
            assert kinds == [("estimated", True), ("upper", False), ("upper", False), ("voided", True)]

    run(story())


def test_a_new_request_on_an_open_connection_is_refused_while_shutting_down() -> None:
    async def story() -> None:
        async with plane() as running, await running.client() as client:
            running.gate.draining = True
            client.send(post())
            answer = await client.answer()
            assert answer.status == 503
            assert b"shutting_down" in answer.body
            assert answer.headers[b"retry-after"] == b"1"
            assert KEY not in answer.body

    run(story())
