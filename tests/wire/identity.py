"""Byte identity, end to end over sockets: generated requests and answers through a gateway, compared on both sides.

What the client sent with what the provider got (`asks` says what may differ), what the provider sent with what the
client got (`answers`), both in pieces that have nothing to do with their meaning. Bodies are compared by their hashes.
"""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tests.planes.plane import BUDGET, FACTS, Running, plane
from tests.planes.wire import run
from tests.wire import answers, asks
from tests.wire.answers import Answer
from tests.wire.asks import Ask
from tests.wire.books import breaches_of, by_session
from tests.wire.caller import Caller, caller
from tests.wire.lanes import LANES, Lane
from tests.wire.provider import End, Play, Provider, provider
from tests.wire.strict import MalformedError
from tollhouse.rules.prices import rate_card
from tollhouse.terms.events import SettleKind, Settlement
from tollhouse.terms.usage import Usage

RICH = msgspec.structs.replace(BUDGET, limit=10**15)
"""A million dollars: room for every call of these tests, and for no dear cap."""
SEARCHING = msgspec.structs.replace(
    FACTS, card=rate_card(version="test", source="test", standard=FACTS.card.standard, web_search_nusd=10_000_000)
)
"""Models that search at a known fee."""
BATCH = 250
AT_ONCE = 16
SHOWN = 20
"""Breaches that are told in words."""


@dataclass
class Case:
    """One exchange, made from its number alone."""

    number: int
    ask: Ask
    answer: Answer
    pieces: list[bytes]
    """What the client writes."""

    @property
    def mark(self) -> str:
        return f"case-{self.number}"


def case(number: int, lanes: Sequence[Lane] = LANES) -> Case:
    chance = random.Random(number)
    ask = asks.generate(lanes[number % len(lanes)], chance)
    head = ask.lane.request(ask.body, f"case-{number}", *ask.lines, query=ask.query, chunked=ask.chunked)
    body = ask.body
    if ask.chunked:
        body = b"".join(answers.chunk(part) for part in answers.parted(body, chance)) + answers.END_CHUNK
    return Case(number, ask, answers.generate(ask, chance), answers.parted(head + body, chance))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Ledger:
    """What was counted, and what was wrong in words."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.told: list[str] = []

    def wrong(self, figure: str, case: Case, why: str) -> None:
        self.counted[figure] += 1
        self.told.append(f"{figure}: seed {case.number} ({case.ask.lane.name}): {why}")


def figures(count: int, seed: int) -> dict[str, int | list[str]]:
    """`count` exchanges, the first made from `seed`. Everything but the first two figures must be 0."""
    ledger = Ledger()
    for first in range(seed, seed + count, BATCH):
        cases = [case(number) for number in range(first, min(first + BATCH, seed + count))]
        run(_batch(cases, ledger))
    counted = ledger.counted
    return {
        "bodies": counted["bodies"],
        "streams": counted["streams"],
        **{
            name: counted[name]
            for name in ("requests_differing", "answers_differing", "headers_lost", "settled_wrongly")
        },
        "breaches": ledger.told[:SHOWN],
    }


async def _batch(cases: list[Case], ledger: Ledger) -> None:
    async with provider() as upstream, plane(upstream.port, budget=RICH, facts=SEARCHING) as running:
        waiting = cases[::-1]
        await asyncio.gather(*(_calls(running, upstream, waiting, ledger) for _ in range(AT_ONCE)))
        _check_books(running, upstream, cases, ledger)


async def _calls(running: Running, upstream: Provider, waiting: list[Case], ledger: Ledger) -> None:
    """One user's calls, one after another on one connection for as long as it is kept."""
    while waiting:
        async with caller(running.port) as client:
            while waiting and not client.ended:
                one = waiting.pop()
                client.expect_another()
                await _exchange(client, upstream, one, ledger)


