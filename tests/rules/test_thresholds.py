"""Thresholds of budgets, against a plain model: each is told once a window, when it is passed and not before."""

from fractions import Fraction

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.planes.plane import image
from tollhouse.dataplane.holds import Account
from tollhouse.dataplane.thresholds import Thresholds
from tollhouse.rules.thresholds import amount_at, notice_of, past
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.notices import Notice
from tollhouse.terms.people import Budget, BudgetUnit, BudgetWindow

PERCENTS = (50, 80, 95)
BUDGET = Budget("bud_1", ScopeKind.USER, "alice", 20 * 10**9, window=BudgetWindow.MONTH)
NOW_S = 1_790_000_000


@given(st.integers(1, 10**15), st.integers(1, 100))
def test_a_share_is_exact(limit: int, percent: int) -> None:
    at = amount_at(limit, percent)
    assert Fraction(at, limit) >= Fraction(percent, 100) > Fraction(at - 1, limit)


@given(st.lists(st.one_of(st.integers(0, 400), st.tuples(st.integers(0, 1_000))), max_size=40))
def test_each_is_told_once_and_as_soon_as_it_is_so(acts: list[int | tuple[int]]) -> None:
    told: list[int] = []
    thresholds = Thresholds(PERCENTS, lambda notice: told.append(notice.data["percent"]))
    budget = msgspec.structs.replace(BUDGET, limit=1_000, unit=BudgetUnit.TOKENS)
    account = Account(budget, 0, None, 0, thresholds)
    due: list[int] = []
    for act in acts:
        if isinstance(act, int):
            account.posted += act
            if account.posted >= account.mark:
                thresholds.look(account)
        else:
            account.change(msgspec.structs.replace(account.budget, limit=act[0]))
        limit = account.budget.limit
        due += [
            percent
            for percent in PERCENTS
            if percent > max(due, default=0) and limit and account.posted * 100 >= percent * limit
        ]
        assert told == due


def test_what_it_says() -> None:
    notice = notice_of(BUDGET, 1_700, 2_700, 16_020_000_000, 80)
    assert notice.text == "80 % of $20.00 per month of user alice is spent: $16.02."
    assert (notice.subject, notice.once) == ("budget bud_1", "budget:bud_1:1700:80")
    assert notice.data == {
        "budget_id": "bud_1",
        "scope": "user",
        "scope_id": "alice",
        "percent": 80,
        "unit": "usd",
        "window": "month",
        "limit": "20",
        "posted": "16.02",
        "window_start_s": 1_700,
        "resets_at_s": 2_700,
    }


def test_what_a_dead_process_left_untold_is_found_in_the_windows_that_hold() -> None:
    total = msgspec.structs.replace(BUDGET, budget_id="bud_2", window=BudgetWindow.TOTAL)
    hour = msgspec.structs.replace(BUDGET, budget_id="bud_3", window=BudgetWindow.HOUR)
    nothing = msgspec.structs.replace(total, budget_id="bud_4", limit=0)
    this_hour = NOW_S - NOW_S % 3_600
    posted = {
        ("bud_2", 0): 19 * 10**9,
        ("bud_3", this_hour): 10 * 10**9,
        ("bud_3", this_hour - 3_600): 20 * 10**9,
        ("bud_4", 0): 1,
        ("gone", 0): 20 * 10**9,
    }
    known = msgspec.structs.replace(image(posted=posted), budgets=(total, hour, nothing), read_at_s=NOW_S)
    found: list[Notice] = list(past(known, PERCENTS))
    assert [one.once for one in found] == [
        "budget:bud_2:0:50",
        "budget:bud_2:0:80",
        "budget:bud_2:0:95",
        f"budget:bud_3:{this_hour}:50",
    ]
    assert list(past(known, ())) == []


def test_the_gauge_counts_windows_that_hold() -> None:
    told: list[Notice] = []
    thresholds = Thresholds(PERCENTS, told.append)
    Account(BUDGET, 0, NOW_S, 17 * 10**9, thresholds)
    Account(msgspec.structs.replace(BUDGET, budget_id="bud_2"), 0, None, 19 * 10**9, thresholds)
    assert thresholds.near(NOW_S - 1) == {50: 2, 80: 2, 95: 1}
    assert thresholds.near(NOW_S) == {50: 1, 80: 1, 95: 1}
