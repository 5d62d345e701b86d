"""Storage that fails at the k-th call, for every k of a short run: some calls, what ships them, the end, the start.

A place is one system call on the journal's or the database's files that returns ENOSPC or EIO instead of being done:
the k-th alone, or the k-th and all that follow until the fault is over. It is tried

running     in a gateway that runs: calls, some streamed; then it goes on, is told to stop while the fault is there, or
            is killed while it is there
starting    in one that starts after kill -9, with all these calls to recover: it comes up or gives up, and when the
            fault is over it is there

`PLACES` has every k up to some beyond the last that is reached; what was not reached counts as not tried.
"""

import random
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from chaos.books import Round
from chaos.calls import Call, Fate, Key, make_now
from chaos.parts import RICH_USD, Scale, explained, kill, must_be_back, start_again
from chaos.tracer import Fault, Files, Tracer, failing
from chaos.world import PROBE_S, World

CALLS = 6
SHIPPED_S = 1.0
"""By then what was settled is in the ledger, if that can be."""

RUNNING: dict[tuple[Files, str], int] = {
    ("journal", "write"): 18,
    ("journal", "fdatasync"): 20,
    ("journal", "fsync"): 4,
    ("journal", "openat"): 4,
    ("journal", "ftruncate"): 1,
    ("journal", "unlink"): 2,
    ("database", "pwrite64"): 40,
    ("database", "fdatasync"): 6,
    ("database", "ftruncate"): 3,
    ("database", "unlink"): 4,
}
STARTING: dict[tuple[Files, str], int] = {
    ("journal", "write"): 3,
    ("journal", "fdatasync"): 2,
    ("journal", "fsync"): 4,
    ("journal", "openat"): 8,
    ("journal", "unlink"): 3,
    ("database", "openat"): 6,
    ("database", "pwrite64"): 40,
    ("database", "fdatasync"): 6,
}
"""How often each call is made at most, and some more."""
SLACK = 3
"""So far beyond a call that was never made the others are not tried: some runs make a few more."""
NO_SPACE = ("write", "pwrite64", "fdatasync", "fsync", "openat", "ftruncate")


@dataclass(frozen=True)
class Place:
    """`ending`: how a gateway ends that met the fault while it ran: `on` (it does not), `stop`, `kill`."""

    when: str
    fault: Fault
    ending: str = "on"

    @property
    def where(self) -> str:
        return f"{self.when}.{self.fault.files}.{self.fault.calls}"

    def __str__(self) -> str:
        return f"{self.when}.{self.fault}.{self.ending}"


def _every_place() -> list[Place]:
    places = []
    for when, table in (("running", RUNNING), ("starting", STARTING)):
        for (files, call), most in table.items():
            for error in ("EIO", "ENOSPC") if call in NO_SPACE else ("EIO",):
                for k in range(1, most + 1):
                    once, lasting = (Fault(files, call, error, k, lasting) for lasting in (False, True))
                    ending = ("on", "stop", "kill")[k % 3] if when == "running" else "on"
                    places += [Place(when, once, "stop" if when == "running" else "on"), Place(when, lasting, ending)]
    return places


PLACES = _every_place()
LAST = {place.where: place.fault.first for place in PLACES}


CHOSEN = [
    *(Place("running", Fault("journal", "fdatasync", "EIO", k, lasting=False)) for k in (1, 2, 3, 4)),
    *(Place("running", Fault("database", "fdatasync", "EIO", k, lasting=False)) for k in (1, 2)),
    *(Place("running", Fault("journal", "write", "ENOSPC", k, lasting=False)) for k in (1, 2)),
    Place("running", Fault("database", "pwrite64", "ENOSPC", 1, lasting=False)),
    Place("running", Fault("journal", "write", "EIO", 4)),
    Place("running", Fault("database", "fdatasync", "EIO"), "kill"),
    Place("starting", Fault("database", "pwrite64", "EIO", 2, lasting=False)),
    Place("starting", Fault("journal", "write", "ENOSPC")),
    Place("running", Fault("journal", "fdatasync", "EIO"), "stop"),
]
"""Of the short form: the syncs while calls are made, the first writes, and each end."""


