"""A run: rounds one after the other, in worlds that are kept as long as all is well, and the figures of all of them."""

import contextlib
import random
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from chaos.books import LAW, Round, audit
from chaos.rounds import KINDS, SMALL_DISK_BYTES, Kind, Scale
from chaos.world import World, small_disk

ROUNDS_A_WORLD = 40
"""Then a new home begins: a run of hours must not become slower and slower."""
FAILED_MOST = 5
"""A run ends after so many failed rounds; each keeps its home."""
NOTE_CHARS = 600
SUMS = ("calls", "seen_whole", "left", "crashed", "killed_again", "whole_but_unwritten", "billed_nusd", "ledger_nusd")
TALLIES = ("refused", "provider", "rows")
TIMES = ("start_s", "stop_s", "back_s")


class Place:
    """A world with what it stands on."""

    def __init__(self, directory: Path, kind: Kind) -> None:
        self.directory = directory
        self.rounds = 0
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            if kind.tiny_disk:
                home = directory / "home"
                home.mkdir(mode=0o700, parents=True)
                opened.enter_context(small_disk(home / "journal", SMALL_DISK_BYTES))
            self.world = World(directory, **kind.settings)
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


class Run:
    """Use as a context manager: at its end everything that was started is ended."""

    def __init__(self, directory: Path, seed: str, scale: Scale, tell: Callable[[str], None] | None = None) -> None:
        self.rounds: list[tuple[str, Round]] = []
        self.failed: list[dict[str, Any]] = []
        self._directory = directory
        self._seed = seed
        self._scale = scale
        self._tell = tell or (lambda _line: None)
        self._began = time.monotonic()
        self._places: dict[str, Place] = {}
        self._made = 0

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._places):
            self._close(name, keep=False)

    def play(self, kind: str, number: int) -> Round:
        """One round of a kind; its chance is drawn from the run's seed, the kind and the number alone."""
        began = time.monotonic()
        seed = f"{self._seed}:{kind}:{number}"
        this = Round(f"{kind}{number}")
        try:
            place = self._place(kind)
            KINDS[kind].act(place.world, this, random.Random(seed), self._scale)
            audit(place.world, this)
            place.rounds += 1
        except (
            AssertionError,
            OSError,
            ValueError,
            httpx.HTTPError,
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

    def _place(self, kind: str) -> Place:
        """The world for this kind of round: one for all that need the same."""
        wanted = KINDS[kind]
        name = repr((wanted.settings, wanted.tiny_disk))
        place = self._places.get(name)
        if place is not None and place.rounds >= ROUNDS_A_WORLD:
            self._close(name, keep=False)
            place = None
        if place is None:
            self._made += 1
            place = self._places[name] = Place(self._directory / f"world{self._made}", wanted)
        return place

    def _close(self, name: str, *, keep: bool) -> None:
        self._places.pop(name).close(keep=keep)

    def _fail(self, kind: str, seed: str, this: Round) -> None:
        wanted = KINDS[kind]
        name = repr((wanted.settings, wanted.tiny_disk))
        home = str(self._places[name].directory if name in self._places else self._directory)
        if name in self._places:
            self._close(name, keep=True)
        again = f"make chaos ARGS='--replay {seed}'"
        self.failed.append({"round": seed, "notes": this.notes, "home": home, "reproduce": again})

    def figures(self) -> dict[str, Any]:
        """All figures of the run; everything under `law` must be 0."""
        law: Counter[str] = Counter(dict.fromkeys(LAW, 0))
        facts: Counter[str] = Counter()
        for _, this in self.rounds:
            law.update(this.broken)
            facts.update({name: this.facts[name] for name in SUMS if name in this.facts})
        found: dict[str, Any] = {
            "seed": self._seed,
            "took_s": round(time.monotonic() - self._began, 1),
            "rounds": len(self.rounds),
            "kinds": dict(Counter(kind for kind, _ in self.rounds)),
            "law": dict(law),
            "holds": not any(law.values()),
            **facts,
        }
        for name in TALLIES:
            found[name] = dict(sum((Counter(this.facts.get(name, {})) for _, this in self.rounds), Counter()))
        for name in TIMES:
            if times := sorted(this.facts[name] for _, this in self.rounds if name in this.facts):
                found[name] = {"p50": round(statistics.median(times), 3), "max": times[-1]}
        found["space"] = dict(Counter(this.facts["space"] for _, this in self.rounds if "space" in this.facts))
        found["failed"] = self.failed
        return found
