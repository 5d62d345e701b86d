"""Requests of the corpus with some of their bytes changed, sent in pieces, held to the strict reading of RFC 9112."""

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.planes.plane import KEY
from tests.wire.corpus import BODY, END_CHUNK, HOST, KEY_LINE, LENGTH, MARK, TE, chunked, request, smuggled
from tests.wire.corpus_heads import corpus
from tests.wire.law import Outcome, converse
from tests.wire.recorder import Recorder
from tests.wire.strict import MalformedError, Request, read_answers, read_requests
from tollhouse.dataplane.head import ROUTES

MAX_SEED_BYTES = 4_096
MAX_EDITS = 4
MAX_PIECES = 6
_SCRAPS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"1", b"f", b"-", b"+", b"\xff",
    b"\r\n ", b"\x0b", b"X: y\r\n", b"X: y", LENGTH + b"\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    TE + b"\r\n", b"Transfer-Encoding: identity\r\n", HOST + b"\r\n", KEY_LINE + b"\r\n", END_CHUNK, BODY,
    b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"HTTP/1.0",
)  # fmt: skip
_OWN = frozenset((b"host", b"content-length", b"x-api-key", b"accept-encoding"))
_CAP = re.compile(rb'"max_tokens": ?[0-9]+,')
"""The one thing that the gateway may write into a body."""


@dataclass(frozen=True)
class Mutant:
    wire: bytes
    pieces: tuple[int, ...]


def seeds() -> list[bytes]:
    """Two requests on a connection, the first from the corpus; and some that are honest throughout."""
    honest = request(LENGTH)
    found = [case.wire + honest for case in corpus() if len(case.wire) < MAX_SEED_BYTES]
    pieces = request(TE, body=chunked())
    return found + [honest + honest, pieces + pieces, honest + pieces, pieces + smuggled()] * 40


def mutant(number: int, choices: Sequence[bytes]) -> Mutant:
    """The mutant of this number; the same every time."""
    chance = random.Random(number)
    wire = bytearray(chance.choice(choices).replace(MARK, b"%04x" % (number & 0xFFFF)))
    for _ in range(chance.randint(0, MAX_EDITS)):
        _edit(wire, chance)
    places = {chance.randint(0, len(wire)) for _ in range(chance.randint(0, MAX_PIECES))}
    return Mutant(bytes(wire), tuple(sorted(places)))


def _edit(wire: bytearray, chance: random.Random) -> None:
    at = chance.randint(0, len(wire))
    end = min(len(wire), at + chance.choice((1, 1, 1, 2, 4, 40)))
    kind = chance.randrange(6)
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
    else:
        lines = [place for place in range(len(wire)) if wire[place : place + 2] == b"\r\n"]
        place = chance.choice(lines) if lines else at
        wire[place + 2 : place + 2] = chance.choice(_SCRAPS)


async def send(mutants: Sequence[Mutant], port: int) -> list[Outcome]:
    """All at once, each on a connection of its own."""
    return await asyncio.gather(*(converse(port, one.wire, one.pieces) for one in mutants))


def breaches(mutants: Sequence[Mutant], outcomes: Sequence[Outcome], recorder: Recorder) -> list[str]:
    """What went on that nobody asked for, and who was left hanging."""
    found = recorder.complaints()
    asked = [request for one in mutants for request in read_requests(one.wire)[0]]
    for reached in recorder.requests:
        origin = next((one for one in asked if _means(one, reached)), None)
        if origin is None:
            found.append(f"nobody asked for {reached}")
        else:
            asked.remove(origin)
    for one, outcome in zip(mutants, outcomes, strict=True):
        if outcome.hung:
            found.append(f"hung: {one}")
        elif b"HEAD " not in one.wire:
            try:
                read_answers(outcome.received)
            except MalformedError as error:
                found.append(f"malformed answer ({error}): {one}")
    return found


def _means(asked: Request, reached: Request) -> bool:
    """Whether what reached the provider is what was asked: nothing else in it, and with a key that is good."""
    return (
        _CAP.sub(b"", asked.body) == _CAP.sub(b"", reached.body)
        and asked.method == b"POST"
        and asked.target.partition(b"?")[0] in ROUTES
        and any(KEY in value for _, value in asked.fields)
        and {field for field in reached.fields if field[0] not in _OWN} <= set(asked.fields)
    )
