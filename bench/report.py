"""What a run has found, as one JSON object or as small tables."""

import statistics
from collections.abc import Sequence

from bench.figures import CONNECTIONS
from bench.goals import GOALS, Goal
from bench.machine import is_profile_guided
from bench.quiet import Quickest, Quiet, is_ours_alone, is_watched, quickest_of
from bench.rounds import YARDSTICK, Figure

EVEN_SPREAD = 1.15  # a fixed piece of work should not take longer than this, compared with its quick moments
LATE_SHARE = 0.02  # of the calls of a fixed rate
BUSY_SHARE = 0.9  # of its core: under this, a gateway waits for the load, and a call costs it more

NOTHING: Quickest = {}

_TITLES = {
    "call": f"A call, {CONNECTIONS} connections",
    "call_50kb": "A call with a body of 50 KB",
    "tls_call": "A call, upstream by TLS",
    "event": "An event, 128 streams of 100 events/s",
    "latency": "Latency at 1,000 calls/s",
    "idle": "Idle",
    "idle_stream": "An idle open stream",
}
_COLUMNS = {
    "cpu_us": ("CPU µs", "{:.1f}"),
    "per_s": ("per second", "{:,.0f}"),
    "core": ("of its core", "{:.0%}"),
    "wanted": ("wanted", "{:.0%}"),
    "pace_us": ("pace µs", "{:.0f}"),
    "memory_us": ("memory µs", "{:.0f}"),
    "foreign": ("others", "{:.0%}"),
    "p50_ms": ("p50 ms", "{:.3f}"),
    "p99_ms": ("p99 ms", "{:.3f}"),
    "late": ("sent late", "{:.1%}"),
    "added_p50_ms": ("added p50 ms", "{:+.3f}"),
    "added_p99_ms": ("added p99 ms", "{:+.3f}"),
    "start_s": ("ready after s", "{:.3f}"),
    "rss_mb": ("RSS MB", "{:.1f}"),
    "kb_per_stream": ("KB per stream", "{:.1f}"),
    "rss_before_mb": ("RSS before MB", "{:.1f}"),
}


def as_json(
    subject: str, figures: Sequence[Figure], head: dict[str, object], known: Quickest = NOTHING
) -> dict[str, object]:
    """One object: what was found beside what must be on top, everything that was measured below. `known`: this
    machine's quickest in earlier runs.
    """
    quiet = Quiet(quickest_of(figures, known))
    found = {goal: value for goal in GOALS if (value := goal.value(subject, figures)) is not None}
    return {
        "subject": subject,
        **{goal.key: _rounded(value) for goal, value in found.items()},
        "goals": {
            goal.key: {
                "value": _rounded(value),
                "must": goal.must,
                "must_met": value <= goal.must,
                "goal": goal.goal,
                "goal_met": value <= goal.goal,
                **_in_quiet_moments(goal, subject, figures, quiet),
            }
            for goal, value in found.items()
        },
        "quiet": quiet.is_run(figures),
        "foreign_cpu_share": _rounded(_foreign(figures)),
        "speed_spread": _rounded(speed_spread(figures)),
        "notes": _notes(figures, quiet),
        **head,
        "figures": {figure.name: _figure(figure, quiet) for figure in figures},
    }


def as_text(subject: str, figures: Sequence[Figure], known: Quickest = NOTHING) -> str:
    """A table for each figure, then the goals, then what must be known to judge them."""
    quiet = Quiet(quickest_of(figures, known))
    tables = [*(_table(figure) for figure in figures), _goals_table(subject, figures, quiet)]
    return "\n\n".join([*tables, *_notes(figures, quiet)])


def _in_quiet_moments(goal: Goal, subject: str, figures: Sequence[Figure], quiet: Quiet) -> dict[str, object]:
    value = goal.quiet_value(subject, figures, quiet)
    if value is None:
        return {"in_quiet_moments": None, "must_met_in_quiet_moments": None}
    return {"in_quiet_moments": _rounded(value), "must_met_in_quiet_moments": value <= goal.must}


def _foreign(figures: Sequence[Figure]) -> float:
    """The most of one core that others used during a measurement."""
    return max((sample.get("foreign", 0.0) for figure in figures for sample in figure.samples()), default=0.0)


