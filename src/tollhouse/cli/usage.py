"""`tollhouse usage`: who used what, and what it cost, with bars."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from tollhouse.cli import options, output
from tollhouse.cli.client import Api, Way, print_answer
from tollhouse.cli.keys import key_id
from tollhouse.terms.money import format_usd, parse_usd


class By(StrEnum):
    USER = "user"
    KEY = "key"
    TEAM = "team"
    MODEL = "model"
    CLIENT = "client"
    SESSION = "session"
    END_USER = "end_user"
    PAYER = "payer"
    DAY = "day"


def usage(
    by: Annotated[By, typer.Option("--by", help="What to sum up by.")] = By.USER,
    since: Annotated[
        str, typer.Option("--since", help="7d (ago), 2026-11-01, a time with zone.", metavar="WHEN")
    ] = "30d",
    until: Annotated[str | None, typer.Option("--until", help="As --since; not included.", metavar="WHEN")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only this user's.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Only this key's (id or name).")] = None,
    team: Annotated[str | None, typer.Option("--team", help="Only what counted toward this team.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many rows.", min=1, max=10_000)] = 50,
    url: options.Url = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """What was used and what it cost."""

    async def act(api: Api) -> Any:
        only = await key_id(api, key) if key is not None else None
        offset = datetime.now().astimezone().utcoffset()
        return await api.get(
            "/usage",
            by=by.value,
            since=since,
            until=until,
            user=user,
            key=only,
            team=team,
            limit=limit,
            utc_offset_s=int(offset.total_seconds()) if offset else 0,
        )

    print_answer(Way(url, config, as_json), act, _print_report)


def _print_report(report: dict[str, Any]) -> None:
    rows, total = report["rows"], report["total"]
    weigh = _cost if _cost(total) else _tokens  # where nothing costs money (a local model), tokens tell who used it
    most = max((weigh(row) for row in rows), default=0)
    unsure = any(_unsure(row) for row in [*rows, total])
    some_own = parse_usd(total["own_usd"]) > 0
    columns = [report["by"].replace("_", " ").title(), "", ">Cost", ">Calls", ">Input", ">Cached", ">Output"]
    columns += [">Own keys"] * some_own + [">Not exact"] * unsure

    def line(row: dict[str, Any], name: str, drawn: str) -> tuple[str, ...]:
        return (*_line(row, name, drawn), *[_part(_own(row))] * some_own, *[_part(_unsure(row))] * unsure)

    lines = [line(row, row["label"], output.bar(weigh(row) / most if most else 0)) for row in rows]
    if rows:
        lines.append(line(total, "all", ""))
    since = f" since {output.local_time(report['since'])}" if report["since"] else ""
    output.print_table(columns, lines, empty=f"No calls{since}. `tollhouse usage --since 365d` looks further back.")
    if unsure:
        output.print_lines(
            "", "Not exact: estimated after a call was cut off, or the upper bound where nothing is known."
        )


def _line(row: dict[str, Any], name: str, drawn: str) -> tuple[str, ...]:
    return (
        name or "(none)",
        drawn,
        output.usd(row["amount_usd"]),
        f"{row['calls']:,}",
        f"{row['input_tokens'] + row['cache_write_tokens']:,}",
        f"{row['cache_read_tokens']:,}",
        f"{row['output_tokens']:,}",
    )


def _part(amount_nusd: int) -> str:
    """Of the cost; nothing is not told."""
    return format_usd(amount_nusd) if amount_nusd else ""


def _cost(row: dict[str, Any]) -> int:
    return parse_usd(row["amount_usd"])


def _tokens(row: dict[str, Any]) -> int:
    names = ("input_tokens", "cache_write_tokens", "cache_read_tokens", "output_tokens")
    return sum(row[name] for name in names)


def _own(row: dict[str, Any]) -> int:
    return parse_usd(row["own_usd"])


def _unsure(row: dict[str, Any]) -> int:
    return parse_usd(row["estimated_usd"]) + parse_usd(row["upper_usd"])
