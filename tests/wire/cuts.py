"""Answers that break off at every byte, and clients that go at every byte.

    upstream cut    the provider ends the connection behind the first n bytes of an answer, by FIN or by RST
    departure       the client goes when n bytes of the answer have come (or when it has sent n of its request)

However a call ends, its hold is settled once and by what had been seen; a cut stream never looks whole; the client
never gets a byte that the provider did not send, but for an error event that says so; a connection whose answer broke
off is never used again.
"""

import asyncio
import contextlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.planes.plane import Running, plane
from tests.planes.wire import END_CHUNK, chunk, run, until
from tests.wire.books import breaches_of, by_session, double_settlements, holds_left
from tests.wire.caller import WAIT_S, Caller, caller
from tests.wire.identity import RICH
from tests.wire.provider import End, Play, Provider, provider
from tests.wire.strict import MalformedError
from tests.wire.tracks import Track, smallest, tracks
from tollhouse.terms.events import SettleKind, Settlement

BATCH = 500
AT_ONCE = 16
STEP = 7
"""Of all but the smallest recordings the short form takes every seventh byte."""
SHOWN = 20
_OWN_EVENT = re.compile(rb'event: error\ndata: (\{[^\n]*"code":"upstream_[a-z]+"[^\n]*\})\n\n\Z')
ZERO = (
    "holds_left",
    "double_settlements",
    "clean_ends_of_cut_streams",
    "wrong_kind",
    "bytes_not_sent",
    "connections_used_again",
    "otherwise_wrong",
)
"""The figures that must be 0."""


@dataclass(frozen=True)
class Cut:
    """A track that ends behind the first `at` bytes of its wire: the provider by `end`, or (STAY) the client, by RST or
    not.
    """

    number: int
    track: Track
    at: int
    end: End

    @property
    def mark(self) -> str:
        return f"cut-{self.number}"

    @property
    def come(self) -> int:
        """Bytes of the body."""
        return self.track.come[self.at]


class Report:
    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.told: list[str] = []

    def wrong(self, figure: str, why: str, count: int = 1) -> None:
        if count:
            self.counted[figure] += count
            self.told.append(f"{figure}: {why}")

    def figures(self) -> dict[str, int | list[str]]:
        counted = self.counted
        return {
            "upstream_cuts": counted["upstream_cuts"],
            "client_departures": counted["client_departures"],
            **{name: counted[name] for name in ZERO},
            "breaches": self.told[:SHOWN],
        }


def figures(*, every: bool = False, seed: int = 0) -> dict[str, int | list[str]]:
    """All that must be 0 is, and how often it was tried: at every byte of every recording, or in short form (see
    `places`).
    """
    report = Report()
    play(upstream_cuts(every=every, seed=seed), report)
    play(departures(every=every, seed=seed), report)
    run(leave_while_sending(report))
    return report.figures()


def play(cuts: Sequence[Cut], report: Report) -> None:
    for first in range(0, len(cuts), BATCH):
        run(_batch(cuts[first : first + BATCH], report))


# --- where


def places(track: Track, size: int, chance: random.Random, *, every: bool) -> Iterable[int]:
    """Every byte; in short form of all but the smallest recordings of a lane every seventh, from a random one on."""
    if every or str(track) in smallest():
        return range(size)
    return range(chance.randrange(STEP), size, STEP)


def upstream_cuts(*, every: bool, seed: int) -> list[Cut]:
    """By FIN and by RST; in short form by one of both."""
    chance = random.Random(seed)
    found: list[Cut] = []
    for track in tracks():
        for at in places(track, len(track.wire), chance, every=every):
            ends = (End.CLOSE, End.RESET) if every else (End.CLOSE if chance.random() < 0.7 else End.RESET,)
            found += [Cut(len(found) + number, track, at, end) for number, end in enumerate(ends)]
        found.append(Cut(len(found), track, len(track.wire), End.KEEP if track.framed else End.CLOSE))
    return found


def departures(*, every: bool, seed: int) -> list[Cut]:
    """Where bytes of the body come; of a whole answer, of which the client sees nothing before its end, anywhere."""
    chance = random.Random(seed)
    found: list[Cut] = []
    for track in tracks():
        last = -1
        for at in places(track, len(track.wire), chance, every=every) if track.framed else ():
            if not track.stream or (at >= len(track.head) and track.come[at] != last and _is_relayed(track, at)):
                last = track.come[at]
                found.append(Cut(len(found), track, at, End.STAY))
    return found


