"""A run: rounds one after the other, in worlds that are kept as long as all is well, and the figures of all of them."""

import contextlib
import random
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psycopg

from chaos.books import LAW, Round, audit
from chaos.faulted import coverage
from chaos.kinds import KINDS
from chaos.nursery import Nursery
from chaos.parts import Kind, Scale
from chaos.starved import SMALL_DISK_BYTES
from chaos.world import World, small_disk
from tests.postgres import Postgres

ROUNDS_A_WORLD = 40
"""Then a new home begins: a run of hours must not become slower and slower."""
FAILED_MOST = 5
"""A run ends after so many failed rounds; each keeps its home."""
NOTE_CHARS = 600
SUMS = (
    "calls",
    "seen_whole",
    "left",
    "streams_cut",
    "killed_again",
    "whole_but_unwritten",
    "faults",
    "gave_up",
    "billed_nusd",
    "ledger_nusd",
)
TALLIES = ("refused", "provider", "rows")
RETURNS = ("back_s", "caught_up_s")
TIMES = ("start_s", "stop_s", "back_s", "caught_up_s")


class Ground:
    """A world with what it stands on."""

    def __init__(self, directory: Path, kind: Kind, nursery: Nursery) -> None:
        self.directory = directory
        self.rounds = 0
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            if kind.tiny_disk:
                home = directory / "home"
                home.mkdir(mode=0o700, parents=True)
                opened.enter_context(small_disk(home / "journal", SMALL_DISK_BYTES))
            server = opened.enter_context(Postgres()) if kind.postgres else None
            self.world = World(directory, nursery, server, **kind.settings)
            opened.callback(self.world.close)
            self.world.start()
            self._stack = opened.pop_all()

    def close(self, *, keep: bool) -> None:
        """End it. What a small disk holds is copied beside it, if the home is to be kept."""
        journal = self.world.journal
        if keep and journal.is_mount():
            shutil.copytree(journal, self.directory / "journal of the small disk")
        self._stack.close()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)


def _name(kind: Kind) -> str:
    """Kinds of one name share a world."""
    return repr((kind.settings, kind.tiny_disk, kind.postgres))


class Run:
    """Use as a context manager: at its end everything that was started is ended."""

    def __init__(
        self,
        directory: Path,
        seed: str,
        scale: Scale,
        nursery: Nursery,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.rounds: list[tuple[str, Round]] = []
        self.failed: list[dict[str, Any]] = []
        self._directory = directory
        self._seed = seed
        self._scale = scale
        self._tell = tell
        self._began = time.monotonic()
        self._grounds: dict[str, Ground] = {}
        self._made = 0
        self._nursery = nursery
        self._ends: dict[str, dict[str, int]] = defaultdict(dict)

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._grounds):
            self._close(name, keep=False)

    def play(self, kind: str, number: int) -> Round:
        """One round of a kind; its chance is drawn from the run's seed, the kind and the number alone."""
        began = time.monotonic()
        seed = f"{self._seed}:{kind}:{number}"
        this = Round(f"{kind}{number}", number, self._seed, self._ends[kind])
        try:
            ground = self._ground(kind)
            KINDS[kind].act(ground.world, this, random.Random(seed), self._scale)
            audit(ground.world, this)
            ground.rounds += 1
        except (
            AssertionError,
            OSError,
            ValueError,
            httpx.HTTPError,
            psycopg.Error,
            sqlite3.Error,
            subprocess.SubprocessError,
        ) as error:
            this.breaks("failed_rounds", f"{type(error).__name__}: {str(error)[-NOTE_CHARS:]}")
        self.rounds.append((kind, this))
        broken = {name: times for name, times in this.broken.items() if times}
        words = " ".join(f"{name}={value}" for name, value in this.facts.items() if isinstance(value, int | float))
        self._tell(f"{seed}  {time.monotonic() - began:5.1f} s  {broken or 'ok'}  {words}")
        if broken:
            self._fail(kind, seed, this)
        return this

    @property
    def hopeless(self) -> bool:
        """It is time to look at what failed, not to go on."""
        return len(self.failed) >= FAILED_MOST

    def _ground(self, kind: str) -> Ground:
        """The world for this kind of round: one for all that need the same."""
        wanted = KINDS[kind]
        name = _name(wanted)
        ground = self._grounds.get(name)
        if ground is not None and ground.rounds >= ROUNDS_A_WORLD:
            self._close(name, keep=False)
            ground = None
        if ground is None:
            self._made += 1
            ground = self._grounds[name] = Ground(self._directory / f"world{self._made}", wanted, self._nursery)
        return ground

    def _close(self, name: str, *, keep: bool) -> None:
        self._grounds.pop(name).close(keep=keep)

    def _fail(self, kind: str, seed: str, this: Round) -> None:
        wanted = KINDS[kind]
        name = _name(wanted)
        home = str(self._grounds[name].directory if name in self._grounds else self._directory)
        if name in self._grounds:
            self._close(name, keep=True)
        again = f"make chaos ARGS='--replay {seed}'"
        self.failed.append({"round": seed, "notes": this.notes, "home": home, "reproduce": again})

    def figures(self) -> dict[str, Any]:
        """All figures of the run. `ok` says that those of `LAW`, which are always there, are 0."""
        law: Counter[str] = Counter(dict.fromkeys(LAW, 0))
        sums: Counter[str] = Counter(dict.fromkeys(SUMS, 0))
        for _, this in self.rounds:
            law.update(this.broken)
            sums.update({name: this.facts[name] for name in SUMS if name in this.facts})
        every = [this.facts for _, this in self.rounds]
        kinds = Counter(kind for kind, _ in self.rounds)
        found: dict[str, Any] = {"ok": bool(every) and not any(law.values()), **law}
        found |= {
            "recovery_s_max": max((facts.get(name, 0.0) for facts in every for name in RETURNS), default=0.0),
            "rounds": len(every),
            "kill_rounds": kinds["killed"],
            "streams_cut": sums.pop("streams_cut"),
            **coverage([this.facts for kind, this in self.rounds if kind == "faulted"]),
            **sums,
            "kinds": dict(kinds),
        }
        for name in TALLIES:
            found[name] = dict(sum((Counter(facts.get(name, {})) for facts in every), Counter()))
        for name in TIMES:
            if times := sorted(facts[name] for facts in every if name in facts):
                found[name] = {"p50": round(statistics.median(times), 3), "max": times[-1]}
        found["space"] = dict(Counter(facts["space"] for facts in every if "space" in facts))
        took_s = round(time.monotonic() - self._began, 1)
        return found | {"seed": self._seed, "took_s": took_s, "failed": self.failed}
