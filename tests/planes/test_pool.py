"""The pool against an upstream that does what a test says: reuse, the keep-alive race, timeouts, every way to fail."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.planes.virtual_time import run_in_virtual_time
from tests.planes.wire import Peer, always, chunk, reply, run, silent, until, upstream
from tollhouse.terms.errors import (
    UpstreamClosed,
    UpstreamError,
    UpstreamGarbled,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from tollhouse.terms.holds import ZeroHold
from tollhouse.upstream.connection import Call
from tollhouse.upstream.origin import Origin
from tollhouse.upstream.pool import SWEEP_S, Pool, PoolOptions

PERMIT = ZeroHold("test")
REQUEST = b"POST /x HTTP/1.1\r\nhost: upstream\r\ncontent-length: 2\r\n\r\n{}"
OK = reply(b"fine")


class Heard(Call):
    """A call that keeps everything it is told."""

    def __init__(self, message: bytes) -> None:
        super().__init__()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.message = (message,)
        self.heads: list[tuple[int, list[tuple[bytes, bytes]]]] = []
        self.pieces: list[bytes] = []

    def head(self, status: int, names: tuple[bytes, ...], values: tuple[bytes, ...]) -> None:
        self.heads.append((status, list(zip(names, values, strict=True))))

    def body(self, data: bytes) -> None:
        assert self.heads
        self.pieces.append(data)

    def over(self, error: Exception | None) -> None:
        if self.done.done():  # a test may have cancelled it
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
            self.done.exception()  # nobody need ask for it

    @property
    def status(self) -> int:
        ((status, _),) = self.heads
        return status

    @property
    def text(self) -> bytes:
        return b"".join(self.pieces)


async def begin(pool: Pool, origin: Origin, call: Call) -> None:
    starting = pool.start(PERMIT, origin, call)
    if starting is not None:
        try:
            await starting
        except asyncio.CancelledError:
            call.abort(UpstreamClosed("given up", sent=False))
            raise


async def start(pool: Pool, origin: Origin, message: bytes = REQUEST) -> tuple[Heard, Heard]:
    heard = Heard(message)
    await begin(pool, origin, heard)
    return heard, heard


async def fetch(pool: Pool, origin: Origin, message: bytes = REQUEST) -> Heard:
    call, heard = await start(pool, origin, message)
    await call.done
    return heard


def at(port: int, **changes: Any) -> Origin:
    return Origin("127.0.0.1", port, **changes)


class Pools:
    """A pool that is closed at the end, with nothing left in it."""

    def __init__(self, **options: Any) -> None:
        self.pool = Pool(PoolOptions(**options))

    async def __aenter__(self) -> Pool:
        return self.pool

    async def __aexit__(self, *_: object) -> None:
        self.pool.close()
        await until(lambda: not self.pool.busy and not self.pool.tasks)
        for slot in self.pool._slots.values():
            assert (slot.connecting, len(slot.open), len(slot.idle), len(slot.waiting)) == (0, 0, 0, 0)


async def failure(story: Coroutine[Any, Any, Any]) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await story
    return caught.value


def standing(pool: Pool) -> dict[str, int]:
    (found,) = pool.standing().values()
    return found


def test_a_connection_is_used_again() -> None:
    async def story() -> None:
        async with upstream(always(OK)) as provider, Pools() as pool:
            origin = at(provider.port)
            for _ in range(5):
                heard = await fetch(pool, origin)
                assert (heard.status, heard.text) == (200, b"fine")
            assert provider.connections == 1
            assert standing(pool) == {"open": 1, "idle": 1, "waiting": 0}
            await asyncio.gather(*[fetch(pool, origin) for _ in range(4)])
            assert provider.connections == 4

    run(story())


KEPT = {
    "interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + OK,
        b"fine",
        True,
    ),
    "chunked": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n", b"fine", True),
    "trailers": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\nx: y\r\n\r\n", b"fine", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "an empty body": (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", b"", True),
    "closing": (reply(b"fine", 200, b"connection: close"), b"fine", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nfine", b"fine", False),
    "something behind it": (OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"fine", False),
    "half of something behind it": (OK + b"HTTP/1.1 200", b"fine", False),
    "garbage behind it": (OK + b"garbage", b"fine", False),
    "something behind the last chunk": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\nHTTP",
        b"fine",
        False,
    ),
    "a body of no content": (b"HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil", b"", False),
}


@pytest.mark.parametrize("bytewise", [False, True])
def test_only_a_clean_connection_is_used_again(bytewise: bool) -> None:
    """The next call never hears what came behind an answer."""

    async def story() -> None:
        for name, (wire, text, kept) in KEPT.items():

            async def script(peer: Peer, wire: bytes = wire) -> None:
                while True:
                    await peer.request()
                    for piece in [wire[at : at + 1] for at in range(len(wire))] if bytewise else [wire]:
                        peer.send(piece)
                        if bytewise:
                            await asyncio.sleep(0)

            async with upstream(script) as provider, Pools() as pool:
                heard = await fetch(pool, at(provider.port))
                assert heard.text == text, name
                await asyncio.sleep(0.01)
                heard = await fetch(pool, at(provider.port))
                assert heard.text == text, name
                origin = at(provider.port)
                for _ in range(2):
                    assert (await fetch(pool, origin)).text == text, name
                    await asyncio.sleep(0.005)
                assert provider.connections == (3 if kept else 4), name

    run(story())


def test_an_answer_that_lasts_until_the_connection_ends() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf ")
        await asyncio.sleep(0.02)
        peer.send(b"and half")

    async def reset(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf ")
        await asyncio.sleep(0.02)
        peer.reset()

    async def story() -> None:
        async with upstream(script) as provider, Pools() as pool:
            origin = at(provider.port)
            assert (await fetch(pool, origin)).text == b"half and half"
            provider.script = reset
            assert isinstance(await failure(fetch(pool, origin)), UpstreamClosed)
            assert provider.connections == 2

    run(story())


GARBLED = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "HTTP/2 frame": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status of one's own": b"HTTP/1.1 999 Hm\r\ncontent-length: 0\r\n\r\n",
    "both lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
    "a length with a sign": b"HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nabc",
    "a bad chunk size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    "a chunk longer than it says": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
    "NUL in a header": b"HTTP/1.1 200 OK\r\na: b\x00\r\n\r\n",
    "a folded header": b"HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    "a huge head": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 2_000,
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000,
}


def test_what_is_not_an_answer() -> None:
    async def story() -> None:
        async with Pools(max_head_bytes=4_096) as pool:
            for name, wire in GARBLED.items():
                for close in (False, True):

                    async def script(peer: Peer, wire: bytes = wire, close: bool = close) -> None:
                        await peer.request()
                        peer.send(wire)
                        if not close:
                            await peer.until_gone()

                    async with upstream(script) as provider:
                        error = await failure(fetch(pool, at(provider.port)))
                        assert isinstance(error, UpstreamGarbled), (name, error)
                        assert error.sent
                        assert len(provider.requests) == 1

    run(story())


@pytest.mark.parametrize("how", ["close", "reset"])
def test_cut_at_every_byte(how: str) -> None:
    """Of a plain and of a chunked answer: what came is heard, the end is an error, and nothing is sent again."""
    answers = [
        OK,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"fi") + chunk(b"ne") + b"0\r\n\r\n",
    ]

    async def story() -> None:
        async with Pools() as pool:
            for wire in answers:
                for size in range(len(wire)):

                    async def script(peer: Peer, part: bytes = wire[:size]) -> None:
                        await peer.request()
                        peer.send(part)
                        if how == "reset":
                            await asyncio.sleep(0)
                            peer.reset()

                    async with upstream(script) as provider:
                        call, heard = await start(pool, at(provider.port))
                        with pytest.raises(UpstreamClosed):
                            await call.done
                        assert b"fine".startswith(heard.text)
                        assert len(provider.requests) == 1

    run(story())


# The keep-alive race


@pytest.mark.parametrize("size", [2, 3_000_000])
def test_a_connection_that_died_in_keeping_is_replaced_once(size: int) -> None:
    """The request goes out again, whole, on a new connection."""
    message = b"POST /x HTTP/1.1\r\nhost: upstream\r\ncontent-length: %d\r\n\r\n%b" % (size, b"x" * size)

    async def dies(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        if peer.upstream.connections == 1:  # type: ignore[attr-defined]
            with_body = await peer.reader.read(1)
            assert with_body
            peer.reset()
        else:
            await peer.until_gone()

    async def story() -> None:
        async with upstream(dies) as provider, Pools() as pool:
            origin = at(provider.port)
            await fetch(pool, origin)
            assert (await fetch(pool, origin, message)).text == b"fine"
            assert provider.connections == 2
            assert provider.requests[-1][1] == b"x" * size
            assert standing(pool) == {"open": 1, "idle": 1, "waiting": 0}

    run(story())


def test_an_idle_connection_that_was_closed_is_not_used() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)

    async def story() -> None:
        async with upstream(script) as provider, Pools() as pool:
            origin = at(provider.port)
            for number in range(1, 4):
                await fetch(pool, origin)
                await until(lambda: standing(pool)["open"] == 0)
                assert provider.connections == number

    run(story())


@pytest.mark.parametrize("case", ["fresh", "a byte came", "too late", "twice"])
def test_otherwise_nothing_is_sent_again(case: str) -> None:
    async def script(peer: Peer) -> None:
        first = peer.upstream.connections == 1  # type: ignore[attr-defined]
        if case != "fresh" and first:
            await peer.request()
            peer.send(OK)
        await peer.request()
        if case == "a byte came":
            peer.send(b"H")
            await asyncio.sleep(0.02)
        elif case == "too late":
            await asyncio.sleep(0.3)
        peer.reset()

    async def story() -> None:
        async with upstream(script) as provider, Pools(stale_retry_s=0.2) as pool:
            origin = at(provider.port)
            if case != "fresh":
                await fetch(pool, origin)
            error = await failure(fetch(pool, origin))
            assert isinstance(error, UpstreamClosed)
            assert error.sent
            assert len(provider.requests) == {"fresh": 1, "twice": 3}.get(case, 2)

    run_in_virtual_time(story())


def test_what_may_have_been_sent_is_not_said_to_be_unsent() -> None:
    """The kept connection dies and no new one can be had."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await peer.request()
        peer.reset()

    async def story() -> None:
        async with upstream(script) as provider, Pools() as pool:
            origin = at(provider.port)
            await fetch(pool, origin)
            provider.stop_listening()
            error = await failure(fetch(pool, origin))
            assert isinstance(error, UpstreamUnreachable)
            assert error.sent

    run(story())