def _is_relayed(track: Track, at: int) -> bool:
    """The client has got all that came, so that it can be waited for. A piece of what might be usage is held back."""
    come = track.come[at]
    ends = [sum(map(len, track.events[:count])) for count in range(len(track.events) + 1)]
    return track.asked or (come in ends and track.kept.startswith(track.body[:come]))


# --- playing


async def _batch(cuts: Sequence[Cut], report: Report) -> None:
    async with provider() as upstream, plane(upstream.port, budget=RICH) as running:
        waiting = list(cuts)[::-1]
        await asyncio.gather(*(_calls(running, upstream, waiting, report) for _ in range(AT_ONCE)))
        await check_books(running, report)
        settled = by_session(running)
        for cut in cuts:
            if why := settled_wrongly(cut, settled.get(cut.mark, [])):
                report.wrong("wrong_kind", f"{_named(cut)}: {why}")
        for complaint in upstream.wrong:
            report.wrong("connections_used_again", complaint)


async def check_books(running: Running, report: Report) -> None:
    """When every call has ended, or has had time enough for it."""
    with contextlib.suppress(TimeoutError):
        await until(lambda: not running.accounts.holds and not running.gate.working, WAIT_S)
    left = [hold.record.session for hold in running.accounts.holds]
    report.wrong("holds_left", f"{left}", holds_left(running))
    report.wrong("double_settlements", "in the batch", double_settlements(running))
    for breach in breaches_of(running):
        report.wrong("otherwise_wrong", breach)


async def _calls(running: Running, upstream: Provider, waiting: list[Cut], report: Report) -> None:
    while waiting:
        async with caller(running.port) as client:
            while waiting and not client.ended:
                cut = waiting.pop()
                client.expect_another()
                try:
                    await (_leave if cut.end is End.STAY else _be_cut)(client, upstream, cut, report)
                except (MalformedError, TimeoutError) as error:
                    report.wrong("otherwise_wrong", f"{_named(cut)}: {type(error).__name__} {error}")
                    break


async def _ask(client: Caller, upstream: Provider, cut: Cut, play: Play) -> None:
    upstream.plays[cut.mark] = play
    body = cut.track.request()
    await client.send([cut.track.lane.request(body, cut.mark) + body])


async def _be_cut(client: Caller, upstream: Provider, cut: Cut, report: Report) -> None:
    """The provider's answer ends: what does the client get?"""
    play = Play([cut.track.wire[: cut.at]] if cut.at else [], cut.end)
    await _ask(client, upstream, cut, play)
    await client.answer()
    report.counted["upstream_cuts"] += cut.end is not End.KEEP
    if why := _not_from_upstream(client, cut):
        report.wrong("bytes_not_sent", f"{_named(cut)}: {why}")
    if why := _seems_whole(client, cut):
        report.wrong("clean_ends_of_cut_streams", f"{_named(cut)}: {why}")
    if len(play.requests) > 1 + (cut.at == 0):  # a kept connection that ends without a byte is no answer: once more
        report.wrong("otherwise_wrong", f"{_named(cut)}: sent {len(play.requests)} times")


def _not_from_upstream(client: Caller, cut: Cut) -> str:
    """The body must be the first bytes of what the provider sent: all of them behind a FIN."""
    track, body = cut.track, bytes(client.body)
    if _told_502(client):
        sent_enough = cut.at > len(track.head) and track.stream
        return f"502 in the middle of a stream: {body!r:.300}" if sent_enough and cut.end is End.CLOSE else ""
    if client.status != track.status:
        return f"status {client.status}: {body!r:.300}"
    body = _OWN_EVENT.sub(b"", body)
    wanted = track.kept if cut.end is End.KEEP else track.body[: cut.come] if track.asked else track.kept
    if not wanted.startswith(body) or len(body) > cut.come:
        return f"{body[-200:]!r}"
    if track.asked and cut.end is not End.RESET and body != wanted:
        return f"only {len(body)} of {len(wanted)} bytes"
    return ""


def _seems_whole(client: Caller, cut: Cut) -> str:
    """An answer that broke off must not look whole: a 502, an error event of the dialect, or no end at all."""
    if cut.end is End.KEEP:
        return (
            "" if client.whole and not _told_502(client) else f"cut, though it was whole: {bytes(client.body)!r:.300}"
        )
    if not client.whole or _told_502(client):
        return ""
    if not cut.track.framed and cut.end is End.CLOSE and cut.track.tells_its_end(cut.come):
        return ""
    event = _OWN_EVENT.search(bytes(client.body))
    told = json.loads(event[1]) if event and cut.track.stream else {}
    return "" if told.get("error", {}).get("message") else f"{bytes(client.body)[-200:]!r}"


