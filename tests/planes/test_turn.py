"""The end of a turn: records before bytes, many in one write; what cannot be recorded is not sent, and nobody waits for
ever.
"""

import asyncio
import re
from typing import Any

from tests.planes.plane import ListJournal, Running, ask, plane, post
from tests.planes.records import hold, settle
from tests.planes.wire import Peer, reply, run, upstream
from tollhouse.dataplane.turn import Turn
from tollhouse.terms.events import SettleKind
from tollhouse.terms.holds import Hold
from tollhouse.upstream.connection import Call

ANSWER = reply(b'{"type":"message","model":"claude-x","usage":{"input_tokens":1,"output_tokens":1}}')


class Books(ListJournal):
    """Tells what happened in which order."""

    def __init__(self, told: list[Any]) -> None:
        super().__init__()
        self.told = told

    def flush(self) -> None:
        self.told.append([record.attempt_id for record in self.entered])
        super().flush()


class Pipe(asyncio.Transport):
    def __init__(self, told: list[Any]) -> None:
        super().__init__()
        self.told = told
        self.closing = False

    def write(self, data: Any) -> None:
        self.told.append(data)

    def is_closing(self) -> bool:
        return self.closing


class Carrier:
    """A connection that notes what it sends, and what fails."""

    def __init__(self, told: list[Any]) -> None:
        self.told = told

    def transmit(self, call: Call) -> None:
        self.told += call.message

    def fail(self, error: Exception) -> None:
        self.told.append(getattr(error, "code", None))


def test_all_records_of_a_turn_are_one_write_and_come_before_all_bytes() -> None:
    told: list[Any] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        turn = Turn(Books(told), loop)
        for number in range(3):
            turn.append(hold(number))
            call = Call()
            call.message = (b"call %d" % number,)
            call.connection = Carrier(told)  # type: ignore[assignment]
            turn.call(Hold(hold(number)), call)
        turn.append(settle(7))
        turn.answer(Pipe(told), b"answer")
        assert told == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(story())
    records = [*(hold(number).attempt_id for number in range(3)), settle(7).attempt_id]
    assert told == [records, b"call 0", b"call 1", b"call 2", b"answer"]


def test_bytes_that_cannot_wait_take_along_what_waits() -> None:
    told: list[Any] = []

    async def story() -> None:
        turn = Turn(Books(told), asyncio.get_running_loop())
        pipe = Pipe(told)
        turn.write(pipe, b"event")
        turn.append(settle(1))
        turn.answer(pipe, b"first")
        turn.write(pipe, b"second")
        turn.answer(pipe, b"third: nothing is owed to the journal")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(story())
    assert told == [b"event", [settle(1).attempt_id], b"first", b"second", b"third: nothing is owed to the journal"]


def test_who_left_meanwhile_is_not_written_to() -> None:
    told: list[Any] = []

    async def story() -> None:
        turn = Turn(Books(told), asyncio.get_running_loop())
        gone, here = Pipe(told), Pipe(told)
        turn.append(settle(1))
        turn.answer(gone, b"to nobody")
        turn.answer(here, b"to somebody")
        gone.closing = True
        turn.end()

    run(story())
    assert told == [[settle(1).attempt_id], b"to somebody"]


def test_a_hold_that_is_lost_at_the_end_of_the_turn_is_never_sent() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def provider(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            peer.send(ANSWER)

    async def story() -> None:
        async with upstream(provider) as provides, plane(provides.port) as running:
            client = await running.client()
            client.send(post(ask()))
            assert (await client.answer()).status == 200  # now there is an idle connection to the provider
            running.journal.broken = True
            client.send(post(ask()))
            refused = await client.answer()
            assert refused.status == 503
            assert b"journal_unavailable" in refused.body
            assert len(seen) == 1
            assert running.held == 0
            assert not running.accounts.holds
            assert [one.settle.kind for one in running.settlements] == [SettleKind.EXACT, SettleKind.VOIDED]
            running.journal.broken = False
            client.send(post(ask()))
            assert (await client.answer()).status == 200
            assert len(running.journal.records) == 4  # of the two that were made

    run(story())


def test_a_call_whose_client_leaves_before_the_end_of_the_turn_costs_nothing() -> None:
    async def story() -> None:
        async with upstream(_silent) as provides, plane(provides.port) as running:
            await _warm(running)
            waiting = running.gate.turn
            client = await running.client()
            client.send(post(ask()))
            while not waiting._calls:
                await asyncio.sleep(0)
            (edge,) = [one for one in running.gate.edges if one.working]
            edge.connection_lost(None)
            edge.transport.abort()
            waiting.end()
            while running.accounts.holds:
                await asyncio.sleep(0)
            assert running.settlements[-1].settle.kind is SettleKind.VOIDED
            assert running.held == 0

    run(story())


def test_bytes_from_the_provider_before_the_request_left_are_not_its_answer() -> None:
    answered: list[int] = []

    async def provider(peer: Peer) -> None:
        answered.append(0)
        while True:
            await peer.request()
            answered[-1] += 1
            peer.send(ANSWER)

    async def story() -> None:
        async with upstream(provider) as provides, plane(provides.port) as running:
            await _warm(running)
            client = await running.client()
            client.send(post(ask()))
            while not running.gate.turn._calls:
                await asyncio.sleep(0)
            call = running.gate.turn._calls[0][1]
            assert call.connection is not None
            call.connection.data_received(reply(b'{"forged":true}'))
            answer = await client.answer()
            assert answer.status == 200
            assert b"forged" not in answer.body
            assert answered == [1, 1]  # on a connection of its own

    run(story())


def test_answers_on_one_connection_keep_their_order() -> None:
    async def story() -> None:
        async with upstream(_silent) as provides, plane(provides.port) as running:
            client = await running.client()
            client.send(post(ask()), b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n", post(b"{"), b"GARBAGE\r\n\r\n")
            received = await client.reader.read()
            assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200", b"400"], received
            assert received.index(b"claude-x") < received.index(b"/hello") < received.index(b"invalid_json")

    run(story())


async def _silent(peer: Peer) -> None:
    await peer.request()
    peer.send(ANSWER)
    await peer.until_gone()


async def _warm(running: Running) -> None:
    """One call, so that a connection to the provider is at rest."""
    client = await running.client()
    client.send(post(ask()))
    assert (await client.answer()).status == 200
    client.close()
