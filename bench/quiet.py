"""When this machine is quiet: what is asked of a moment, and of a whole run, settled before anything is measured.

A measurement was made in a quiet moment when both pieces of work of `bench.pace` took little longer than the quickest
time this machine has ever shown under the same load of the same gateway (which itself warms or fills the caches), and
nobody else used much of the two cores meanwhile. That a run saw no quick moment at all is known only by the runs before
it, so the quickest is kept, by processor and interpreter, below .cache/bench.
"""

import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from bench.machine import describe
from bench.problem import BenchProblem
from bench.rounds import Figure, Sample

CORE_LIMIT = 1.2  # times the quickest: in slow moments of a shared host the core's own work takes 1.3 to 1.6
MEMORY_LIMIT = 1.35  # memory swings more by itself
MOMENT_SHARE = 0.1  # of one core, used by others; the kernel counts it in ticks of 10 ms, so no finer for a moment
RUN_SHARE = 0.03  # the same, median of a figure: under this a ratio does not move by more than its usual spread
ENOUGH = 5  # measurements of a gateway, to say what holds in quiet moments
REMEMBERED = Path(__file__).resolve().parent.parent / ".cache" / "bench" / "quickest.json"


class Speed(NamedTuple):
    """What the two pieces of work took, in µs; 0 where nobody looked."""

    core_us: float
    memory_us: float

    def or_quicker(self, other: "Speed") -> "Speed":
        """The quicker of each."""
        return Speed(*(min(filter(None, pair), default=0.0) for pair in zip(self, other, strict=True)))


NEVER_SEEN = Speed(0.0, 0.0)

Quickest = Mapping[str, Speed]
"""By figure and gateway: `call/nginx`."""


@dataclass(frozen=True)
class Quiet:
    """Judges measurements by the quickest that is known."""

    quickest: Quickest

    def all_moments(self, figure: Figure, gateway: str) -> list[Sample]:
        """The measurements of this gateway that were made in quiet moments."""
        quickest = self.quickest.get(f"{figure.name}/{gateway}", NEVER_SEEN)
        return [sample for sample in figure.rounds.get(gateway, ()) if is_quiet(sample, quickest)]

    def moments(self, figure: Figure, gateway: str) -> list[Sample]:
        """The same; none when they are too few to say anything."""
        found = self.all_moments(figure, gateway)
        return found if len(found) >= ENOUGH else []

    def share(self, figure: Figure) -> float:
        """The part of a figure's measurements that was made in quiet moments."""
        return sum(len(self.all_moments(figure, name)) for name in figure.rounds) / max(1, len(figure.samples()))

    def is_run(self, figures: Sequence[Figure]) -> bool:
        """Whether most measurements of every figure were made in quiet moments, and the cores were ours alone."""
        return all(self.share(figure) > 0.5 and is_ours_alone(figure) for figure in figures if is_watched(figure))


def is_quiet(sample: Sample, quickest: Speed) -> bool:
    """Whether a measurement was made in a quiet moment."""
    speed = speed_of(sample)
    return (
        0 < speed.core_us <= CORE_LIMIT * quickest.core_us
        and 0 < speed.memory_us <= MEMORY_LIMIT * quickest.memory_us
        and sample.get("foreign", 0.0) <= MOMENT_SHARE
    )


def is_watched(figure: Figure) -> bool:
    """Whether somebody looked at the machine's speed meanwhile: memory and start-up do not ask for it."""
    return any("pace_us" in sample for sample in figure.samples())


def is_ours_alone(figure: Figure) -> bool:
    """Whether others used next to nothing of the two cores in most measurements."""
    return statistics.median([sample.get("foreign", 0.0) for sample in figure.samples()] or [0.0]) < RUN_SHARE


def speed_of(sample: Sample) -> Speed:
    """What the pieces of work took during a measurement."""
    return Speed(sample.get("pace_us", 0.0), sample.get("memory_us", 0.0))


def quickest_of(figures: Iterable[Figure], known: Quickest = MappingProxyType({})) -> dict[str, Speed]:
    """The best that was ever seen: `known`, and any measurement of these."""
    best = dict(known)
    for figure in figures:
        for gateway, samples in figure.rounds.items() if is_watched(figure) else ():
            for sample in samples:
                key = f"{figure.name}/{gateway}"
                best[key] = best.get(key, NEVER_SEEN).or_quicker(speed_of(sample))
    return best


def recall(path: Path = REMEMBERED) -> dict[str, Speed]:
    """The best this machine has ever shown with this interpreter. Raises BenchProblem when it cannot be read."""
    kept = _read(path).get(_machine(), {})
    try:
        return {key: Speed(*map(float, speed)) for key, speed in kept.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise _not_ours(path, error) from error


def remember(best: Quickest, path: Path = REMEMBERED) -> None:
    """Keep it for the next run. Raises BenchProblem when it cannot be kept there."""
    kept = _read(path) | {_machine(): best}
    part = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(kept))
        part.replace(path)
    except OSError as error:
        raise BenchProblem(f"the machine's quickest speeds cannot be kept in {path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise _not_ours(path, error) from error
    if not isinstance(kept, dict):
        raise _not_ours(path, "a list or a value")
    return kept


def _not_ours(path: Path, why: object) -> BenchProblem:
    return BenchProblem(f"{path} is not what this kit has written ({why}); remove it")


def _machine() -> str:
    machine = describe()
    python = machine["python"]
    assert isinstance(python, dict)
    return f"{machine['cpu']}, {machine['kernel']}, {python['implementation']} {python['version']} {python['compiler']}"
