"""A budget in its window, and money set aside in some of them for one attempt."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from tollhouse.dataplane.head import RequestHead, Route
from tollhouse.dataplane.plan import Attempt
from tollhouse.dataplane.thresholds import NO_THRESHOLDS, Thresholds
from tollhouse.rules.bounds import Bound, CapChoice
from tollhouse.rules.plans import OutputCap
from tollhouse.terms.events import HoldRecord, Settlement
from tollhouse.terms.holds import Hold
from tollhouse.terms.people import Budget, BudgetEdge, BudgetUnit

USD, TOKENS, REQUESTS = range(3)
"""The units as places in a tuple of amounts: (nano-USD, tokens, requests)."""
UNITS = (BudgetUnit.USD, BudgetUnit.TOKENS, BudgetUnit.REQUESTS)


class Account:
    """One budget in one window, in the budget's unit. `free` is what may still be held: limit - posted - held."""

    __slots__ = (
        "budget",
        "clamps",
        "end_s",
        "free",
        "key",
        "labels",
        "mark",
        "posted",
        "start_s",
        "thresholds",
        "told",
        "unit",
    )

    def __init__(
        self, budget: Budget, start_s: int, end_s: int | None, posted: int, thresholds: Thresholds = NO_THRESHOLDS
    ) -> None:
        self.start_s = start_s
        self.end_s = math.inf if end_s is None else end_s
        self.key = (budget.budget_id, start_s)
        self.unit = UNITS.index(budget.unit)
        self.posted = posted
        self.free = budget.limit - posted
        self.budget = budget
        self.clamps = budget.edge is BudgetEdge.CLAMP
        self.labels: tuple[bytes, bytes] | None = None
        """Constant parts of its answer headers, made on first use."""
        self.thresholds = thresholds
        self.told = 0
        """The highest threshold, in percent, that was told of."""
        self.mark = 0
        """What is posted when there is something to tell."""
        thresholds.look(self)

    def change(self, budget: Budget) -> None:
        """Another limit or edge; may leave `free` below zero, then nothing is admitted until it fits again."""
        self.free += budget.limit - self.budget.limit
        self.budget = budget
        self.clamps = budget.edge is BudgetEdge.CLAMP
        self.thresholds.look(self)

    @property
    def held(self) -> int:
        return self.budget.limit - self.posted - self.free


class Purse:
    """All budgets of one principal in their windows, looked up once: good until the first of these windows ends, or the
    accounts change (`version`).
    """

    __slots__ = (
        "accounts",
        "by_plan",
        "choose_cap",
        "clamps",
        "keys",
        "requests",
        "tokens",
        "until_s",
        "usd",
        "version",
    )

    choose_cap: Callable[..., CapChoice | None]
    """`bounds.choose_cap`, or the same within `by_plan`."""

    def __init__(self, accounts: Sequence[Account], version: int, by_plan: OutputCap | None = None) -> None:
        self.by_plan = by_plan
        self.accounts = tuple(accounts)
        self.keys = tuple([account.key for account in accounts])
        self.usd, self.tokens, self.requests = (
            tuple([account for account in accounts if account.unit == unit]) for unit in (USD, TOKENS, REQUESTS)
        )
        self.clamps = all(account.clamps for account in accounts)
        self.until_s = min((account.end_s for account in accounts), default=math.inf)
        self.version = version


def tightest(accounts: tuple[Account, ...]) -> Account | None:
    """The one with the least room, the first of equals; None of none."""
    found = None
    for account in accounts:
        if found is None or account.free < found.free:
            found = account
    return found


class MoneyHold(Hold):
    """A hold in force: where its room was taken, and by what it will be settled.

    `binding` had the least room when this was taken: the tightest budget in USD, else in tokens, else in requests.
    """

    __slots__ = ("attempt", "binding", "bound", "cap", "purse", "settlement")

    def __init__(
        self, record: HoldRecord, purse: Purse, attempt: Attempt, limit: Bound, cap: CapChoice, binding: Account | None
    ) -> None:
        self.record = record
        self.unrecorded = False
        self.purse = purse
        self.attempt = attempt
        self.bound = limit
        self.cap = cap
        self.binding = binding
        self.settlement: Settlement | None = None

    def take(self) -> None:
        """Take the room."""
        purse, cap = self.purse, self.cap
        nusd = cap.nusd
        for account in purse.usd:
            account.free -= nusd
        if purse.tokens:  # of most there are none, and to go through none costs more than to ask
            for account in purse.tokens:
                account.free -= cap.tokens
        if purse.requests:
            for account in purse.requests:
                account.free -= 1

    def give_back(self, nusd: int, tokens: int, requests: int) -> None:
        """End the hold: post these amounts, free the rest."""
        purse, cap = self.purse, self.cap
        rest = cap.nusd - nusd
        for account in purse.usd:
            account.posted += nusd
            account.free += rest
        if purse.tokens:
            for account in purse.tokens:
                account.posted += tokens
                account.free += cap.tokens - tokens
        if purse.requests:
            for account in purse.requests:
                account.posted += requests
                account.free += 1 - requests


class Caller(Protocol):
    """What a hold remembers of the request besides money; an exchange is one."""

    request_id: str
    at_ns: int
    """Wall clock of admission."""
    route: Route
    head: RequestHead
    """By which tool, in which conversation."""
