"""Shares of a budget of which somebody is told when they are spent, each once a window."""

from collections.abc import Iterable, Iterator
from typing import Final

from tollhouse.rules.budgets import describe, describe_amount, window_of
from tollhouse.terms.money import decimal_usd
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.terms.people import Budget, BudgetUnit, DirectoryImage

NEVER: Final = 1 << 62
"""More than any budget posts."""


def amount_at(limit: int, percent: int) -> int:
    """The smallest posted amount that is this share of a limit, in its unit; NEVER for a budget of nothing."""
    return -(-limit * percent // 100) if limit > 0 else NEVER


def notice_of(budget: Budget, start_s: int, end_s: int | None, posted: int, percent: int) -> Notice:
    """That so much of a budget is spent, in the window that begins then."""

    def text(amount: int) -> str:
        return decimal_usd(amount) if budget.unit is BudgetUnit.USD else str(amount)

    data = {
        "budget_id": budget.budget_id,
        "scope": budget.scope.value,
        "scope_id": budget.scope_id,
        "percent": percent,
        "unit": budget.unit.value,
        "window": budget.window.value,
        "limit": text(budget.limit),
        "posted": text(posted),
        "window_start_s": start_s,
    }
    if end_s is not None:
        data["resets_at_s"] = end_s
    return Notice(
        NoticeKind.BUDGET_THRESHOLD,
        f"budget {budget.budget_id}",
        f"{percent} % of {describe(budget)} is spent: {describe_amount(posted, budget.unit)}.",
        data,
        once=f"budget:{budget.budget_id}:{start_s}:{percent}",
    )


def past(image: DirectoryImage, percents: Iterable[int]) -> Iterator[Notice]:
    """Of all budgets, what is spent beyond a threshold in the windows that hold when the image was read."""
    marks = sorted(set(percents))
    budgets = {budget.budget_id: budget for budget in image.budgets}
    for (budget_id, start_s), posted in image.posted.items():
        budget = budgets.get(budget_id)
        if budget is None or not marks or posted < amount_at(budget.limit, marks[0]):
            continue
        begins_s, end_s = window_of(budget.window, budget.timezone, image.read_at_s, start_s)
        if begins_s == start_s:
            for percent in marks:
                if posted >= amount_at(budget.limit, percent):
                    yield notice_of(budget, start_s, end_s, posted, percent)
