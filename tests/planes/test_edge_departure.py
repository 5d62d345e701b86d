"""The client goes away, at every moment a call has: the provider is stopped in time, and the call settled once."""

import asyncio

import pytest

from tests.dialects.recorded import recording
from tests.planes.plane import MESSAGE, MESSAGE_NUSD, Running, ask, plane, post
from tests.planes.virtual_time import run_in_virtual_time
from tests.planes.wire import STREAM_HEAD, Peer, chunk, reply, run, until, upstream
from tollhouse.terms.events import SettleKind

STOPPED_WITHIN_S = 0.25
EVENTS = [event + b"\n\n" for event in recording("anthropic_text.sse").split(b"\n\n") if event.strip()]


class Moment:
    """An upstream that stops after some events and notes when it was hung up on."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.reached = asyncio.Event()
        self.hung_up = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        await peer.request()
        peer.send(*self.pieces)
        await peer.drain()
        self.reached.set()
        await peer.until_gone()
        self.hung_up.set()


async def leave(running: Running, moment: Moment, wire: bytes, expected: bytes) -> None:
    """Send, take what comes up to the moment, and go."""
    client = await running.client()
    client.send(wire)
    await moment.reached.wait()
    received = b""
    while not received.endswith(expected):
        received += await client.reader.read(65_536)
    client.writer.transport.abort()


@pytest.mark.parametrize("reset", [True, False])
def test_at_every_event_boundary_of_a_stream(reset: bool) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        for count in range(len(EVENTS) + 1):
            moment = Moment(STREAM_HEAD, *[chunk(event) for event in EVENTS[:count]])
            async with upstream(moment) as provider, plane(provider.port) as running:
                client = await running.client()
                client.send(post(ask(stream=True)))
                received = b""
                wanted = chunk(b"".join(EVENTS[:count]))[-20:] if count else b"\r\n\r\n"
                while not received.endswith(wanted):
                    received += await client.reader.read(65_536)
                client.reset() if reset else client.close()
                left_at = loop.time()
                if count < len(EVENTS):
                    await moment.hung_up.wait()
                    assert loop.time() - left_at < STOPPED_WITHIN_S
                    await until(lambda running=running: not running.accounts.holds)
                    settle = running.settled.settle
                    final = b"".join(EVENTS[:count]).count(b"message_delta")
                    assert settle.kind is (SettleKind.EXACT if final else SettleKind.ESTIMATED), count
                    assert settle.code == "client_gone"
                    assert 0 < settle.amount_nusd <= running.settled.hold.hold_nusd
                else:
                    assert running.settled.settle.kind is SettleKind.EXACT

    run_in_virtual_time(story())


def test_before_the_answer_of_a_stream_begins() -> None:
    """Nothing was seen: input by its bound, no more output than cancelling takes."""

    async def story() -> None:
        moment = Moment()
        async with upstream(moment) as provider, plane(provider.port) as running:
            await leave(running, moment, post(ask(stream=True, max_tokens=60_000)), b"")
            async with asyncio.timeout(STOPPED_WITHIN_S):
                await moment.hung_up.wait()
            await until(lambda: not running.accounts.holds)
            settlement = running.settled
            assert settlement.settle.kind is SettleKind.ESTIMATED
            assert settlement.settle.status == 0
            assert settlement.settle.usage.input_tokens >= len(ask())
            assert settlement.settle.amount_nusd < settlement.hold.hold_nusd / 10

    run_in_virtual_time(story())


def test_when_the_provider_bills_on_the_rest_is_read() -> None:
    """Not streamed, or a provider whose meter a cancel does not stop: read to the end, settled exactly."""

    async def story(stream: bool, stops: bool) -> None:
        release = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            if stream:
                peer.send(STREAM_HEAD, chunk(EVENTS[0]))
            await release.wait()
            peer.send(*([chunk(b"".join(EVENTS[1:])), b"0\r\n\r\n"] if stream else [reply(MESSAGE)]))
            await peer.until_gone()

        provider_row = {"cancel_stops_billing": stops}
        async with upstream(script) as provider, plane(provider.port, provider=provider_row) as running:
            client = await running.client()
            client.send(post(ask(stream=stream)))
            await until(lambda: provider.requests)
            client.close()
            await until(lambda: not running.gate.edges)
            assert len(running.gate.working) == 1  # a shutdown waits for it
            release.set()
            await until(lambda: not running.accounts.holds)
            settle = running.settled.settle
            assert (settle.kind, settle.code) == (SettleKind.EXACT, "")
            assert stream or settle.amount_nusd == MESSAGE_NUSD
            assert running.gate.working == []

    async def stories() -> None:
        await story(stream=False, stops=True)
        await story(stream=True, stops=False)

    run(stories())


def test_the_rest_is_not_read_for_ever() -> None:
    async def story() -> None:
        moment = Moment()
        async with upstream(moment) as provider, plane(provider.port, options={"drain_s": 0.3}) as running:
            await leave(running, moment, post(), b"")
            await moment.hung_up.wait()
            await until(lambda: not running.accounts.holds)
            settlement = running.settled
            assert settlement.settle.kind is SettleKind.UPPER
            assert settlement.settle.amount_nusd == settlement.hold.hold_nusd

    run_in_virtual_time(story())


def test_a_compressed_stream_cannot_be_estimated() -> None:
    async def story() -> None:
        moment = Moment(
            STREAM_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"), chunk(b"\x1f\x8b" * 9_000)
        )
        options = {"drain_s": 0.3}
        async with upstream(moment) as provider, plane(provider.port, options=options) as running:
            await leave(running, moment, post(ask(stream=True)), b"\x1f\x8b\r\n")
            await until(lambda: not running.accounts.holds)
            assert running.settled.settle.kind is SettleKind.UPPER

    run_in_virtual_time(story())


def test_a_call_that_waits_for_a_connection_is_never_sent() -> None:
    async def story() -> None:
        moment = Moment()
        pool = {"max_connections_per_origin": 1}
        async with upstream(moment) as provider, plane(provider.port, pool=pool) as running:
            first = await running.client()
            first.send(post())
            await moment.reached.wait()
            second = await running.client()
            second.send(post(ask(max_tokens=7)))
            await until(lambda: len(running.accounts.holds) == 2)
            second.close()
            await until(lambda: len(running.gate.edges) == 1)
            provider.peers[0].reset()  # now its turn comes
            await until(lambda: not running.accounts.holds)
            assert len(provider.requests) == 1
            assert sorted(one.settle.kind for one in running.settlements) == [SettleKind.UPPER, SettleKind.VOIDED]

    run(story())


def test_before_the_body_is_complete_nothing_is_held_or_sent() -> None:
    wire = post(ask(stream=True))

    async def story() -> None:
        async with upstream(Moment()) as provider, plane(provider.port) as running:
            for size in (0, 1, 30, len(wire) - 50, len(wire) - 1):
                client = await running.client()
                client.send(wire[:size])
                await asyncio.sleep(0.01)
                client.close()
            await until(lambda: not running.gate.edges)
            assert provider.connections == 0
            assert running.journal.records == []
            assert [row.code for row in running.refused] == ["client_gone", "client_gone"]

    run(story())


def test_with_requests_waiting_behind() -> None:
    """Only the one that was sent is settled; the others never were."""

    async def story() -> None:
        moment = Moment(STREAM_HEAD, chunk(EVENTS[0]))
        async with upstream(moment) as provider, plane(provider.port) as running:
            await leave(running, moment, post(ask(stream=True)) * 3 + post()[:-4], EVENTS[0] + b"\r\n")
            await moment.hung_up.wait()
            await until(lambda: not running.accounts.holds)
            assert running.settled.settle.kind is SettleKind.ESTIMATED
            assert len(provider.requests) == 1
            assert running.gate.buffered_bytes == 0

    run(story())


def test_counting_tokens() -> None:
    async def story() -> None:
        moment = Moment()
        async with upstream(moment) as provider, plane(provider.port) as running:
            await leave(running, moment, post(path=b"/v1/messages/count_tokens"), b"")
            async with asyncio.timeout(STOPPED_WITHIN_S):
                await moment.hung_up.wait()
            await until(lambda: running.refused)
            assert [row.code for row in running.refused] == ["client_gone"]
            assert running.settlements == []

    run_in_virtual_time(story())


def test_many_at_once_leave_nothing_behind() -> None:
    """A hundred clients, each going at a moment of its own."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(STREAM_HEAD)
            for event in EVENTS:
                peer.send(chunk(event))
                await asyncio.sleep(0.002)
            peer.send(b"0\r\n\r\n")

    async def one(running: Running, number: int) -> None:
        client = await running.client()
        client.send(post(ask(stream=True)))
        await asyncio.sleep(number * 0.0005)
        client.writer.transport.abort()

    async def story() -> None:
        async with upstream(script) as provider, plane(provider.port) as running:
            await asyncio.gather(*[one(running, number) for number in range(100)])
            await until(lambda: not running.gate.edges and not running.gate.working)
            assert not running.accounts.holds
            assert running.held == 0
            holds = [record for record in running.journal.records if hasattr(record, "hold_nusd")]
            assert len(holds) == len(running.settlements) == len({one.hold.attempt_id for one in running.settlements})
            assert not running.plane.pool.busy

    run(story())


def test_who_leaves_while_waiting_for_a_connection_is_waited_for_and_costs_nothing() -> None:
    """A shutdown counts a call until its story is over, also when its client is gone and nothing was sent."""

    async def story() -> None:
        moment = Moment()
        options = {"max_connections_per_origin": 1}
        async with upstream(moment) as provider, plane(provider.port, pool=options) as running:
            first, second = await running.client(), await running.client()
            first.send(post(ask(stream=True)))
            await moment.reached.wait()
            second.send(post(ask()))
            await until(lambda: len(running.accounts.holds) == 2)
            second.writer.transport.abort()
            await until(lambda: len(running.gate.edges) == 1)
            assert len(running.gate.working) == 2
            first.writer.transport.abort()
            await until(lambda: not running.gate.working and not running.accounts.holds)
            assert running.held == 0
            assert SettleKind.VOIDED in [one.settle.kind for one in running.settlements]

    run(story())