# Time


def test_every_timeout() -> None:
    async def head_only(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        await peer.until_gone()

    async def drip(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n")
        while True:
            peer.send(b".")
            await asyncio.sleep(0.05)

    async def one(script: Any, phase: str, **options: float) -> None:
        loop = asyncio.get_running_loop()
        async with upstream(script) as provider, Pools(**options) as pool:
            started = loop.time()
            error = await failure(fetch(pool, at(provider.port)))
            assert isinstance(error, UpstreamTimeout)
            assert (error.phase, error.sent) == (phase, True)
            assert 0.4 <= loop.time() - started <= 0.5 + 2 * SWEEP_S
            assert standing(pool)["open"] == 0

    async def story() -> None:
        await asyncio.gather(
            one(silent, "first_byte", first_byte_timeout_s=0.4),
            one(head_only, "idle", idle_timeout_s=0.4),
            one(drip, "total", total_timeout_s=0.5, idle_timeout_s=0.3),
        )

    run_in_virtual_time(story())


def test_connecting_in_vain() -> None:
    async def story() -> None:
        async with upstream() as provider, Pools() as patient, Pools(connect_timeout_s=0.3) as pool:
            provider.stop_listening()
            error = await failure(fetch(patient, at(provider.port)))
            assert isinstance(error, UpstreamUnreachable)
            assert not error.sent
            error = await failure(fetch(pool, Origin("name.invalid", 80)))
            assert isinstance(error, UpstreamUnreachable | UpstreamTimeout)
            assert not error.sent
            async with FullBacklog() as port:
                error = await failure(fetch(pool, at(port)))
            assert isinstance(error, UpstreamTimeout)
            assert (error.phase, error.sent) == ("connect", False)

    run(story())


def test_idle_connections_are_closed_in_time() -> None:
    async def story() -> None:
        async with upstream(always(OK)) as provider, Pools(keep_alive_s=60) as pool:
            short, long = at(provider.port, keep_alive_s=0.3), at(provider.port)
            await fetch(pool, short)
            await fetch(pool, long)
            await asyncio.sleep(0.3 + 2 * SWEEP_S)
            assert [len(pool._slots[origin].open) for origin in (short, long)] == [0, 1]

    run_in_virtual_time(story())


def test_a_retired_origin_is_forgotten_once_its_calls_are_over() -> None:
    async def story() -> None:
        gate = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            peer.send(OK[:-1])
            await gate.wait()
            peer.send(OK[-1:])

        async with upstream(script) as provider, upstream(always(OK)) as other, Pools() as pool:
            slow, idle, kept = at(provider.port), at(other.port), at(other.port)
            call, heard = await start(pool, slow)
            await fetch(pool, idle)
            await fetch(pool, kept)
            await until(lambda: heard.pieces)
            for origin in (slow, idle):
                pool.retire(origin)
            await asyncio.sleep(2 * SWEEP_S)
            assert set(pool._slots) == {slow, kept}
            gate.set()
            await call.done
            assert heard.text == b"fine"
            await asyncio.sleep(0.1)
            assert (await fetch(pool, kept)).text == b"fine"
            await asyncio.sleep(35.0)  # what was idle is closed in time, and then the origin goes
            assert set(pool._slots) == {kept}
            pool.retire(at(1))  # never called

    run_in_virtual_time(story())


def test_a_paused_call_is_neither_idle_nor_heard() -> None:
    """Back-pressure: the provider cannot send on, the idle clock stands, and nothing is lost."""
    size = 40_000_000
    sent = 0
    paused = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            peer.send(b"z" * 40_000)
            sent += 40_000
            await peer.drain()
            await paused.wait()

    async def story() -> None:
        async with upstream(script) as provider, Pools(idle_timeout_s=2.0) as pool:
            call, heard = await start(pool, at(provider.port))
            await until(lambda: heard.pieces)
            call.pause()
            call.pause()
            paused.set()
            await asyncio.sleep(5.0)
            held = len(heard.text)
            assert held <= sent < size
            await asyncio.sleep(0.1)
            assert len(heard.text) == held
            call.resume()
            await call.done
            assert len(heard.text) == size

    run_in_virtual_time(story())


def test_a_connection_given_back_while_paused_is_read_again() -> None:
    async def story() -> None:
        async with upstream(always(OK)) as provider, Pools() as pool:
            origin = at(provider.port)
            call, heard = await start(pool, origin)
            original = heard.body

            def body(data: bytes) -> None:
                call.pause()
                original(data)

            heard.body = body  # type: ignore[method-assign]
            await call.done
            assert (await fetch(pool, origin)).text == b"fine"
            assert provider.connections == 1

    run(story())


# The cap and the queue


def test_the_cap_is_kept_and_the_queue_is_served_in_order() -> None:
    async def slow(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.005)
            peer.send(OK)

    async def story() -> None:
        async with upstream(slow) as provider, Pools() as pool:
            origin = at(provider.port, max_connections=3)
            done: list[int] = []

            async def one(number: int) -> None:
                await fetch(pool, origin)
                done.append(number)

            tasks = []
            for number in range(30):
                tasks.append(asyncio.ensure_future(one(number)))
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)
            assert provider.connections == 3
            assert all(abs(place - number) < 3 for place, number in enumerate(done))

    run(story())


def test_the_queue_is_served_in_order_also_when_connections_end() -> None:
    """A free place goes to who waits, never to a newcomer."""

    async def once(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.005)
        peer.send(reply(b"fine", 200, b"connection: close"))

    async def story() -> None:
        async with upstream(once) as provider, Pools() as pool:
            origin = at(provider.port, max_connections=1)
            done: list[int] = []

            async def one(number: int) -> None:
                await fetch(pool, origin)
                done.append(number)
                if number < 5:
                    newcomers.append(asyncio.ensure_future(one(number + 100)))

            newcomers: list[asyncio.Future[None]] = []
            tasks = []
            for number in range(10):
                tasks.append(asyncio.ensure_future(one(number)))
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)
            await asyncio.gather(*newcomers)
            assert done == [*range(10), 100, 101, 102, 103, 104]
            assert provider.connections == 15

    run(story())


