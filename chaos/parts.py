"""What rounds are made of: keys, load, the end of a gateway, and what must be true of it afterwards."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chaos.books import Round
from chaos.calls import Call, Key, Load, Mix, draw
from chaos.stopwatch import Stopwatch
from chaos.world import World
from tollhouse.terms.money import parse_usd

STREAMS = 64
RICH_USD = "10000"
DRAIN_S = 1.0
HOPELESS_S = 60.0
"""Who is not back by then never is."""


@dataclass(frozen=True)
class Scale:
    """How long things last."""

    load_s: float
    callers: int
    """At once, under faults that last. Those who are killed always serve `STREAMS`."""
    locked_s: float
    """Another program holds the database."""
    gone_s: float
    """The database's files fail."""
    full_s: float
    times: int
    """The disk is full, one after the other."""
    jumps: int
    """Of the clock by hours and days, before those over a month's end."""
    places: int | None
    """Calls that fail in one round of `faulted`; None takes the chosen few of the short form."""
    back_s: float
    """Service must be back so soon after a fault is over: 5 s, more where other programs want the processor."""


SHORT = Scale(load_s=0.6, callers=20, locked_s=5.5, gone_s=3.0, full_s=0.5, times=1, jumps=2, places=None, back_s=15.0)
BRIEF = Scale(
    load_s=1.0, callers=STREAMS, locked_s=6.0, gone_s=6.0, full_s=1.0, times=2, jumps=3, places=12, back_s=5.0
)
LONG = Scale(
    load_s=2.0, callers=STREAMS, locked_s=30.0, gone_s=30.0, full_s=2.5, times=4, jumps=6, places=24, back_s=5.0
)


@dataclass(frozen=True)
class Kind:
    """A fault, and what its gateway needs to be set to."""

    act: Callable[[World, Round, random.Random, Scale], None]
    settings: dict[str, Any]
    tiny_disk: bool = False
    postgres: bool = False
    """Its database is PostgreSQL."""


def rich_keys(world: World, this: Round) -> list[Key]:
    """Two users with two keys each, under budgets that do not bind."""
    return [
        world.key(f"{this.name} {user}", RICH_USD, of_key=bool(number)) for user in ("one", "two") for number in (0, 1)
    ]


def explained(this: Round, calls: list[Call], **codes: int) -> None:
    """Every call ended in one of the ways this fault explains: by a code of ours, or by the fate it was given."""
    for call in calls:
        fate = call.fate
        fated = call.left or fate.reset_share is not None or (fate.status and call.status in (fate.status, 0))
        ours = call.code in codes and call.status == codes[call.code]
        cut = this.killed and not call.complete and (call.broken or call.status == 200)
        if not (call.complete or fated or ours or cut):
            what = f"{call.name}: {call.status} {call.code} {call.broken}"
            this.breaks("unexpected_answers", what)


def kill(world: World, this: Round) -> None:
    """kill -9, and what its journal says."""
    world.gateway.kill()
    this.killed = True
    this.settled |= world.settled()


def start_again(world: World, this: Round) -> None:
    took_s = round(world.start(), 3)
    this.facts["start_s"] = max(this.facts.get("start_s", 0.0), took_s)
    recovered = world.status()["recovered"] or {}
    this.facts["crashed"] = this.facts.get("crashed", 0) + recovered.get("crashed", 0)


def loaded(world: World, this: Round, keys: list[Key], mix: Mix, dice: random.Random, callers: int = STREAMS) -> Load:
    """Callers at work."""
    return Load(world.port, draw(mix, keys, this.name, str(dice.random())), callers).start()


def kill_beneath(world: World, this: Round, load: Load) -> None:
    kill(world, this)
    made = load.stop()
    cut = sum(call.stream and call.status == 200 and not (call.complete or call.left) for call in made)
    this.facts["streams_cut"] = this.facts.get("streams_cut", 0) + cut
    this.calls += made


def kill_and_start(world: World, this: Round, load: Load) -> None:
    kill_beneath(world, this, load)
    start_again(world, this)


def must_be_back(world: World, this: Round, key: Key, name: str, scale: Scale, since: Stopwatch | None = None) -> None:
    """A call is answered 200 soon enough after a fault was over: `since` then, or now."""
    watch = since or world.stopwatch()
    calls = world.answers_within(key, f"{this.name}-{name}", HOPELESS_S)
    this.calls += calls
    back_s = watch.seconds if calls[-1].status == 200 else HOPELESS_S
    this.facts["back_s"] = max(this.facts.get("back_s", 0.0), round(back_s, 3))
    this.breaks("late_returns", f"{name}: {back_s} s, {calls[-1].status} {calls[-1].code}", int(back_s > scale.back_s))


def check_refusal(this: Round, call: Call) -> None:
    """By the gateway's own words: there was less room than the call needed."""
    if call.code == "budget_exhausted":
        limit, spent_nusd, held, needed = (
            parse_usd(call.details[name]) for name in ("limit", "spent", "held", "needed")
        )
        if limit - spent_nusd - held >= needed:
            this.breaks("false_refusals", f"{call.name}: {call.details}")