async def _exchange(client: Caller, upstream: Provider, one: Case, ledger: Ledger) -> None:
    answer = one.answer
    play = Play(answer.pieces, End.KEEP if answer.keeps else End.CLOSE)
    upstream.plays[one.mark] = play
    await client.send(one.pieces)
    try:
        await client.answer()
    except (MalformedError, TimeoutError) as error:
        ledger.wrong("answers_differing", one, f"{type(error).__name__} {error}")
        client.leave(reset=False)
        return
    ledger.counted["streams" if one.ask.stream else "bodies"] += 1
    _compare_request(client, play, one, ledger)
    if client.status != answer.status or not client.whole or digest(bytes(client.body)) != digest(answer.body):
        where = _difference(bytes(client.body), answer.body)
        ledger.wrong("answers_differing", one, f"{client.status} for {answer.status}, whole: {client.whole}, {where}")
    lost = _lost(answer.lines, client.fields)
    if lost:
        ledger.wrong("headers_lost", one, f"the client did not get {lost}")


def _compare_request(client: Caller, play: Play, one: Case, ledger: Ledger) -> None:
    ask = one.ask
    if len(play.requests) != 1:
        ledger.wrong(
            "requests_differing", one, f"{len(play.requests)} requests; {client.status} {bytes(client.body)!r:.300}"
        )
        return
    told = b", ".join(client.values(b"x-tollhouse-max-tokens")).decode()
    got, wanted = play.requests[0].body, ask.expected()
    if told != ask.cap or digest(got) != digest(wanted) or not asks.same_but(ask.body, got, ask.lane):
        ledger.wrong("requests_differing", one, f"cap {told!r} for {ask.cap!r}, {_difference(got, wanted)}")
    if play.requests[0].target != ask.lane.target + ask.query:
        ledger.wrong("requests_differing", one, f"asked for {play.requests[0].target!r}")
    lost = _lost(ask.lines, play.requests[0].fields)
    if lost:
        ledger.wrong("headers_lost", one, f"the provider did not get {lost}")


def _difference(got: bytes, wanted: bytes) -> str:
    """Where two bodies part."""
    pairs = enumerate(zip(got, wanted, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(got), len(wanted)))
    near = slice(max(0, at - 40), at + 80)
    return f"at byte {at} of {len(got)} and {len(wanted)}: {got[near]!r} for {wanted[near]!r}"


def _lost(lines: Sequence[bytes], fields: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """The lines that are not among these fields, in this order."""
    coming = iter(fields)
    return [
        line for line in lines if (line.partition(b":")[0].lower(), line.partition(b":")[2].strip(b" \t")) not in coming
    ]


def _check_books(running: Running, upstream: Provider, cases: list[Case], ledger: Ledger) -> None:
    """Each call that costs is settled once, exactly where its usage was told."""
    settled = by_session(running)
    for one in cases:
        if why := _settled_wrongly(one, settled.get(one.mark, [])):
            ledger.wrong("settled_wrongly", one, why)
    for breach in [*breaches_of(running), *upstream.wrong]:
        ledger.wrong("settled_wrongly", cases[0], breach)


def _settled_wrongly(one: Case, settlements: list[Settlement]) -> str:
    if len(settlements) != one.ask.lane.posts:
        return f"{len(settlements)} settlements"
    for settlement in settlements:
        settle = settlement.settle
        if one.answer.told:
            if settle.kind is not SettleKind.EXACT or settle.usage != Usage(
                answers.KNOWN_IN, output_tokens=answers.KNOWN_OUT
            ):
                return f"{settle.kind} {settle.usage}, though its usage was told"
        elif settle.kind is SettleKind.VOIDED:
            if not 400 <= one.answer.status < 500:
                return f"voided behind {one.answer.status}"
        elif (settle.kind, settle.amount_nusd) != (SettleKind.UPPER, settlement.hold.hold_nusd):
            return f"{settle.kind}, though no usage was told"
    return ""