def faulted(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    key = world.key(f"{this.name} one", RICH_USD)
    tried = this.facts["places"] = {}
    said = world.gateway.log.stat().st_size
    for place in _places(this, scale):
        if this.broken["late_returns"]:
            break
        if place.fault.first > this.ends.get(place.where, place.fault.first) + SLACK:
            continue
        failed = (_starting if place.when == "starting" else _running)(world, this, key, place, scale)
        tried[place] = failed
        if not failed:
            this.ends[place.where] = min(place.fault.first, this.ends.get(place.where, place.fault.first))
        this.killed = False  # all calls had ended before
        this.facts["faults"] = this.facts.get("faults", 0) + failed
    explained(this, this.calls, journal_unavailable=503, store_unavailable=503)
    traces = world.gateway.log.read_bytes()[said:].count(b"Traceback")
    this.breaks("unexpected_answers", f"{traces} tracebacks in {world.gateway.log}", traces)


def _places(this: Round, scale: Scale) -> list[Place]:
    """The next ones in an order of the run's own."""
    if scale.places is None:
        return CHOSEN
    order = list(PLACES)
    random.Random(this.run_seed).shuffle(order)
    first = this.number * scale.places % len(order)
    return (order + order)[first : first + scale.places]


def _running(world: World, this: Round, key: Key, place: Place, scale: Scale) -> int:
    with failing(place.fault, world.pid, world.gateway.home) as tracer:
        calls = _make_calls(world, this, key, place)
        until = time.monotonic() + SHIPPED_S
        while time.monotonic() < until and world.status()["ledger"]["backlog"]:
            time.sleep(PROBE_S)
        if place.ending == "stop":
            world.gateway.stop()
        elif place.ending == "kill":
            kill(world, this)
            for call in calls:
                call.unwritten = place.fault.files == "journal"
    over = world.stopwatch()
    if place.ending != "on":
        start_again(world, this)
    must_be_back(world, this, key, f"{place}-back", scale, over)
    return tracer.failed.total()


def _starting(world: World, this: Round, key: Key, place: Place, scale: Scale) -> int:
    gateway = world.gateway
    _make_calls(world, this, key, place)
    kill(world, this)
    tracers: list[Tracer] = []
    with ExitStack() as stack:
        code = gateway.begin(lambda pid: tracers.append(stack.enter_context(failing(place.fault, pid, gateway.home))))
    over = world.stopwatch()
    if code is not None:
        this.facts["gave_up"] = this.facts.get("gave_up", 0) + 1
        start_again(world, this)
    must_be_back(world, this, key, f"{place}-back", scale, over)
    return tracers[0].failed.total()


def _make_calls(world: World, this: Round, key: Key, place: Place) -> list[Call]:
    calls = []
    for number in range(CALLS):
        fate = Fate(f"{this.name}-{place}-{number}", 0.2, 0.5, 0.0)
        calls.append(make_now(world.port, Call(fate, key, stream=number % 2 == 0, max_tokens=40)))
    this.calls += calls
    return calls


def coverage(facts: list[dict[str, Any]]) -> dict[str, Any]:
    """What rounds tried, for people. When nothing is left, every k of such a run has failed once and lastingly."""
    failed: dict[Place, int] = {}
    for place, times in (item for fact in facts for item in fact.get("places", {}).items()):
        failed[place] = max(times, failed.get(place, 0))
    ends: dict[str, int] = {}
    highest: dict[str, int] = {}
    for place, times in failed.items():
        k, where = place.fault.first, place.where
        if times:
            highest[where] = max(k, highest.get(where, 0))
        else:
            ends[where] = min(k, ends.get(where, k))
    left = sum(p not in failed and p.fault.first <= ends.get(p.where, LAST[p.where]) + SLACK for p in PLACES)
    return {
        "fault_places_tried": sum(map(bool, failed.values())),
        "fault_places_left": left,
        "fault_places_never_reached": sum(not times for times in failed.values()),
        "fault_highest_k": dict(sorted(highest.items())),
        "fault_tables_too_short": [where for where, k in highest.items() if k == LAST[where]],
    }
