"""The options many commands share, and how people write their values."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", help="The gateway to talk to (or TOLLHOUSE_URL); without it, the one of this home.", metavar="URL"
    ),
]
Config = Annotated[Path | None, typer.Option("--config", help="The settings file.", metavar="FILE")]

Rpm = Annotated[str | None, typer.Option("--rpm", help="Requests in any minute, or none.", metavar="N|none")]
Tpm = Annotated[
    str | None, typer.Option("--tpm", help="Tokens in any minute, such as 100k, or none.", metavar="N|none")
]
Parallel = Annotated[str | None, typer.Option("--parallel", help="Requests at once, or none.", metavar="N|none")]
Rpd = Annotated[str | None, typer.Option("--rpd", help="Requests a calendar day, or none.", metavar="N|none")]
Rpmonth = Annotated[str | None, typer.Option("--rpmonth", help="Requests a calendar month, or none.", metavar="N|none")]
Models = Annotated[
    list[str] | None,
    typer.Option("--models", help="Models it may use: names or globs, repeated or with commas.", metavar="GLOB"),
]
Expires = Annotated[
    str | None, typer.Option("--expires", help="30d, 2026-12-31, a time with zone, or never.", metavar="WHEN")
]
BudgetText = Annotated[
    str | None,
    typer.Option("--budget", help="A hard cap: 20/month, $5/day, '1M tokens/month', '90 requests/day'.", metavar="CAP"),
]
Metadata = Annotated[
    list[str] | None, typer.Option("--metadata", help="A fact to keep with it, repeated.", metavar="NAME=VALUE")
]
Plan = Annotated[str | None, typer.Option("--plan", help="The plan that holds, or none.", metavar="PLAN|none")]
Team = Annotated[
    str | None, typer.Option("--team", help="Which team calls count toward, or none.", metavar="TEAM|none")
]
Capture = Annotated[
    str | None,
    typer.Option(
        "--capture",
        help="Keep the bodies of its requests and answers, sealed, so many days (7d), or off.",
        metavar="DAYS|off",
    ),
]
PageSize = Annotated[int, typer.Option("--limit", help="At most so many rows.", min=1, max=100_000)]

_NUMBER = re.compile(r"(\d[\d_]*)([kKmM]?)")
_FACTOR = {"": 1, "k": 1_000, "m": 1_000_000}


def limits_body(
    *,
    rpm: str | None = None,
    tpm: str | None = None,
    parallel: str | None = None,
    rpd: str | None = None,
    rpmonth: str | None = None,
) -> dict[str, int | None]:
    """The `limits` of a request: only what was typed; `none` is null. Raises BadParameter."""
    typed = {
        "requests_per_minute": ("--rpm", rpm),
        "tokens_per_minute": ("--tpm", tpm),
        "parallel_requests": ("--parallel", parallel),
        "requests_per_day": ("--rpd", rpd),
        "requests_per_month": ("--rpmonth", rpmonth),
    }
    return {field: number(option, text) for field, (option, text) in typed.items() if text is not None}


def number(option: str, text: str) -> int | None:
    """A whole number, or `none`. Raises BadParameter."""
    if text.strip().lower() == "none":
        return None
    match = _NUMBER.fullmatch(text.strip())
    number = int(match[1].replace("_", "")) * _FACTOR[match[2].lower()] if match else 0
    if number < 1:
        raise typer.BadParameter(
            f"{option} is a whole number of at least 1, such as 60 or 100k, or none, not {text!r}."
        )
    return number


def capture_body(text: str | None) -> int | None:
    """The days of `7d`, 0 for `off`; None when it was not typed. Raises BadParameter."""
    if text is None:
        return None
    written = text.strip().lower()
    if written in ("off", "none", "0"):
        return 0
    match = re.fullmatch(r"(\d{1,4})\s*d?", written)
    if match is None:
        raise typer.BadParameter(f"--capture is a number of days such as 7d, or off, not {text!r}.")
    return int(match[1])


def models_body(models: list[str]) -> list[str]:
    return [part.strip() for text in models for part in text.split(",") if part.strip()]


def metadata_body(facts: list[str]) -> dict[str, Any]:
    """Raises BadParameter."""
    found: dict[str, Any] = {}
    for fact in facts:
        name, equals, value = fact.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"--metadata is written NAME=VALUE, not {fact!r}.")
        found[name.strip()] = value
    return found


def typed_only(**fields: Any) -> dict[str, Any]:
    """The fields somebody typed: neither None nor an empty collection."""
    return {name: value for name, value in fields.items() if value is not None and value != {} and value != []}


def or_none(**fields: str | None) -> dict[str, str | None]:
    """The fields somebody typed; `none` is null."""
    return {name: None if value == "none" else value for name, value in fields.items() if value is not None}
