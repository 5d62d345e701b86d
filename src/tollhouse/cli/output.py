"""What commands print: tables and bars for people, one JSON document for programs, errors for both.

Everything that users or clients chose (names, models, user agents) is printed as text: it can neither colour nor move
the cursor.
"""

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from tollhouse.terms.money import format_usd, parse_usd

if TYPE_CHECKING:
    import typer
    from rich.console import Console

PIPE_WIDTH = 400
"""Columns when the output is no terminal: nothing is cut then."""
BAR_WIDTH = 24
NO_LIMIT = "–"

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_PARTS = " ▏▎▍▌▋▊▉"


class Failure(Exception):
    """A command failed: what happened, which setting or limit, what to do next."""

    def __init__(
        self, message: str, *, code: str = "failed", exit_code: int = 1, problem: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.exit_code = exit_code
        self.problem = problem or {}


def clean(text: object) -> str:
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text))


def console(*, error: bool = False) -> "Console":
    from rich.console import Console  # noqa: PLC0415  0.1 s that --json does not need

    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def print_json(document: object) -> None:
    raw = msgspec.json.format(msgspec.json.encode(document), indent=2)
    sys.stdout.write(raw.decode() + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A table; columns whose name begins with `>` are set to the right. `empty`: what to say when there are no rows."""
    from rich.table import Table  # noqa: PLC0415  0.1 s that --json does not need
    from rich.text import Text  # noqa: PLC0415  as above

    if not rows:
        console().print(Text(empty))
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    console().print(table)


def print_facts(*facts: tuple[str, object], budgets: Sequence[dict[str, Any]] = ()) -> None:
    """Name and value, one a line, then what is left of each budget; empty values are left out."""
    facts += tuple(("budget", budget_line(budget)) for budget in budgets)
    shown = [(name, clean(value)) for name, value in facts if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        sys.stdout.write(f"{name:<{width}}  {value}\n")


def print_lines(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def bar(share: float, width: int = BAR_WIDTH) -> str:
    """A bar of eighths of a column; what is not nothing shows at least an eighth."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share > 0:
        eighths = max(1, eighths)
    full, part = divmod(eighths, 8)
    return "█" * full + (_PARTS[part] if part else "")


def usd(decimal: str) -> str:
    """`$1.23` from an exact decimal; never rounded to zero."""
    sign = -1 if decimal.startswith("-") else 1
    return format_usd(sign * parse_usd(decimal.removeprefix("-")))


def amount(decimal: str, unit: str) -> str:
    """An amount of a budget: `$20.00`, `1,000,000 tokens`, `500 requests`."""
    return usd(decimal) if unit == "usd" else f"{int(decimal):,} {unit}"


def gauge(taken: float, width: int = 10) -> str:
    """A bar in its track, with the percentage."""
    drawn = bar(taken, width)
    return f"{drawn}{'░' * (width - len(drawn))} {min(max(taken, 0.0), 9.99):.0%}"


def taken_share(limit: str, remaining: str) -> float:
    """How much of a budget is gone, for a bar only; a limit of 0 is always all gone."""
    whole, left = Decimal(limit), Decimal(remaining)
    return float((whole - left) / whole) if whole else 1.0


def local_time(iso: str | None) -> str:
    """In the reader's zone, to the minute; the exact instant stands in --json."""
    return "" if iso is None else datetime.fromisoformat(iso).astimezone().strftime("%Y-%m-%d %H:%M")


def span(seconds: float) -> str:
    """`12 s`, `3 min`, `5 h`, `40 days`."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def limits_text(limits: dict[str, int | None]) -> str:
    names = {
        "requests_per_minute": "requests/min",
        "tokens_per_minute": "tokens/min",
        "parallel_requests": "at once",
        "requests_per_day": "requests/day",
        "requests_per_month": "requests/month",
    }
    found = [f"{value:,} {names.get(name, name)}" for name, value in limits.items() if value is not None]
    return ", ".join(found) or NO_LIMIT


def models_text(models: list[str] | None) -> str:
    return ", ".join(models or ["all"])


def metadata_text(metadata: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in metadata.items())


def budget_line(budget: dict[str, Any]) -> str:
    """`bud_…  $20.00 per month: spent $1.20, held $0.30, left $18.50, resets 2026-12-01 00:00`."""
    unit = budget["unit"]
    period = "in all" if budget["window"] == "total" else f"per {budget['window']}"
    resets = f", resets {local_time(budget['resets_at'])}" if budget.get("resets_at") else ""
    limit, posted, held, left = (amount(budget[name], unit) for name in ("limit", "posted", "held", "remaining"))
    return f"{limit} {period}: spent {posted}, held {held}, left {left}{resets}  ({budget['budget_id']})"


def report(failure: Failure, *, as_json: bool) -> int:
    """Print a failure on stderr; returns the exit code."""
    if as_json:
        body = {"error": {"code": failure.code, "message": failure.message, **failure.problem}}
        sys.stderr.write(msgspec.json.encode(body).decode() + "\n")
    else:
        sys.stderr.write(f"tollhouse: {clean(failure.message)}\n")
        for item in failure.problem.get("errors", [])[1:]:
            sys.stderr.write(f"  {clean(item.get('field', ''))}: {clean(item.get('message', ''))}\n")
    return failure.exit_code


def report_usage(error: "typer.TyperException", *, as_json: bool) -> int:
    """A command that was typed wrongly."""
    if not error.format_message():
        return error.exit_code  # typed without a verb: the help has been printed already
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "tollhouse"
    message = f"{error.format_message()} Try `{path} --help`."
    return report(Failure(message, code="usage", exit_code=error.exit_code), as_json=as_json)