def test_the_queue_is_bounded() -> None:
    async def story() -> None:
        async with upstream(silent) as provider, Pools(max_waiting_per_origin=2, connect_timeout_s=0.3) as pool:
            origin = at(provider.port, max_connections=1)
            call, _ = await start(pool, origin)
            waiting = [asyncio.ensure_future(failure(start(pool, origin))) for _ in range(2)]
            await asyncio.sleep(0)
            error = await failure(start(pool, origin))
            assert isinstance(error, UpstreamUnreachable)
            assert "max_waiting_per_origin" in str(error)
            for error in await asyncio.gather(*waiting):
                assert isinstance(error, UpstreamTimeout)
                assert (error.phase, error.sent) == ("connect", False)
            assert standing(pool)["waiting"] == 0
            call.abort(UpstreamClosed("enough", sent=True))
            await failure_of(call)

    run_in_virtual_time(story())


async def failure_of(call: Call) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await call.done
    return caught.value


@pytest.mark.parametrize("ends", ["kept", "closed", "reset"])
def test_a_place_handed_to_who_gave_up_is_passed_on(ends: str) -> None:
    """Cancelled at the very moment of the hand-over, for every number of loop turns in between."""
    answer = OK if ends == "kept" else reply(b"fine", 200, b"connection: close")

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await release.wait()
            peer.reset() if ends == "reset" else peer.send(answer)

    async def once(turns: int) -> None:
        async with upstream(script) as provider, Pools() as pool:
            release.clear()
            origin = at(provider.port, max_connections=1)
            call, _ = await start(pool, origin)
            first, second = (asyncio.ensure_future(fetch(pool, origin)) for _ in range(2))
            await asyncio.sleep(0.002)
            assert standing(pool)["waiting"] == 2
            release.set()
            await asyncio.wait([call.done])
            if ends == "reset":
                call.done.exception()
                release.clear()
                asyncio.get_running_loop().call_later(0.05, release.set)
            for _ in range(turns):
                await asyncio.sleep(0)
            first.cancel()
            result = (await asyncio.gather(first, second, return_exceptions=True))[1]
            assert isinstance(result, UpstreamClosed if ends == "reset" else Heard)
            await until(lambda: standing(pool)["open"] == standing(pool)["idle"])
            assert pool._slots[origin].connecting == 0

    async def story() -> None:
        for turns in range(8):
            await once(turns)

    release = asyncio.Event()
    run(story())


