"""What Tollhouse must reach and wants to reach, and whether a run has found it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.quiet import Quiet
from bench.rounds import YARDSTICK, Figure


@dataclass(frozen=True)
class Goal:
    """A bound from above: on a quantity of the subject, or on its ratio to the yardstick (quantity None)."""

    key: str
    figure: str
    quantity: str | None
    must: float
    goal: float

    def value(self, subject: str, figures: Sequence[Figure]) -> float | None:
        """What was found; None when it was not measured."""
        figure = next((figure for figure in figures if figure.name == self.figure), None)
        if figure is None or not figure.rounds.get(subject):
            return None
        if self.quantity:
            return figure.medians()[subject][self.quantity]
        ratios = figure.ratios(subject)
        return statistics.median(ratios) if ratios else None

    def quiet_value(self, subject: str, figures: Sequence[Figure], quiet: Quiet) -> float | None:
        """The same by quiet moments alone: a ratio of medians, since a round seldom has all its measurements in one.
        None when there were too few.
        """
        figure = next((figure for figure in figures if figure.name == self.figure), None)
        if figure is None or not (ours := quiet.moments(figure, subject)):
            return None
        if self.quantity:
            return statistics.median(sample[self.quantity] for sample in ours)
        quantity, base = figure.ratio_of, quiet.moments(figure, YARDSTICK)
        if quantity is None or not base:
            return None
        return statistics.median(sample[quantity] for sample in ours) / statistics.median(
            sample[quantity] for sample in base
        )


GOALS = (
    Goal(f"call_vs_{YARDSTICK}", "call", None, 4.0, 3.0),
    Goal(f"event_vs_{YARDSTICK}", "event", None, 2.0, 1.5),
    Goal(f"call_50kb_vs_{YARDSTICK}", "call_50kb", None, 4.0, 2.5),
    Goal(f"tls_call_vs_{YARDSTICK}", "tls_call", None, 4.0, 3.0),
    Goal("added_p50_ms", "latency", "added_p50_ms", 0.5, 0.3),
    Goal("added_p99_ms", "latency", "added_p99_ms", 3.0, 1.5),
    Goal("idle_rss_mb", "idle", "rss_mb", 130.0, 80.0),
    Goal("ready_after_s", "idle", "start_s", 2.0, 1.0),
    Goal("idle_stream_kb", "idle_stream", "kb_per_stream", 40.0, 15.0),
)
