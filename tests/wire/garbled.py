"""Answers of providers with some of their bytes changed: status lines, lengths, chunk sizes, line ends, and the rest.

The law: the client gets one answer that a strict reader finds well-formed, or a stream that is visibly cut, or a 502;
never nothing, never two. The hold is settled once: at nothing only if the client got a refusal. And the gateway lives
on: an honest call behind it all is answered.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.planes.plane import Running, plane
from tests.planes.wire import run, until
from tests.wire.answers import parted
from tests.wire.books import breaches_of, by_session
from tests.wire.caller import WAIT_S, Caller, caller
from tests.wire.identity import RICH
from tests.wire.provider import End, Play, Provider, provider
from tests.wire.strict import MalformedError
from tests.wire.tracks import Track, tracks
from tollhouse.rules.metering import refused_before_work
from tollhouse.terms.events import SettleKind, Settlement

BATCH = 200
AT_ONCE = 16
MAX_EDITS = 4
HONEST = "honest"
_SCRAPS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\n\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"1", b"f", b"-", b"\xff",
    b"0\r\n\r\n", b"0\r\n", b"ffffffffffffffff\r\n", b"10000000000000000\r\n", b"-1\r\n", b"+5\r\n", b"0x5\r\n",
    b"5;a=b\r\n", b"5 \r\n", b"7fffffff\r\n", b"\r\n folded", b"x: y", b"x: y\r\n", b"x : y\r\n", b": y\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: -1\r\n", b"Content-Length: 5, 5\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 1\r\nContent-Length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n", b"Content-Type: text/event-stream\r\n",
    b"Content-Type: text/html\r\n", b"Set-Cookie: a=b\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n",
    b"Upgrade: websocket\r\n", b"Trailer: x\r\n", b"X-Tollhouse-Cost-Usd: 0\r\n", b"Retry-After: 1\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 304 Not\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 ", b"HTTP/1.0 ",
    b"HTTP/2 ", b"HTTP/0.9 ", b"ICY ", b"HTTP/1.1 999 ", b"HTTP/1.1 99 ", b"HTTP/1.1 -1 ", b"HTTP/1.1 2000 ",
    b"data: ", b"event: error\n", b"data: [DONE]\n\n", b'"usage":', b'{"error":{}}', b"x: " + b"y" * 70_000 + b"\r\n",
)  # fmt: skip
_STATUSES = (b"100", b"102", b"199", b"201", b"204", b"205", b"302", b"304", b"400", b"408", b"429", b"499", b"500",
             b"501", b"503", b"529", b"599", b"600", b"000")  # fmt: skip


@dataclass
class Garbled:
    """An answer, what it was before, and how the provider ends behind it."""

    number: int
    track: Track
    wire: bytes
    pieces: list[bytes]
    end: End
    status: int = 0
    """What the client got."""
    fate: str = "unknown"

    @property
    def mark(self) -> str:
        return f"garbled-{self.number}"

    def __str__(self) -> str:
        return f"garbled {self.number} ({self.track}): {self.wire[:400]!r}"


def garbled(number: int) -> Garbled:
    """The garbled answer of this number; the same every time."""
    chance = random.Random(number)
    track = chance.choice(tracks())
    wire = bytearray(track.wire)
    if chance.random() < 0.2:
        wire[9:12] = chance.choice(_STATUSES)
    for _ in range(chance.randint(0, MAX_EDITS)):
        _edit(wire, len(track.head), chance)
    end = End.CLOSE if chance.random() < 0.7 else End.RESET
    return Garbled(number, track, bytes(wire), parted(bytes(wire), chance), end)


def _edit(wire: bytearray, head_bytes: int, chance: random.Random) -> None:
    """Mostly in the head and what frames the body; there between lines, where a scrap may mean something."""
    near = min(len(wire), head_bytes + 40)
    at = chance.randint(0, near if chance.random() < 0.7 else len(wire))
    end = min(len(wire), at + chance.choice((1, 1, 1, 2, 4, 40)))
    kind = chance.randrange(7)
    if kind == 0 and at < len(wire):
        wire[at] ^= 1 << chance.randrange(8)
    elif kind == 1 and at < len(wire):
        wire[at] = chance.randrange(256)
    elif kind == 2:
        del wire[at:end]
    elif kind == 3:
        wire[at:at] = wire[at:end]
    elif kind == 4:
        wire[at:at] = chance.choice(_SCRAPS)
    elif kind == 5:
        del wire[at:]
    else:
        lines = [place + 2 for place in range(len(wire)) if wire[place : place + 2] == b"\r\n"]
        place = chance.choice([0, *lines])
        wire[place:place] = chance.choice(_SCRAPS)


def figures(first: int, count: int) -> dict[str, Any]:
    """What came of the answers of these numbers. There must be no breach."""
    ends: Counter[str] = Counter()
    found: list[str] = []
    for start in range(first, first + count, BATCH):
        answers = [garbled(number) for number in range(start, min(start + BATCH, first + count))]
        found += play(answers)
        ends.update(answer.fate for answer in answers)
    return {"answers": count, **ends, "breaches": found}


def play(answers: Sequence[Garbled]) -> list[str]:
    """Every breach of the law by these answers."""
    found: list[str] = []
    try:
        run(_batch(answers, found))
    except (AssertionError, TimeoutError) as error:
        found.append(f"{answers[0].mark} to {answers[-1].mark}: uncaught: {error!r}")
    return found


async def _batch(answers: Sequence[Garbled], found: list[str]) -> None:
    async with provider() as upstream, plane(upstream.port, budget=RICH) as running:
        waiting = list(answers)[::-1]
        await asyncio.gather(*(_calls(running, upstream, waiting, found) for _ in range(AT_ONCE)))
        await until(lambda: not running.accounts.holds and not running.gate.working, WAIT_S)
        await until(lambda: not running.plane.pool.busy, WAIT_S)
        found += await _honest_call(running, upstream)
        settled = by_session(running)
        found += [f"{one}: {why}" for one in answers if (why := settled_wrongly(one, settled.get(one.mark, [])))]
        found += breaches_of(running)


async def _calls(running: Running, upstream: Provider, waiting: list[Garbled], found: list[str]) -> None:
    while waiting:
        async with caller(running.port) as client:
            while waiting and not client.ended:
                one = waiting.pop()
                client.expect_another()
                upstream.plays[one.mark] = Play(one.pieces, one.end)
                body = one.track.request()
                await client.send([one.track.lane.request(body, one.mark) + body])
                try:
                    await client.answer()
                except (MalformedError, TimeoutError, ValueError) as error:
                    found.append(f"{one}: {type(error).__name__} {error}")
                    break
                if why := _breach(client, one):
                    found.append(f"{one}: {why}")
                one.status = client.status
                one.fate = _fate(client)


def _breach(client: Caller, one: Garbled) -> str:
    if not client.status:
        return f"no answer: {bytes(client.received)!r:.300}"
    if b'"code":"internal_error"' in client.body:
        return "a bug of ours"
    if not 200 <= client.status <= 599:
        return f"status {client.status}"
    if len(client.body) > len(one.wire) and client.status != 502 and b"upstream_" not in client.body:
        return "more than the provider sent"
    names = [name for name, _ in client.fields]
    if framing := {b"set-cookie", b"upgrade", b"trailer", b"keep-alive"} & set(names):
        return f"the client got {framing}"
    if len(client.values(b"x-tollhouse-request-id")) != 1:
        return "not one request id"
    if b"x-tollhouse-cost-usd" in names and names.count(b"x-tollhouse-cost-usd") > 1:
        return "the provider told the cost"
    return ""


def _fate(client: Caller) -> str:
    if not client.whole:
        return "cut"
    if client.status == 502 and b'"code":"upstream_' in client.body:
        return "refused"
    return "cut_in_words" if b'"code":"upstream_' in client.body else "passed"


def settled_wrongly(one: Garbled, settlements: Sequence[Settlement]) -> str:
    if len(settlements) != one.track.lane.posts:
        return f"{len(settlements)} settlements"
    for settlement in settlements:
        settle = settlement.settle
        if settle.kind is SettleKind.VOIDED and not refused_before_work(one.status):
            return f"voided behind {one.status}"
        if settle.kind is SettleKind.UPPER and settle.amount_nusd != settlement.hold.hold_nusd:
            return f"upper at {settle.amount_nusd} of {settlement.hold.hold_nusd}"
        if settle.kind is SettleKind.ESTIMATED:
            return "estimated, though nobody left"
    return ""


async def _honest_call(running: Running, upstream: Provider) -> list[str]:
    track = next(track for track in tracks() if track.name == "anthropic_text.sse")
    upstream.plays[HONEST] = Play([track.wire])
    async with caller(running.port) as client:
        body = track.request()
        await client.send([track.lane.request(body, HONEST) + body])
        await client.answer()
    well = client.whole and bytes(client.body) == track.body
    return [] if well else [f"an honest call behind it: {client.status} {bytes(client.body)!r:.300}"]