def speed_spread(figures: Sequence[Figure]) -> float:
    """How much longer the core's own piece of work took in a slow moment (9th decile) than in a quick one (1st)."""
    paces = sorted(sample["pace_us"] for figure in figures for sample in figure.samples() if sample.get("pace_us"))
    return paces[len(paces) * 9 // 10] / paces[len(paces) // 10] if paces else 1.0


def _notes(figures: Sequence[Figure], quiet: Quiet) -> list[str]:
    notes = []
    if not all(map(is_ours_alone, figures)):
        notes.append(
            f"Disturbed: others, or the host, used up to {_foreign(figures):.0%} of a core meanwhile. The ratios are"
            " medians and bear a little of it; for figures to publish, run again on a quiet machine."
        )
    if not quiet.is_run(figures):
        shares = ", ".join(f"{figure.name} {quiet.share(figure):.0%}" for figure in figures if is_watched(figure))
        notes.append(
            "Not quiet: of the measurements only these were made in quiet moments, by the quickest this machine has"
            f" ever shown: {shares}."
        )
    if (spread := speed_spread(figures)) > EVEN_SPREAD:
        notes.append(f"Uneven: the same piece of work took {spread:.2f} times as long in slow moments as in quick.")
    for figure in figures:
        share = figure.medians().get(YARDSTICK, {}).get("wanted", 1.0)
        if figure.name == "call" and share < BUSY_SHARE:
            notes.append(
                f"Kind: {YARDSTICK} wanted only {share:.0%} of its core, as the load could not give it more. That makes"
                " its calls dearer and the ratio smaller than at full load."
            )
        late = max((sample.get("late", 0.0) for sample in figure.medians().values()), default=0.0)
        if late > LATE_SHARE:
            notes.append(
                f"Late: {late:.0%} of the calls of a fixed rate left over 1 ms late: others held the load's core."
                " The latencies tell of the machine and not of the gateways."
            )
    if not is_profile_guided():
        notes.append(
            "Slow interpreter: this CPython was built without profile-guided optimisation and runs Python code up to"
            " 1.7 times slower than a distribution's own. Compare only with runs of the same interpreter."
        )
    return notes


def _goals_table(subject: str, figures: Sequence[Figure], quiet: Quiet) -> str:
    rows = [[subject, "found", "in quiet moments", "must", "goal", ""]]
    for goal in GOALS:
        value = goal.value(subject, figures)
        if value is not None:
            word = "goal met" if value <= goal.goal else "met" if value <= goal.must else "NOT MET"
            by_moments = goal.quiet_value(subject, figures, quiet)
            in_quiet = "" if by_moments is None else f"{by_moments:.2f}"
            rows.append([goal.key, f"{value:.2f}", in_quiet, f"{goal.must:g}", f"{goal.goal:g}", word])
    return "\n".join(_aligned(rows))


def _figure(figure: Figure, quiet: Quiet) -> dict[str, object]:
    answer: dict[str, object] = {}
    for name, quantities in figure.medians().items():
        entry: dict[str, object] = {key: _rounded(value) for key, value in quantities.items()}
        if ratios := figure.ratios(name):
            entry |= {
                "vs_nginx": _rounded(statistics.median(ratios)),
                "vs_nginx_quartiles": [_rounded(ratio) for ratio in _quartiles(ratios)],
                "vs_nginx_rounds": [_rounded(ratio) for ratio in ratios],
            }
        answer[name] = entry
    if is_watched(figure):
        answer["quiet_share"] = _rounded(quiet.share(figure))
    if figure.absent:
        answer["absent"] = dict(figure.absent)
    return answer


def _table(figure: Figure) -> str:
    medians = figure.medians()
    keys = list(next(iter(medians.values())))
    rows = [["", *(_COLUMNS[key][0] for key in keys), f"vs {YARDSTICK}" if figure.ratio_of else ""]]
    for name, quantities in medians.items():
        cells = [_COLUMNS[key][1].format(quantities[key]) for key in keys]
        rows.append([name, *cells, _ratio_cell(figure, name)])
    absent = [f"Without {name}: {_ends_of(why)}" for name, why in figure.absent.items()]
    return "\n".join([_TITLES[figure.name], *_aligned(rows), *absent])


def _ends_of(text: str) -> str:
    """The first line and, of several, the last: what failed and the last word on it."""
    lines = text.strip().splitlines()
    return lines[0] if len(lines) < 2 else f"{lines[0]} … {lines[-1]}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _ratio_cell(figure: Figure, name: str) -> str:
    ratios = figure.ratios(name)
    if not ratios:
        return ""
    low, high = _quartiles(ratios)
    return f"{statistics.median(ratios):.2f}× (half of the rounds {low:.2f}–{high:.2f})"


def _quartiles(ratios: Sequence[float]) -> tuple[float, float]:
    """The bounds between which the middle half of the rounds lies."""
    if len(ratios) < 2:
        return ratios[0], ratios[0]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, high


def _rounded(value: float) -> float:
    return round(value, 4)
