"""Budgets as text, their windows on real calendars, and the room in them."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tollhouse.rules.budgets import FIVE_HOURS_S, MAX_COUNT, describe, parse_budget, room, tightest, window_of, zone_of
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget, BudgetUnit, BudgetWindow

USD, TOKENS, REQUESTS = BudgetUnit.USD, BudgetUnit.TOKENS, BudgetUnit.REQUESTS
CALENDAR = (BudgetWindow.HOUR, BudgetWindow.DAY, BudgetWindow.WEEK, BudgetWindow.MONTH)
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # 01:00 goes back to 00:00
    "Africa/Cairo",  # 00:00 goes on to 01:00
    "Asia/Kolkata",  # +05:30
    "Pacific/Chatham",  # +12:45, shifts at 02:45 and 03:45
    "Australia/Lord_Howe",  # shifts by half an hour
    "America/Nuuk",  # shifts across midnight
)
TIMES = st.integers(1_735_689_600, 1_924_991_999)  # 2025 to 2030


def at(zone: str, *fields: int, fold: int = 0) -> int:
    return int(datetime(*fields, tzinfo=ZoneInfo(zone), fold=fold).timestamp())  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("text", "limit", "unit", "window"),
    [
        ("20", 20_000_000_000, USD, BudgetWindow.TOTAL),
        ("0", 0, USD, BudgetWindow.TOTAL),
        ("20/month", 20_000_000_000, USD, BudgetWindow.MONTH),
        ("$5/day", 5_000_000_000, USD, BudgetWindow.DAY),
        (" $0.000000001 / Week ", 1, USD, BudgetWindow.WEEK),
        ("5/5h", 5_000_000_000, USD, BudgetWindow.FIVE_HOURS),
        ("1M tokens/month", 1_000_000, TOKENS, BudgetWindow.MONTH),
        ("1.5k tokens/hour", 1_500, TOKENS, BudgetWindow.HOUR),
        ("2B tokens/total", 2_000_000_000, TOKENS, BudgetWindow.TOTAL),
        ("500 requests/day", 500, REQUESTS, BudgetWindow.DAY),
        ("1,000 requests", 1_000, REQUESTS, BudgetWindow.TOTAL),
        ("1 request", 1, REQUESTS, BudgetWindow.TOTAL),
    ],
)
def test_parsed(text: str, limit: int, unit: BudgetUnit, window: BudgetWindow) -> None:
    assert parse_budget(text) == (limit, unit, window)


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "nan", "inf", "1e400", "5000000000", "1.0000000001", "20/", "/day", "20/fortnight", "20/day/day"],
)
def test_what_is_no_budget_is_told_how_to_be_one(text: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        parse_budget(text)


@pytest.mark.parametrize("text", ["5 apples", "1.5 tokens", "-5 tokens", "1M", f"{MAX_COUNT + 1} tokens", "5 tokens 5"])
def test_what_is_no_count_is_told_how_to_be_one(text: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        parse_budget(text)


@given(st.text(max_size=20))
def test_any_text_is_a_budget_or_a_value_error(text: str) -> None:
    try:
        limit, _, _ = parse_budget(text)
    except ValueError:
        return
    assert limit >= 0


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (
            Budget("b", ScopeKind.USER, "alice", 20_000_000_000, window=BudgetWindow.MONTH),
            "$20.00 per month of user alice",
        ),
        (Budget("b", ScopeKind.KEY, "key_x", 50_000), "$0.00005 in total of key key_x"),
        (
            Budget("b", ScopeKind.ORGANISATION, "default", 1_000_000, TOKENS, BudgetWindow.FIVE_HOURS),
            "1,000,000 tokens per 5 hours of organisation default",
        ),
        (Budget("b", ScopeKind.USER, "bob", 1, REQUESTS, BudgetWindow.DAY), "1 request per day of user bob"),
    ],
)
def test_described(budget: Budget, words: str) -> None:
    assert describe(budget) == words


def test_a_total_never_ends() -> None:
    assert window_of(BudgetWindow.TOTAL, "UTC", 1_800_000_000.5, None) == (0, None)


def test_five_hours_open_at_first_use() -> None:
    assert window_of(BudgetWindow.FIVE_HOURS, "UTC", 1000.9, None) == (1000, 1000 + FIVE_HOURS_S)
    assert window_of(BudgetWindow.FIVE_HOURS, "UTC", 1000 + FIVE_HOURS_S - 0.1, 1000) == (1000, 1000 + FIVE_HOURS_S)
    reopened = 1000 + FIVE_HOURS_S
    assert window_of(BudgetWindow.FIVE_HOURS, "UTC", reopened, 1000) == (reopened, reopened + FIVE_HOURS_S)
    assert window_of(BudgetWindow.FIVE_HOURS, "UTC", 900, 1000) == (1000, 1000 + FIVE_HOURS_S)  # the clock stepped back


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        (BudgetWindow.HOUR, (2026, 11, 22, 14), (2026, 11, 22, 15)),
        (BudgetWindow.DAY, (2026, 11, 22), (2026, 11, 23)),
        (BudgetWindow.WEEK, (2026, 11, 16), (2026, 11, 23)),
        (BudgetWindow.MONTH, (2026, 11, 1), (2026, 12, 1)),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
def test_the_windows_of_a_sunday_afternoon(
    zone: str, window: BudgetWindow, start: tuple[int, ...], end: tuple[int, ...]
) -> None:
    now = at(zone, 2026, 11, 22, 14, 30, 1)
    assert window_of(window, zone, now + 0.5, None) == (at(zone, *start), at(zone, *end))


def test_days_of_a_clock_change_have_23_and_25_hours() -> None:
    for day, hours in ((29, 23), (28, 24)):
        start, end = window_of(BudgetWindow.DAY, "Europe/Berlin", at("Europe/Berlin", 2026, 3, day, 12), None)
        assert end is not None
        assert end - start == hours * 3600
    start, end = window_of(BudgetWindow.DAY, "Europe/Berlin", at("Europe/Berlin", 2026, 10, 25, 12), None)
    assert end is not None
    assert end - start == 25 * 3600


def test_an_hour_shown_twice_is_two_windows() -> None:
    first = window_of(BudgetWindow.HOUR, "Europe/Berlin", at("Europe/Berlin", 2026, 10, 25, 2, 30), None)
    second = window_of(BudgetWindow.HOUR, "Europe/Berlin", at("Europe/Berlin", 2026, 10, 25, 2, 30, fold=1), None)
    assert first[1] == second[0]
    assert second[1] == at("Europe/Berlin", 2026, 10, 25, 3)


@given(TIMES, st.sampled_from(ZONES), st.sampled_from(CALENDAR))
@example(1775312099, "Pacific/Chatham", BudgetWindow.HOUR)
@example(1790432099, "Pacific/Chatham", BudgetWindow.HOUR)
@example(1775315100, "Australia/Lord_Howe", BudgetWindow.HOUR)
@example(1791042000, "Australia/Lord_Howe", BudgetWindow.HOUR)
@example(1525445400, "Asia/Pyongyang", BudgetWindow.HOUR)  # ten minutes before 23:30 became 00:00 in 2018
def test_windows_follow_each_other_without_gap_or_overlap(now: int, zone: str, window: BudgetWindow) -> None:
    start, end = window_of(window, zone, now, None)
    assert end is not None
    assert start <= now < end
    for inside in (start, end - 1, (start + end) // 2):
        assert window_of(window, zone, inside, None) == (start, end)
    assert window_of(window, zone, end, None)[0] == end
    assert window_of(window, zone, start - 1, None)[1] == start


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "Europe", "UTC\0"])
def test_an_unknown_zone_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="unknown time zone"):
        zone_of(name)


def test_room_is_what_is_neither_posted_nor_held_and_the_tightest_is_of_one_unit() -> None:
    wide = Budget("wide", ScopeKind.USER, "a", 100)
    tight = Budget("tight", ScopeKind.KEY, "k", 50)
    calls = Budget("calls", ScopeKind.KEY, "k", 1, REQUESTS)
    assert room(wide, 30, 20) == 50
    assert room(tight, 60, 0) == -10
    assert tightest([(wide, 50), (calls, 1), (tight, -10)], USD) == (tight, -10)
    assert tightest([(wide, 50), (tight, 50)], USD) == (wide, 50)
    assert tightest([(wide, 50)], TOKENS) is None
