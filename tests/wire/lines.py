"""Long lines and odd ones: an event of 64 MiB, an answer of 64 MiB, streams byte by byte and with every line end.

The long ones go through a gateway in a process of its own, whose memory is looked at: it may keep some of a line to
find usage in it, never all of it. What comes out has the same hash as what went in, and the call costs what the usage
behind the line says, or the whole hold; never nothing.
"""

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.dialects.recorded import recording, with_line_ends
from tests.planes.plane import plane
from tests.planes.wire import END_CHUNK, chunk, run
from tests.scripted import ScriptedUpstream, reply, stream_head
from tests.serving import Gateway
from tests.wire.answers import BOM
from tests.wire.books import breaches_of, by_session
from tests.wire.caller import caller
from tests.wire.floods import memory_mb, port_of
from tests.wire.identity import RICH
from tests.wire.lanes import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, Lane
from tests.wire.provider import Play, provider
from tests.wire.tracks import Track, smallest, tracks
from tollhouse.terms.events import SettleKind

MIB = 1 << 20
KEPT_EVENT_BYTES = MIB
"""An event longer than this is relayed and not read."""
KEPT_ANSWER_BYTES = 8 * MIB
"""Nor is a longer whole answer, or a longer closing event of a response."""
PIECE_BYTES = 1 << 16
SLOW_S = 1.5
"""How long a slow client takes no bytes at all: time enough for a gateway that does not care to read them all."""
LINE_ENDS = (b"\n", b"\r\n", b"\r")
MODELS = {
    "messages": "claude-sonnet-4-6",
    "chat": "gpt-4o",
    "responses": "gpt-4o",
    "embeddings": "text-embedding-3-small",
}
_STREAMS = {"messages": "anthropic_text.sse", "chat": "openai_text.sse", "responses": "responses_text.sse"}
_HEADS = {
    "messages": b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"',
    "chat": b'data: {"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"',
    "responses": b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"',
}
_TAILS = {"messages": b'"}}\n\n', "chat": b'"}}]}\n\n', "responses": b'"}\n\n'}


LONG_LANES = (MESSAGES, CHAT, RESPONSES, EMBEDDINGS)
"""Counting tokens costs nothing and is answered in a few bytes."""


