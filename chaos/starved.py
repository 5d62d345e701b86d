"""Gateways whose disk or database fails for a while, under load.

locked      the database locked by another program for some seconds; every call goes on
gone        every call on the database's files fails with EIO for some seconds; every call goes on. Its names are away
            meanwhile, which a process that has it open must not notice
behind      locked until the backlog is full: 503, and back; or kill -9 or SIGTERM while it is locked
away        PostgreSQL restarts, then refuses everybody until the backlog is full: 503, and back; or kill -9 meanwhile
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
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from chaos.books import Round
from chaos.calls import Load, Mix
from chaos.parts import HOPELESS_S, Scale, explained, kill, kill_beneath, loaded, must_be_back, rich_keys, start_again
from chaos.tracer import Fault, failing
from chaos.world import PROBE_S, World

FULL_S = 30.0
"""By then a fault has made itself felt."""
SMALL_DISK_BYTES = 1024 * 1024
EASY = Mix(whole=0.5, leaving=0.1, seconds=0.5)
FILE_CALLS = "pread64,pwrite64,fsync,fdatasync,ftruncate,openat,unlink"


def locked(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    load = loaded(world, this, rich_keys(world, this), EASY, dice, scale.callers)
    time.sleep(0.3)
    with _lock(world.gateway.home / "tollhouse.db"):
        time.sleep(scale.locked_s)
    _must_catch_up(world, this, scale)
    this.calls += load.stop()
    explained(this, this.calls)


def gone(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    load = loaded(world, this, rich_keys(world, this), EASY, dice, scale.callers)
    time.sleep(0.3)
    home = world.gateway.home
    with failing(Fault("database", FILE_CALLS, "EIO"), world.pid, home) as tracer:
        time.sleep(scale.gone_s * (1 + dice.random() / 5))  # over at any moment between two tries to use it
        this.facts["faults"] = tracer.failed.total()
    this.breaks("unexpected_answers", "nothing failed", int(not this.facts["faults"]))
    _must_catch_up(world, this, scale)
    with _moved_away(home):
        time.sleep(scale.gone_s / 3)
    _must_catch_up(world, this, scale)
    this.calls += load.stop()
    explained(this, this.calls)


def _must_catch_up(world: World, this: Round, scale: Scale) -> None:
    """The database takes settlements again soon enough after a fault was over."""
    began = time.monotonic()
    while (took_s := time.monotonic() - began) < HOPELESS_S and not world.status()["database"]["healthy"]:
        time.sleep(PROBE_S)
    this.facts["caught_up_s"] = max(this.facts.get("caught_up_s", 0.0), round(took_s, 3))
    this.breaks("late_returns", f"the database is used again after {took_s} s", int(took_s > scale.back_s))


def behind(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    keys = rich_keys(world, this)
    load = loaded(world, this, keys, Mix(whole=0.8, seconds=0.3, finish=True), dice, scale.callers)
    time.sleep(0.3)
    end = {"kill": kill, "stop": _stop, "go on": None}[dice.choice(("kill", "stop", "go on"))]
    with _lock(world.gateway.home / "tollhouse.db"):
        full = load.wait_for(lambda call: call.code == "store_unavailable", FULL_S)
        this.breaks("unexpected_answers", "the backlog never was full", int(not full))
        time.sleep(dice.random() * scale.locked_s)
        if end is not None:
            end(world, this)
            this.calls += load.stop()
    if end is not None:
        start_again(world, this)
    must_be_back(world, this, keys[0], "unlocked", scale)
    if end is None:
        this.calls += load.stop()
    explained(this, this.calls, store_unavailable=503, shutting_down=503)


def away(world: World, this: Round, dice: random.Random, scale: Scale) -> None:
    assert world.postgres is not None
    keys = rich_keys(world, this)
    load = loaded(world, this, keys, Mix(whole=0.8, seconds=0.3, finish=True), dice, scale.callers)
    time.sleep(0.3)
    world.postgres.cut(world.database)  # as a restart: at once back
    time.sleep(0.3)
    end = dice.choice((kill, None))
    world.postgres.close_door(world.database)
    try:
        full = load.wait_for(lambda call: call.code == "store_unavailable", FULL_S)
        this.breaks("unexpected_answers", "the backlog never was full", int(not full))
        time.sleep(dice.random() * scale.locked_s)
        if end is not None:
            end(world, this)
            this.calls += load.stop()
    finally:
        world.postgres.open_door(world.database)
    if end is not None:
        start_again(world, this)
    must_be_back(world, this, keys[0], "again", scale)
    if end is None:
        _must_catch_up(world, this, scale)
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
    load = loaded(world, this, keys, Mix(whole=0.5, leaving=0.1, seconds=0.4, finish=True), dice, scale.callers)
    dies = dice.choice(("while it is full", "soon after", ""))
    mounted = os.path.ismount(world.journal)
    this.facts["space"] = "tmpfs" if mounted else "file size limit"
    for number in range(scale.times):
        time.sleep(0.3 * dice.random())
        with _full_disk(world, dice) if mounted else _short_files(world, dice):
            refused = load.wait_for(lambda call: call.code == "journal_unavailable", FULL_S)
            this.breaks("unexpected_answers", "the disk never was full", int(not refused))
            time.sleep(dice.random() * scale.full_s)
            last = number == scale.times - 1
            if last and dies == "while it is full":
                _kill_unwritten(world, this, load)
        if last and dies == "soon after":
            time.sleep(1.5 * dice.random())
            _kill_unwritten(world, this, load)
        if this.killed:
            start_again(world, this)
        must_be_back(world, this, keys[0], f"space{number}", scale)
    if not this.killed:
        this.calls += load.stop()
    explained(this, this.calls, journal_unavailable=503)


def _kill_unwritten(world: World, this: Round, load: Load) -> None:
    """kill -9 while settlements wait for the journal: what was seen whole may then stand at its upper bound."""
    kill_beneath(world, this, load)
    for call in this.calls:
        call.unwritten = True


@contextmanager
def _moved_away(home: Path) -> Iterator[None]:
    """The database's files have other names."""
    names = [path.name for path in home.glob("tollhouse.db*")]
    for name in names:
        (home / name).rename(home / f"away {name}")
    try:
        yield
    finally:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (home / f"away {name}").rename(home / name)


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