def test_a_failed_connect_gives_its_place_to_who_waits() -> None:
    async def story() -> None:
        async with FullBacklog() as port, Pools(connect_timeout_s=0.3) as pool:
            origin = at(port, max_connections=1)
            first = asyncio.ensure_future(failure(start(pool, origin)))
            await asyncio.sleep(0.1)
            second = asyncio.ensure_future(failure(start(pool, origin)))
            await first
            assert pool._slots[origin].connecting == 1
            assert isinstance(await second, UpstreamTimeout)
            assert pool._slots[origin].connecting == 0

    run_in_virtual_time(story())


# Giving up


def test_abort_at_every_moment() -> None:
    gone = UpstreamClosed("the client is gone", sent=True)

    async def story() -> None:
        async with upstream(silent) as provider, Pools() as pool:
            origin = at(provider.port, max_connections=1)
            unsent = Heard(REQUEST)
            unsent.abort(UpstreamClosed("early", sent=True))
            await begin(pool, origin, unsent)
            assert not (await failure_of(unsent)).sent
            call, _ = await start(pool, origin)
            waiting = Heard(REQUEST)
            task = asyncio.ensure_future(begin(pool, origin, waiting))
            await asyncio.sleep(0.02)
            waiting.abort(UpstreamClosed("while waiting", sent=True))
            call.abort(gone)
            call.abort(gone)
            assert (await failure_of(call)) is gone
            await task
            assert not (await failure_of(waiting)).sent
            call.pause()
            call.resume()
            assert len(provider.requests) <= 1

    run(story())


def test_closing_ends_everything() -> None:
    async def story() -> None:
        async with upstream(silent) as provider:
            pool = Pool(PoolOptions())
            origin = at(provider.port, max_connections=1)
            call, _ = await start(pool, origin)
            waiting = [asyncio.ensure_future(failure(start(pool, origin))) for _ in range(3)]
            await until(lambda: provider.requests)
            pool.close()
            assert (await failure_of(call)).sent
            assert [error.sent for error in await asyncio.gather(*waiting)] == [False] * 3
            assert not (await failure(start(pool, origin))).sent
            await asyncio.sleep(0.02)
            assert standing(pool) == {"open": 0, "idle": 0, "waiting": 0}
            assert provider.connections == 1

    run(story())


class FullBacklog:
    """A listening socket whose queue is full: connecting to it hangs."""

    async def __aenter__(self) -> int:
        self.server = socket.socket()
        self.server.bind(("127.0.0.1", 0))
        self.server.listen(0)
        self.fillers = []
        port: int = self.server.getsockname()[1]
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            self.fillers.append(filler)
        await asyncio.sleep(0.01)
        return port

    async def __aexit__(self, *_: object) -> None:
        for one in (*self.fillers, self.server):
            one.close()
