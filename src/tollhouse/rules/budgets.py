"""Budgets as people write and read them, and the windows they hold in.

A window is [start, end) in whole seconds since 1970 UTC. Calendar windows follow the wall clock of the budget's time
zone: a day of a clock change has 23 or 25 hours, and an hour that is shown twice is two windows. Windows of one kind
and zone follow each other without gap or overlap. A five-hour window opens at first use, the next one at the first use
after its end.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tollhouse.terms.money import MAX_AMOUNT_NUSD, format_usd, parse_usd
from tollhouse.terms.people import Budget, BudgetUnit, BudgetWindow

FIVE_HOURS_S: Final = 5 * 3600
TIMELESS: Final = (BudgetWindow.TOTAL, BudgetWindow.FIVE_HOURS)
"""Windows that no midnight begins: another time zone leaves what is spent as it is."""
MAX_COUNT: Final = MAX_AMOUNT_NUSD
"""Largest budget in tokens or requests, for the same reason as the largest amount of money."""
_FORMS: Final = "write for example 20/month, $5/day, 1M tokens/month, 500 requests/day or 20"
_WINDOWS: Final = ", ".join(window.value for window in BudgetWindow)
_COUNT: Final = re.compile(r"(\d[\d_,]*(?:\.\d+)?)\s*([kmb]?)\s*(tokens?|requests?)", re.ASCII | re.IGNORECASE)
_SCALES: Final = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
_PER: Final = {
    BudgetWindow.TOTAL: "in total",
    BudgetWindow.FIVE_HOURS: "per 5 hours",
    BudgetWindow.HOUR: "per hour",
    BudgetWindow.DAY: "per day",
    BudgetWindow.WEEK: "per week",
    BudgetWindow.MONTH: "per month",
}


def parse_budget(text: str) -> tuple[int, BudgetUnit, BudgetWindow]:
    """Read `amount[/window]` as (limit in the unit, unit, window).

    The amount is USD (`20`, `$0.50`) or a count (`1M tokens`, `500 requests`; k, M, B); no window means in total.
    Raises ValueError with what is wrong and how to write it.
    """
    amount, slash, window_name = (part.strip() for part in text.strip().partition("/"))
    try:
        window = BudgetWindow(window_name.lower()) if slash else BudgetWindow.TOTAL
    except ValueError:
        raise ValueError(
            f"not the window of a budget: {window_name!r} in {text!r} (one of {_WINDOWS}; {_FORMS})"
        ) from None
    counted = _COUNT.fullmatch(amount)
    if counted is None:
        try:
            return parse_usd(amount), BudgetUnit.USD, window
        except ValueError as error:
            raise ValueError(f"not a budget: {text!r}: {error}; {_FORMS}") from None
    number, scale, word = counted.groups()
    count = Decimal(number.replace("_", "").replace(",", "")) * _SCALES[scale.lower()]
    if count != count.to_integral_value() or count > MAX_COUNT:
        raise ValueError(f"a budget counts whole {word} up to {MAX_COUNT}, unlike {text!r}; {_FORMS}")
    return int(count), BudgetUnit.TOKENS if word.lower().startswith("token") else BudgetUnit.REQUESTS, window


def describe(budget: Budget) -> str:
    """For people: `$20.00 per month of user alice`."""
    return f"{describe_amount(budget.limit, budget.unit)} {_PER[budget.window]} of {budget.whose}"


def describe_amount(amount: int, unit: BudgetUnit) -> str:
    """An amount in its unit for people: `$0.05`, `1,000,000 tokens`, `1 request`."""
    if unit is BudgetUnit.USD:
        return format_usd(amount)
    word = unit.value if amount != 1 else unit.value.removesuffix("s")
    return f"{amount:,} {word}"


def room(budget: Budget, posted: int, held: int) -> int:
    """What may still be held, in the budget's unit; negative after a lowered limit or a call above its hold."""
    return budget.limit - posted - held


def tightest(rooms: Iterable[tuple[Budget, int]], unit: BudgetUnit) -> tuple[Budget, int] | None:
    """The budget with the least room among those of one unit, the first of equals; None if none has that unit."""
    return min((pair for pair in rooms if pair[0].unit is unit), key=lambda pair: pair[1], default=None)


def zone_of(timezone: str) -> ZoneInfo:
    """The time zone of an IANA name. Raises ValueError, also where neither the system nor `tzdata` has zone files."""
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"unknown time zone {timezone!r} (write an IANA name such as UTC or Europe/Berlin)") from None


def window_of(window: BudgetWindow, timezone: str, now_s: float, opened_at_s: int | None) -> tuple[int, int | None]:
    """The window that holds at `now_s`, as (start, end) in seconds since 1970 UTC; a total starts at 0 and has no end.

    `opened_at_s` is the start of the latest five-hour window, None before first use; the others ignore it.
    Raises ValueError for an unknown time zone.
    """
    if window is BudgetWindow.TOTAL:
        return 0, None
    if window is BudgetWindow.FIVE_HOURS:
        opened = opened_at_s if opened_at_s is not None and now_s < opened_at_s + FIVE_HOURS_S else math.floor(now_s)
        return opened, opened + FIVE_HOURS_S
    zone = zone_of(timezone)
    if window is BudgetWindow.HOUR:
        return _hour(zone, now_s)
    local = datetime.fromtimestamp(now_s, zone)
    midnight = datetime(local.year, local.month, local.day, tzinfo=zone)  # fold 0: the first, where a day has two
    if window is BudgetWindow.DAY:
        start, end = midnight, midnight + timedelta(days=1)
    elif window is BudgetWindow.WEEK:
        start = midnight - timedelta(days=midnight.weekday())
        end = start + timedelta(days=7)
    else:
        start = midnight.replace(day=1)
        end = (start + timedelta(days=32)).replace(day=1)
    return int(start.timestamp()), int(end.timestamp())


def _hour(zone: ZoneInfo, now_s: float) -> tuple[int, int]:
    """The hour as the zone's clock counts it; a shift by whole hours (at any minute) leaves the count undisturbed.

    Lord Howe shifts by half an hour: the window that its shift cuts ends there.
    """
    now = math.floor(now_s)
    phase = _minute_phase(zone, now)
    start = now - (now + phase) % 3600
    end = start + 3600
    if _minute_phase(zone, start) != phase:
        start += bisect_left(range(start, now), True, key=lambda at_s: _minute_phase(zone, at_s) == phase)
    if _minute_phase(zone, end - 1) != phase:
        end = now + bisect_left(range(now, end), True, key=lambda at_s: _minute_phase(zone, at_s) != phase)
    return start, end


def _minute_phase(zone: ZoneInfo, at_s: int) -> int:
    """How far the zone is from UTC, whole hours left out, in seconds."""
    offset = datetime.fromtimestamp(at_s, zone).utcoffset()
    return int(offset.total_seconds()) % 3600 if offset is not None else 0
