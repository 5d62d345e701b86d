"""What a run has found, as one JSON object or as small tables."""

import statistics
from collections.abc import Sequence

from bench.figures import YARDSTICK, Figure

QUIET_SHARE = 0.03  # of one core: under this, somebody else's work does not move a ratio by more than its usual spread

_RATIO_KEYS = {
    "call": "call_vs_nginx",
    "event": "event_vs_nginx",
    "call_50kb": "call_50kb_vs_nginx",
    "tls_call": "tls_call_vs_nginx",
}
_TITLES = {
    "call": "A call, 32 connections",
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


def as_json(subject: str, figures: Sequence[Figure], head: dict[str, object]) -> dict[str, object]:
    """One object: the subject's ratios on top, everything that was measured below."""
    ratios = {
        _RATIO_KEYS[figure.name]: _rounded(statistics.median(figure.ratios(subject)))
        for figure in figures
        if figure.name in _RATIO_KEYS and figure.ratios(subject)
    }
    return {
        "subject": subject,
        **ratios,
        "quiet": is_quiet(figures),
        "foreign_cpu_share": _rounded(max((share for figure in figures for share in figure.disturbed), default=0.0)),
        **head,
        "figures": {figure.name: _figure(figure) for figure in figures},
    }


def as_text(figures: Sequence[Figure]) -> str:
    """A table for each figure."""
    parts = [_table(figure) for figure in figures]
    if not is_quiet(figures):
        worst = max(share for figure in figures for share in figure.disturbed)
        parts.append(
            f"Disturbed: others used up to {worst:.0%} of a core meanwhile. The ratios are medians and bear a little of"
            " it; for figures to publish, run again on a quiet machine."
        )
    return "\n\n".join(parts)


def is_quiet(figures: Sequence[Figure]) -> bool:
    """Whether the two cores were ours alone in most measurements of every figure."""
    return all(statistics.median(figure.disturbed) < QUIET_SHARE for figure in figures if figure.disturbed)


def _figure(figure: Figure) -> dict[str, object]:
    answer: dict[str, object] = {}
    for name, quantities in figure.medians().items():
        entry: dict[str, object] = {key: _rounded(value) for key, value in quantities.items()}
        if ratios := figure.ratios(name):
            entry |= {"vs_nginx": _rounded(statistics.median(ratios)), "vs_nginx_rounds": [_rounded(r) for r in ratios]}
        answer[name] = entry
    if figure.disturbed:
        answer["foreign_cpu_share"] = _rounded(statistics.median(figure.disturbed))
    return answer


def _table(figure: Figure) -> str:
    medians = figure.medians()
    keys = list(next(iter(medians.values())))
    rows = [["", *(_COLUMNS[key][0] for key in keys), f"vs {YARDSTICK}" if figure.ratio_of else ""]]
    for name, quantities in medians.items():
        cells = [_COLUMNS[key][1].format(quantities[key]) for key in keys]
        rows.append([name, *cells, _ratio_cell(figure, name)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([_TITLES[figure.name], *lines])


def _ratio_cell(figure: Figure, name: str) -> str:
    ratios = figure.ratios(name)
    return f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else ""


def _rounded(value: float) -> float:
    return round(value, 4)