def _told_502(client: Caller) -> bool:
    return (
        client.status == 502
        and client.whole
        and json.loads(bytes(client.body))["error"]["code"].startswith("upstream_")
    )


async def _leave(client: Caller, upstream: Provider, cut: Cut, report: Report) -> None:
    """The client goes when it has got what there is. What the provider bills for is read to its end, else it is
    stopped.
    """
    track = cut.track
    if track.stream:
        begun = track.head + (chunk(track.body[: cut.come]) if cut.come else b"")
        play = Play([begun], End.STAY, rest=END_CHUNK)
        await _ask(client, upstream, cut, play)
        await client.until(lambda: client.status and len(client.body) >= cut.come)
        got, wanted = bytes(client.body), track.body[: cut.come]
        if got != wanted:
            report.wrong("bytes_not_sent", f"{_named(cut)}: {got[-200:]!r}")
    else:
        play = Play([track.wire[: cut.at]] if cut.at else [], End.STAY, rest=track.wire[cut.at :])
        await _ask(client, upstream, cut, play)
        async with asyncio.timeout(WAIT_S):
            await play.over.wait()
    client.leave(reset=cut.number % 2 == 0)
    await client.until(lambda: client.ended)
    report.counted["client_departures"] += 1
    if track.is_complete(cut.come) if track.stream else track.lane.posts:
        play.go_on.set()  # there is nothing to be saved by hanging up
        return
    async with asyncio.timeout(WAIT_S):
        await play.left.wait()


# --- money


def settled_wrongly(cut: Cut, settlements: Sequence[Settlement]) -> str:
    """Why what was settled is not what had to be; empty when it is."""
    track = cut.track
    if len(settlements) != track.lane.posts:
        return f"{len(settlements)} settlements"
    if not settlements:
        return ""
    settle, hold = settlements[0].settle, settlements[0].hold
    if settle.kind not in _kinds(cut):
        return f"{settle.kind}, not {' or '.join(_kinds(cut))}"
    right = {
        SettleKind.EXACT: settle.amount_nusd > 0,
        SettleKind.UPPER: settle.amount_nusd == hold.hold_nusd > 0,
        SettleKind.ESTIMATED: 0 < settle.amount_nusd <= hold.hold_nusd,
        SettleKind.VOIDED: settle.amount_nusd == 0,
    }
    return "" if right[settle.kind] else f"{settle.amount_nusd} nano-USD, {settle.kind}"


def _kinds(cut: Cut) -> set[SettleKind]:
    track = cut.track
    if cut.end is End.KEEP or (cut.end is End.STAY and not track.stream):
        return {track.kind_when_whole()}
    if cut.end is End.STAY:
        return {track.kind_when_left(cut.come)}
    kind = track.kind_when_cut(cut.come)
    # a RST may overtake bytes that were sent before it
    return {kind, SettleKind.UPPER} if cut.end is End.RESET else {kind}


def _named(cut: Cut) -> str:
    return f"{cut.track} at byte {cut.at} of {len(cut.track.wire)}, {cut.end.value}"


# --- clients that go before they have asked


async def leave_while_sending(report: Report) -> None:
    """At every byte of a request: nothing is held, nothing is sent."""
    async with provider() as upstream, plane(upstream.port, budget=RICH) as running:
        for track in {track.lane.name: track for track in tracks()}.values():
            body = track.request()
            wire = track.lane.request(body, "early") + body
            report.counted["client_departures"] += len(wire)
            for first in range(0, len(wire), AT_ONCE):
                sizes = range(first, min(first + AT_ONCE, len(wire)))
                await asyncio.gather(*(_leave_early(running.port, wire[:size]) for size in sizes))
        await until(lambda: not running.gate.edges, WAIT_S)
        await check_books(running, report)
        report.wrong("otherwise_wrong", "held for a part of a request", len(running.journal.records))
        report.wrong("otherwise_wrong", "a part of a request went on", len(upstream.wrong) + len(upstream.transports))


async def _leave_early(port: int, wire: bytes) -> None:
    async with caller(port) as client:
        if wire:
            client.transport.write(wire)
        await asyncio.sleep(0.002)  # mostly it is read before
        client.leave(reset=len(wire) % 2 == 0)
