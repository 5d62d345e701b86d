"""The law of the wire, for one connection's bytes at a time and for all of them together:

a clear 4xx and a closed connection and nothing reached the provider, or exactly one well-formed request did, equal
in meaning. Never two, never a body's content as a request, never a hang beyond the deadline.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from tests.planes.wire import Peer, connect
from tests.wire.corpus import BODY, LENGTH, MARK, SMUGGLED, Case, Fate, request
from tests.wire.recorder import Recorder
from tests.wire.strict import Answer, MalformedError, read_answers

HURRIED = {"head_timeout_s": 2.0, "body_timeout_s": 2.0, "keep_alive_s": 2.0}
"""A gateway's deadlines, in virtual time: nobody meets them but who is silent."""
DEADLINE_S = 30.0
"""Well over the sum of the timeouts that the tests set, nginx's included."""
AT_ONCE = 60
PAUSE_S = 0.002
"""Between two writes, so that they are read one by one."""

PASSES = (Fate.PASSED, Fate.PASSED_AND_CLOSED)
PROBED = (Fate.PASSED, Fate.ANSWERED)


@dataclass
class Outcome:
    """What one connection saw."""

    received: bytes
    hung: bool


async def converse(port: int, wire: bytes, pieces: Sequence[int] = (), *, half_closed: bool = False) -> Outcome:
    """Send the bytes (in pieces that end at these places) and read until the other side ends."""
    client = await connect(port)
    async with client:
        received = bytearray()
        reading = asyncio.ensure_future(_read(client, received))
        with contextlib.suppress(ConnectionError):
            for start, end in zip((0, *pieces), (*pieces, len(wire)), strict=True):
                client.send(wire[start:end])
                await client.drain()
                if end < len(wire):
                    await asyncio.sleep(PAUSE_S)
            if half_closed:
                client.writer.write_eof()
        _, late = await asyncio.wait([reading], timeout=DEADLINE_S)
        reading.cancel()
    return Outcome(bytes(received), hung=bool(late))


async def _read(client: Peer, received: bytearray) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await client.reader.read(65_536):
            received += data


def probe(mark: str) -> bytes:
    return request(LENGTH).replace(MARK, mark.encode())


async def play(cases: Sequence[Case], port: int, *, cut_at: Sequence[int] = ()) -> list[Outcome]:
    """Each case on a connection of its own, many at once. Case n is marked `cn`, its probe `pn`. `cut_at` has for each
    case a place where its bytes are parted into two writes.
    """
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, case: Case) -> Outcome:
        wire = case.marked(f"c{number:03d}")
        if case.fate is not Fate.CUT:
            wire += probe(f"p{number:03d}")
        async with turns:
            return await converse(port, wire, cut_at[number : number + 1], half_closed=case.half_closed)

    return await asyncio.gather(*(one(number, case) for number, case in enumerate(cases)))


def breaches(cases: Sequence[Case], outcomes: Sequence[Outcome], recorder: Recorder, *, direct: bool) -> list[str]:
    """Every breach of the law. Behind another proxy, which may refuse or repair what it likes, only the law itself is
    asked for; directly also what exactly comes of each case.
    """
    found = recorder.complaints()
    found += [f"smuggled: {request!r:.300}" for request in recorder.marked(SMUGGLED.decode())]
    for number, (case, outcome) in enumerate(zip(cases, outcomes, strict=True)):
        why = _breach(number, case, outcome, recorder, direct=direct)
        found += [f"{case.name}: {why}; the client got {outcome.received!r:.200}"] if why else []
    return found


def _breach(number: int, case: Case, outcome: Outcome, recorder: Recorder, *, direct: bool) -> str | None:
    mark, follower = f"c{number:03d}", f"p{number:03d}"
    reached = [request.body for request in recorder.marked(mark, follower)]
    if not direct:
        reached = [body.rstrip(b"\r") for body in reached]  # nginx takes a bare LF for a chunk's end
    own, probed = case.body.replace(MARK, mark.encode()), BODY.replace(MARK, follower.encode())
    if outcome.hung:
        return "hung"
    if reached not in ([], [own], [own, probed], [probed]):
        return f"the provider got {reached}"
    if case.wire.startswith(b"HEAD ") or (not direct and outcome.received.startswith(b"<html>")):
        return None  # what is answered cannot be told apart without knowing that; nginx speaks HTTP/0.9
    try:
        answers = read_answers(outcome.received)
    except MalformedError as error:
        return f"malformed answer ({error})"
    if not direct:
        return _answered_as_reached(case, answers, reached)
    return _fate(case, answers, reached, own, probed)


def _answered_as_reached(case: Case, answers: list[Answer], reached: list[bytes]) -> str | None:
    """Behind a proxy: each request that reached the provider has its answer, all else a clear no."""
    succeeded = sum(answer.status == 200 and b"msg_1" in answer.body for answer in answers)
    if succeeded != len(reached):
        return f"{succeeded} answers for {len(reached)} requests at the provider"
    if case.fate is Fate.CUT and reached:
        return "a part went on as a whole"
    return None


def _fate(case: Case, answers: list[Answer], reached: list[bytes], own: bytes, probed: bytes) -> str | None:
    wanted = [own] * (case.fate in PASSES) + [probed] * (case.fate in PROBED)
    if reached != wanted:
        return f"the provider got {reached}, not {wanted}"
    if case.fate is Fate.CUT and not answers:
        return None
    if not answers or len(answers) > 2:
        return f"{len(answers)} answers"
    statuses = [answer.status for answer in answers]
    if statuses[0] not in case.statuses:
        return f"{statuses[0]} is not among {sorted(case.statuses)}"
    if case.fate in PROBED:
        return None if statuses[1:] == [200] else f"the probe was answered {statuses[1:]}"
    last = answers[-1]
    if not last.closes:
        return "the answer does not say that the connection closes"
    if len(answers) > 1 and (case.fate is not Fate.REFUSED or not 400 <= last.status < 600):
        return f"answered {statuses}"
    return None
