"""The faults. Each is a round: load a running gateway, break something, set it right, hold the books to the law.

killed      kill -9 in the middle of streams; what was open is billed to the end by the provider; at times killed
            once more while it starts again
storm       clients leave, upstreams reset and fail, whole answers and streams; then kill -9
stopped     the same, then SIGTERM with a drain that is too short for some
spent       budgets that run out meanwhile, then kill -9; afterwards the last cent that fits is spent
changed     a limit lowered and a key revoked meanwhile, then kill -9
locked      the database locked by another program for some seconds; every call goes on
behind      the same, until the backlog is full: 503, and back; or kill -9 or SIGTERM while it is locked
nospace     no file may grow, neither journal nor database: 503, and back, some times; or kill -9 meanwhile
                or soon after
fulldisk    the same with a full disk below the journal alone (without root as `nospace`)
"""

import contextlib
import os
import random
import resource
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.books import Round
from chaos.calls import Call, Fate, Key, Load, Mix, draw, make_now
from chaos.world import World
from tollhouse.terms.money import decimal_usd, parse_usd

STREAMS = 64
RICH_USD = "10000"
BACK_S = 5.0
"""Service must be back so soon after a fault is over."""
BUSY_S = 5.5
"""By then a transaction has given up waiting for a lock."""
DRAIN_S = 1.0
SMALL_DISK_BYTES = 1024 * 1024
AGAIN = 0.25
FILL_MOST = 400
"""Calls by which what is left of a budget is spent at most."""


@dataclass(frozen=True)
class Scale:
    """How long things last."""

    load_s: float
    locked_s: float
    full_s: float
    times: int


SHORT = Scale(load_s=0.6, locked_s=1.0, full_s=0.5, times=1)
LONG = Scale(load_s=2.0, locked_s=25.0, full_s=2.5, times=4)


@dataclass(frozen=True)
class Kind:
    """A fault, and what its gateway needs to be set to."""

    act: Callable[[World, Round, random.Random, Scale], None]
    settings: dict[str, Any]
    tiny_disk: bool = False


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
    this.settled = world.settled()


def start_again(world: World, this: Round) -> None:
    took_s = world.start()
    this.facts["start_s"] = round(took_s, 3)
    recovered = world.status()["recovered"] or {}
    this.facts["crashed"] = recovered.get("crashed", 0)


