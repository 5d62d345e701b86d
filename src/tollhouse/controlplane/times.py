"""Instants and durations as people write them: `30d`, `1h`, `2026-11-22`, `2026-11-22T10:00:00Z`."""

import re
from datetime import UTC, datetime

NS_PER_S = 1_000_000_000
MAX_DURATION_S = 100 * 366 * 86_400
"""A hundred years: what is longer is a slip of the finger."""
MAX_INSTANT_S = 7_258_118_400
"""The year 2200; in nanoseconds, 64 bits end in 2262."""

_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d{1,9})\s*([smhdw])")


def parse_duration_s(text: str) -> int:
    """Seconds of `90s`, `15m`, `1h`, `30d`, `2w` or `0`. Raises ValueError."""
    cleaned = text.strip().lower()
    if cleaned == "0":
        return 0
    match = _DURATION.fullmatch(cleaned)
    if match is None:
        raise ValueError(f"not a duration: {text!r} (write for example 90s, 15m, 1h, 30d or 2w)")
    seconds = int(match[1]) * _UNIT_S[match[2]]
    if seconds > MAX_DURATION_S:
        raise ValueError(f"a duration is at most a hundred years, not {text!r}")
    return seconds


def parse_instant_s(text: str, now_s: int, *, ahead: bool) -> int:
    """Seconds since 1970 UTC of a date, a date with time, or a duration counted from now.

    ahead   a duration means that far in the future (`expires 30d`); else in the past (`since 7d`)

    A date alone is its first instant in UTC, a time without zone is in UTC. Raises ValueError.
    """
    cleaned = text.strip()
    if _DURATION.fullmatch(cleaned.lower()):
        seconds = parse_duration_s(cleaned)
        return now_s + seconds if ahead else max(0, now_s - seconds)
    try:
        moment = datetime.fromisoformat(cleaned)
    except ValueError:
        raise ValueError(f"not a time: {text!r} (write for example 30d, 2026-11-22 or 2026-11-22T10:00:00Z)") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = int(moment.timestamp())
    if not 0 <= seconds <= MAX_INSTANT_S:
        raise ValueError(f"a time is between 1970 and 2200, unlike {text!r}")
    return seconds


def iso_ns(at_ns: int | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond; None stays None."""
    if at_ns is None:
        return None
    moment = datetime.fromtimestamp(at_ns // NS_PER_S, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{at_ns // 1_000_000 % 1_000:03d}Z"


def iso_s(at_s: int | None) -> str | None:
    """RFC 3339 in UTC, to the second; None stays None."""
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