@dataclass
class Long:
    """An answer in which something is long. `parts` are written one after another; nobody holds all of it at once."""

    lane: Lane
    name: str
    stream: bool
    parts: list[tuple[bytes, int]]
    """Bytes, and how often they come."""
    kind: str
    """How the call must be settled."""
    slow: bool = False
    """The client takes its time."""

    def __str__(self) -> str:
        return f"{self.lane.name}: {self.name}"

    @property
    def size(self) -> int:
        return sum(len(part) * times for part, times in self.parts)

    def pieces(self) -> Iterator[bytes]:
        for part, times in self.parts:
            together = max(1, PIECE_BYTES // max(1, len(part)))
            for done in range(0, times, together):
                yield part * min(together, times - done)

    def digest(self) -> str:
        found = hashlib.sha256()
        for piece in self.pieces():
            found.update(piece)
        return found.hexdigest()


def long_answers(lane: Lane, size: int) -> list[Long]:
    """Streams with a line of so many bytes, in the middle and as the closing event; a whole answer of that size."""
    whole_kind = "exact" if size < KEPT_ANSWER_BYTES else "upper"
    closing_kind = "exact" if size < (KEPT_ANSWER_BYTES if lane is RESPONSES else KEPT_EVENT_BYTES) else "upper"
    text = b"lorem ipsum dolor "
    filling = (text, size // len(text))
    if lane.name == "embeddings":
        head, tail = b'{"data":[{"embedding":"', b'"}],"model":"m","usage":{"prompt_tokens":9,"total_tokens":9}}'
        return [Long(lane, "whole", False, [(head, 1), filling, (tail, 1)], whole_kind)]
    told = recording(_STREAMS[lane.name])
    start = told.index(b"\n\n") + 2
    comment = [(told[:start], 1), (b": ", 1), filling, (b"\n\n" + told[start:], 1)]
    delta = [(told[:start] + _HEADS[lane.name], 1), filling, (_TAILS[lane.name] + told[start:], 1)]
    usage = told.rindex(b'"usage":{')
    closing = [(told[:usage] + b'"x_long":"', 1), filling, (b'",' + told[usage:], 1)]
    names = (b"prompt_tokens", b"completion_tokens") if lane is CHAT else (b"input_tokens", b"output_tokens")
    whole = [(b'{"id":"a","model":"m","content":"', 1), filling, (b'","usage":{"%b":9,"%b":9}}' % names, 1)]
    return [
        Long(lane, "a delta", True, delta, "exact"),
        Long(lane, "a delta, a slow client", True, delta, "exact", slow=True),
        Long(lane, "a comment", True, comment, "exact"),
        Long(lane, "the event with the usage", True, closing, closing_kind),
        Long(lane, "whole", False, whole, whole_kind),
    ]


@dataclass
class Report:
    """`differing`, `lost` (nothing was settled, or nothing was to be paid) and `otherwise` must stay empty."""

    played: int = 0
    megabytes: int = 0
    grown_mb: float = 0.0
    """How far the gateway's memory rose at its highest over where it began."""
    differing: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return {
            "lines": self.played,
            "megabytes": self.megabytes,
            "grown_mb": round(self.grown_mb, 1),
            "answers_differing": len(self.differing),
            "settled_wrongly": len(self.lost),
            "breaches": self.differing[:20] + self.lost[:20],
        }


def figures(*, every: bool = True) -> dict[str, Any]:
    """64 MiB in every place of every lane, and every recording byte by byte with every line end."""
    report = Report()
    play_odd(report, every=every)
    with (
        tempfile.TemporaryDirectory(prefix="tollhouse-lines-") as place,
        ScriptedUpstream() as upstream,
        serving(Path(place), upstream) as gateway,
    ):
        for lane in LONG_LANES:
            play_long(gateway, upstream, long_answers(lane, 64 * MIB), report)
    return report.figures()


# --- long: a gateway as it is run


@contextlib.contextmanager
def serving(place: Path, upstream: ScriptedUpstream) -> Iterator[Gateway]:
    rows = (("mock", "anthropic", upstream.url, "claude-*"), ("mockchat", "openai", f"{upstream.url}/v1", "*"))
    providers = [
        {"name": name, "kind": kind, "base_url": url, "api_key": "env:MOCK_KEY", "models": [models]}
        for name, kind, url, models in rows
    ]
    settings = {"local": {"enabled": False}, "providers": providers}
    gateway = Gateway(place, settings, MOCK_KEY="sk-ant-api03-the-operators-own")
    try:
        yield gateway.start()
    finally:
        gateway.close()


def play_long(gateway: Gateway, upstream: ScriptedUpstream, answers: list[Long], report: Report) -> None:
    """One after another, so that what memory is taken for one can be seen."""
    assert gateway.process is not None
    key = gateway.key("lines", budget="100000/month")
    port = port_of(gateway)
    asyncio.run(_ask(port, key, _short(upstream)))  # what is loaded at the first call is not the line's
    began_mb = memory_mb(gateway.process.pid)[0]
    for answer in answers:
        before = len(gateway.entries("lines"))
        upstream.script = lambda received, answer=answer: _script(answer)
        got = asyncio.run(_ask(port, key, answer))
        if got != answer.digest():
            report.differing.append(f"{answer}: {got}")
        rows = gateway.entries("lines")[before:]
        if [row["kind"] == answer.kind and float(row["amount_usd"]) > 0 for row in rows] != [True]:
            report.lost.append(f"{answer}: {[(row['kind'], row['amount_usd']) for row in rows]}")
        report.played += 1
        report.megabytes += answer.size // MIB
    report.grown_mb = max(report.grown_mb, memory_mb(gateway.process.pid)[1] - began_mb)


def _short(upstream: ScriptedUpstream) -> Long:
    answer = long_answers(MESSAGES, 100)[0]
    upstream.script = lambda received: _script(answer)
    return answer


def _script(answer: Long) -> Iterator[bytes]:
    if answer.stream:
        yield stream_head()
        yield from map(chunk, answer.pieces())
        yield END_CHUNK
    else:
        yield reply(200, b"", ("content-length", str(answer.size)))[: -len(b"content-length: 0\r\n\r\n")] + b"\r\n"
        yield from answer.pieces()


async def _ask(port: int, key: str, answer: Long) -> str:
    """The hash of what comes, and what is wrong with how it comes."""
    stream = b'"stream":true,' if answer.stream else b""
    wants = b'"stream_options":{"include_usage":true},' if answer.lane is CHAT and answer.stream else b""
    body = b'{%b%b"input":"hi","model":"%b"}' % (stream, wants, MODELS[answer.lane.name].encode())
    head = b"POST %b HTTP/1.1\r\nhost: t\r\nx-api-key: %b\r\ncontent-length: %d\r\n\r\n" % (
        answer.lane.path,
        key.encode(),
        len(body),
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = hashlib.sha256()
    try:
        writer.write(head + body)
        async with asyncio.timeout(60):
            if answer.slow:
                await reader.readuntil(b"\r\n")
                writer.transport.pause_reading()
                await asyncio.sleep(SLOW_S)
                writer.transport.resume_reading()
            lines = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"transfer-encoding: chunked" not in lines:
                length = int(lines.partition(b"content-length:")[2].split()[0])
                found.update(await reader.readexactly(length))
                return found.hexdigest()
            while size := int(await reader.readuntil(b"\r\n"), 16):
                found.update((await reader.readexactly(size + 2))[:-2])
            return found.hexdigest()
    finally:
        writer.transport.abort()


# --- odd: a plane in this process


def odd_tracks(*, every: bool) -> list[tuple[Track, bytes, bool]]:
    """Streams with each line end, with and without a byte order mark."""
    names = {track.name for track in tracks() if every or str(track) in smallest()}
    found = [track for track in tracks() if track.stream and track.asked and track.framed and track.name in names]
    return [(track, end, bom) for track in found for end in LINE_ENDS for bom in (False, True)]


def play_odd(report: Report, *, every: bool) -> None:
    """Each stream byte by byte, each byte a chunk of its own."""
    odd = odd_tracks(every=every)
    for first in range(0, len(odd), 12):
        run(_odd(odd[first : first + 12], report))


async def _odd(odd: list[tuple[Track, bytes, bool]], report: Report) -> None:
    async def one(number: int, track: Track, line_end: bytes, bom: bool) -> None:
        told = (BOM if bom else b"") + with_line_ends(track.body, line_end)
        head = track.head
        pieces = [head, *(chunk(told[at : at + 1]) for at in range(len(told))), END_CHUNK]
        upstream.plays[f"odd-{number}"] = Play(pieces)
        async with caller(running.port) as client:
            body = track.request()
            await client.send([track.lane.request(body, f"odd-{number}") + body])
            await client.answer()
        name = f"{track}, {line_end!r}, byte order mark: {bom}"
        if bytes(client.body) != told or not client.whole:
            report.differing.append(name)
        settled = by_session(running)[f"odd-{number}"]
        if [one.settle.kind for one in settled] != [track.kind_when_whole()]:
            report.lost.append(f"{name}: {[one.settle.kind for one in settled]}")
        elif settled[0].settle.kind is SettleKind.EXACT:
            amounts.setdefault(track.name, set()).add(settled[0].settle.amount_nusd)
        report.played += 1

    amounts: dict[str, set[int]] = {}
    async with provider() as upstream, plane(upstream.port, budget=RICH) as running:
        await asyncio.gather(*(one(number, *each) for number, each in enumerate(odd)))
        report.lost += [f"{name}: different amounts {found}" for name, found in amounts.items() if len(found) > 1]
        report.lost += breaches_of(running) + upstream.wrong
