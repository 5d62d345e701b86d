"""Tells when budgets pass thresholds: once the calls that did it stand in the ledger, and so off the way of a call.

An account knows the amount at which there is something to tell (`mark`). For the budgets of each batch of settlements
that is compared with what is posted; a batch mostly names few. To tell twice is harmless, for a notice has a name under
which it is told once: so what is past when an account is opened is told then.
"""

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tollhouse.rules.thresholds import NEVER, amount_at, notice_of
from tollhouse.terms.notices import Notice

if TYPE_CHECKING:
    from tollhouse.dataplane.holds import Account


class Thresholds:
    """Of all accounts of this node. `percents` are shares of a budget; `tell` takes each notice that becomes true."""

    def __init__(self, percents: Iterable[int], tell: Callable[[Notice], None]) -> None:
        self._percents = sorted(set(percents))
        self._tell = tell
        self._near: dict[str, Account] = {}
        """By budget: what is past a threshold, or was in a window that is over."""

    def look(self, account: "Account") -> None:
        """Tell what has become true of an account, and mark when to look next."""
        limit = account.budget.limit
        for percent in self._percents:
            if percent <= account.told:
                continue
            at = amount_at(limit, percent)
            if account.posted < at:
                account.mark = at
                return
            account.told = percent
            self._near[account.budget.budget_id] = account
            end_s = None if account.end_s == math.inf else int(account.end_s)
            self._tell(notice_of(account.budget, account.start_s, end_s, account.posted, percent))
        account.mark = NEVER

    def near(self, now_s: float) -> dict[int, int]:
        """How many budgets are past each threshold now, by percent."""
        for budget_id in [name for name, account in self._near.items() if account.end_s <= now_s]:
            del self._near[budget_id]
        counts = dict.fromkeys(self._percents, 0)
        for account in self._near.values():
            for percent in self._percents:
                if account.posted >= amount_at(account.budget.limit, percent):
                    counts[percent] += 1
        return counts


def _nobody(_notice: Notice) -> None:
    """Where nobody is told."""


NO_THRESHOLDS = Thresholds((), _nobody)