def killed(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    load = _loaded(world, this, rich_keys(world, this), Mix(finish=True), dice)
    time.sleep(0.2 + dice.random() * scale.load_s)
    _killed(world, this, load)
    if dice.random() < AGAIN:
        this.facts["killed_again"] = 1
        world.start_and_die(dice.uniform(0.3, 1.5))
    start_again(world, this)
    explained(this, this.calls)


def storm(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    mix = Mix(whole=0.3, leaving=0.25, reset=0.15, failing=0.1, finish=True)
    load = _loaded(world, this, rich_keys(world, this), mix, dice)
    time.sleep(0.5 + dice.random() * 2 * scale.load_s)
    _killed_under(world, this, load)
    explained(this, this.calls)


def stopped(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    mix = Mix(whole=0.3, leaving=0.2, reset=0.1, failing=0.1, seconds=2 * DRAIN_S)
    load = _loaded(world, this, rich_keys(world, this), mix, dice)
    time.sleep(0.5 + dice.random() * 2 * scale.load_s)
    began = time.monotonic()
    code = world.gateway.stop()
    this.facts["stop_s"] = round(time.monotonic() - began, 3)
    this.calls += load.stop()
    this.breaks("unclean_stops", f"exit code {code}", int(code != 0))
    entered = {row["session"] for row in world.query("SELECT session FROM ledger")}
    billed = [entry["call"] for entry in world.bill(f"{this.name}-") if "answered 4" not in entry["state"]]
    late = [name for name in billed if name not in entered]
    this.breaks("unclean_stops", f"not in the ledger when it had ended: {late[:1]}", len(late))
    start_again(world, this)
    this.breaks("unclean_stops", f"{this.facts['crashed']} calls taken for crashed", this.facts["crashed"])
    for call in this.calls:  # cut at the end of the drain, or never let in
        call.left = call.left or (call.ended_at >= began and not call.complete and call.status in (0, 200))
    explained(this, this.calls, shutting_down=503)


def spent(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    usd = decimal_usd(dice.randint(1_200_000_000, 2_000_000_000))
    one, two = f"{this.name} one", f"{this.name} two"
    keys = [world.key(one, usd), world.key(one, usd), world.key(two, RICH_USD), world.key(two, usd, of_key=True)]
    load = _loaded(world, this, keys, Mix(whole=0.5, leaving=0.1, finish=True, seconds=0.6), dice)
    load.wait_for(lambda call: call.status == 402, 8.0)
    time.sleep(dice.random() * scale.load_s)
    _killed_under(world, this, load)
    explained(this, this.calls, budget_exhausted=402)
    for key, name in ((keys[0], "fill"), (keys[3], "rest")):
        _spend_the_rest(world, this, key, f"{this.name}-{name}")
    for call in this.calls:
        _check_refusal(this, call)


def _spend_the_rest(world: World, this: Round, key: Key, name: str) -> None:
    """One call after the other, until one is refused; it must be so only when its worst case does not fit."""
    number, call = 0, None
    while call is None or (call.status == 200 and number < FILL_MOST):
        number += 1
        call = Call(Fate(f"{name}-{number}", 1.0, 1.0, 0.0), key, stream=False, max_tokens=100)
        this.calls.append(make_now(world.port, call))
    if call.code != "budget_exhausted":
        this.breaks("unexpected_answers", f"{call.name}: {call.status} {call.code} {call.broken}")
    elif parse_usd(call.details["held"]):
        this.breaks("held_nusd", f"{call.name} was told that {call.details['held']} is held")
    _check_the_rest(world, this, key, f"{name}-")


def _check_the_rest(world: World, this: Round, key: Key, prefix: str) -> None:
    """By the ledger, not by the gateway's words: what is left is less than such a call was seen to hold."""
    world.shipped()
    holds = [row["hold_nusd"] for row in world.rows() if row["session"].startswith(prefix)]
    if holds:
        spent_nusd, limits = world.spent_nusd(), world.limits_nusd()
        room = min(limits[budget_id] - spent_nusd[budget_id] for budget_id in key.budgets)
        this.breaks("false_refusals", f"{prefix}: {room} was left, {max(holds)} needed", int(room >= max(holds)))


def _check_refusal(this: Round, call: Call) -> None:
    if call.code == "budget_exhausted":
        limit, spent_nusd, held, needed = (
            parse_usd(call.details[name]) for name in ("limit", "spent", "held", "needed")
        )
        if limit - spent_nusd - held >= needed:
            this.breaks("false_refusals", f"{call.name}: {call.details}")


def changed(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    lowered, revoked = world.key(f"{this.name} one", RICH_USD), world.key(f"{this.name} two", RICH_USD)
    (budget_id,) = lowered.budgets
    load = _loaded(world, this, [lowered, revoked], Mix(whole=0.5, finish=True, seconds=0.6), dice)
    load.wait_for(lambda call: call.complete and call.key is lowered, 8.0)
    time.sleep(dice.random() * scale.load_s)
    posted_nusd = parse_usd(world.gateway.owner("GET", f"/budgets/{budget_id}")["posted"])
    world.gateway.owner("PATCH", f"/budgets/{budget_id}", {"amount": decimal_usd(posted_nusd // 2 + 1)})
    since = {lowered.key_id: time.time_ns()}
    world.gateway.owner("DELETE", f"/keys/{revoked.key_id}")
    since[revoked.key_id] = time.time_ns()
    this.lowered.add(budget_id)
    this.most_nusd[budget_id] = parse_usd(RICH_USD)
    time.sleep(0.3 + dice.random() * scale.load_s)
    _killed_under(world, this, load)
    explained(this, this.calls, budget_exhausted=402, key_revoked=401)
    for key in (lowered, revoked):
        call = Call(Fate(f"{this.name}-after {key.key_id}", 0.5, 0.5, 0.0), key, stream=False, max_tokens=50)
        this.calls.append(make_now(world.port, call))
    world.shipped()
    for key_id, at_ns in since.items():
        late = world.query("SELECT session FROM ledger WHERE key_id = ? AND at_ns > ?", key_id, at_ns)
        this.breaks("late_admissions", f"{key_id}: {late[:1]}", len(late))
    world.gateway.owner("PATCH", f"/budgets/{budget_id}", {"amount": RICH_USD})
    _must_be_back(world, this, lowered, "raised")


def locked(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    load = _loaded(world, this, rich_keys(world, this), Mix(whole=0.5, leaving=0.1, seconds=0.5), dice)
    time.sleep(0.3)
    with _lock(world.gateway.home / "tollhouse.db"):
        time.sleep(BUSY_S + dice.random() * scale.locked_s)
    time.sleep(0.3)
    this.calls += load.stop()
    explained(this, this.calls)


def behind(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    keys = rich_keys(world, this)
    load = _loaded(world, this, keys, Mix(whole=0.8, seconds=0.3, finish=True), dice)
    time.sleep(0.3)
    end = {"kill": kill, "stop": _stop, "go on": None}[dice.choice(("kill", "stop", "go on"))]
    with _lock(world.gateway.home / "tollhouse.db"):
        full = load.wait_for(lambda call: call.code == "store_unavailable", 15.0)
        this.breaks("unexpected_answers", "the backlog never was full", int(not full))
        time.sleep(dice.random() * scale.locked_s)
        if end is not None:
            end(world, this)
            this.calls += load.stop()
    if end is not None:
        start_again(world, this)
    _must_be_back(world, this, keys[0], "unlocked")
    if end is None:
        this.calls += load.stop()
    explained(this, this.calls, store_unavailable=503, shutting_down=503)


def _stop(world: World, this: Round) -> None:
    began = time.monotonic()
    code = world.gateway.stop()
    this.facts["stop_s"] = round(time.monotonic() - began, 3)
    this.breaks("unclean_stops", f"exit code {code}", int(code != 0))
    this.killed = True  # for those who were not let in any more


def nospace(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    keys = rich_keys(world, this)
    load = _loaded(world, this, keys, Mix(whole=0.5, leaving=0.1, seconds=0.4, finish=True), dice)
    dies = dice.choice(("while it is full", "soon after", ""))
    mounted = os.path.ismount(world.journal)
    this.facts["space"] = "tmpfs" if mounted else "file size limit"
    for number in range(scale.times):
        time.sleep(0.3 * dice.random())
        with _full_disk(world, dice) if mounted else _short_files(world, dice):
            refused = load.wait_for(lambda call: call.code == "journal_unavailable", 15.0)
            this.breaks("unexpected_answers", "the disk never was full", int(not refused))
            time.sleep(dice.random() * scale.full_s)
            last = number == scale.times - 1
            if last and dies == "while it is full":
                this.unwritable = True
                _killed(world, this, load)
        if last and dies == "soon after":
            time.sleep(1.5 * dice.random())
            this.unwritable = True  # what waited may wait still
            _killed(world, this, load)
        if this.killed:
            start_again(world, this)
        _must_be_back(world, this, keys[0], f"space{number}")
    if not this.killed:
        this.calls += load.stop()
    explained(this, this.calls, journal_unavailable=503)


# --- what rounds are made of


def _loaded(world: World, this: Round, keys: list[Key], mix: Mix, dice: random.Random) -> Load:
    return Load(world.port, draw(mix, keys, this.name, str(dice.random())), STREAMS).start()


def _killed(world: World, this: Round, load: Load) -> None:
    kill(world, this)
    this.calls += load.stop()


def _killed_under(world: World, this: Round, load: Load) -> None:
    _killed(world, this, load)
    start_again(world, this)


def _must_be_back(world: World, this: Round, key: Key, name: str) -> None:
    took_s, calls = world.answers_within(key, f"{this.name}-{name}", 4 * BACK_S)
    this.calls += calls
    this.facts["back_s"] = max(this.facts.get("back_s", 0.0), round(took_s or 4 * BACK_S, 3))
    last = f"{calls[-1].status} {calls[-1].code}"
    this.breaks("late_returns", f"{name}: {took_s} s, {last}", int(took_s is None or took_s > BACK_S))


@contextmanager
def _lock(database: Path) -> Iterator[None]:
    """Another program writes for a while."""
    with closing(sqlite3.connect(database, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


@contextmanager
def _short_files(world: World, dice: random.Random) -> Iterator[None]:
    """No file of the gateway may grow beyond some bytes; a write over the edge is cut short, as on a full disk."""
    pid = world.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    newest = max((path.stat().st_size for path in world.journal.glob("*.journal")), default=0)
    soft = dice.choice((0, newest + dice.randint(0, 3_000)))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, before[1]))
    try:
        # A segment that is full is followed by a new one: only with no room for that either is the disk full.
        if soft:
            time.sleep(0.2 + dice.random() / 5)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (min(soft, dice.randint(0, 400)), before[1]))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def _full_disk(world: World, dice: random.Random) -> Iterator[None]:
    """Somebody else fills the journal's disk, up to some bytes."""
    ballast = world.journal / "ballast"
    left = dice.choice((0, dice.randint(0, 3 * 4096)))
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            file.write(bytes(max(0, shutil.disk_usage(world.journal).free - left)))
            while not left and file.write(bytes(4096)):
                pass
        yield
    finally:
        ballast.unlink(missing_ok=True)


DEFAULT: dict[str, Any] = {"listen": {"drain_s": DRAIN_S}}
SMALL_BACKLOG: dict[str, Any] = {"listen": {"drain_s": DRAIN_S}, "storage": {"max_backlog": 150}}
ANY_SPACE: dict[str, Any] = {"listen": {"drain_s": DRAIN_S}, "storage": {"min_free_bytes": 0, "segment_bytes": 65_536}}

KINDS: dict[str, Kind] = {
    "killed": Kind(killed, DEFAULT),
    "storm": Kind(storm, DEFAULT),
    "stopped": Kind(stopped, DEFAULT),
    "spent": Kind(spent, DEFAULT),
    "changed": Kind(changed, DEFAULT),
    "locked": Kind(locked, DEFAULT),
    "behind": Kind(behind, SMALL_BACKLOG),
    "nospace": Kind(nospace, ANY_SPACE),
    "fulldisk": Kind(nospace, ANY_SPACE, tiny_disk=True),
}
