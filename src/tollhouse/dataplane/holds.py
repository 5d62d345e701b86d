"""A budget in its window, and money set aside in some of them for one attempt."""

import math

import msgspec

from tollhouse.dataplane.plan import Attempt
from tollhouse.rules.bounds import Bound, CapChoice
from tollhouse.terms.events import HoldRecord, Settlement
from tollhouse.terms.holds import Hold
from tollhouse.terms.people import Budget, BudgetEdge, BudgetUnit

USD, TOKENS, REQUESTS = range(3)
"""The units as places in a tuple of amounts: (nano-USD, tokens, requests)."""
UNITS = (BudgetUnit.USD, BudgetUnit.TOKENS, BudgetUnit.REQUESTS)


class Account:
    """One budget in one window, in the budget's unit. `free` is what may still be held: limit - posted - held."""

    __slots__ = ("budget", "clamps", "end_s", "free", "key", "labels", "posted", "start_s", "unit")

    def __init__(self, budget: Budget, start_s: int, end_s: int | None, posted: int) -> None:
        self.start_s = start_s
        self.end_s = math.inf if end_s is None else end_s
        self.key = (budget.budget_id, start_s)
        self.unit = UNITS.index(budget.unit)
        self.posted = posted
        self.free = budget.limit - posted
        self.budget = budget
        self.clamps = budget.edge is BudgetEdge.CLAMP
        self.labels: tuple[str, str] | None = None
        """Constant parts of its answer headers, made on first use."""

    def change(self, budget: Budget) -> None:
        """Another limit or edge; may leave `free` below zero, then nothing is admitted until it fits again."""
        self.free += budget.limit - self.budget.limit
        self.budget = budget
        self.clamps = budget.edge is BudgetEdge.CLAMP

    @property
    def held(self) -> int:
        return self.budget.limit - self.posted - self.free


class MoneyHold(Hold):
    """A hold in force: where its room was taken, and by what it will be settled. `amounts` is (nano-USD, tokens, 1)."""

    __slots__ = ("accounts", "amounts", "attempt", "bound", "cap", "settlement")

    def __init__(
        self, record: HoldRecord, accounts: list[Account], attempt: Attempt, limit: Bound, cap: CapChoice
    ) -> None:
        self.record = record
        self.accounts = accounts
        self.amounts = (record.hold_nusd, record.hold_tokens, 1)
        self.attempt = attempt
        self.bound = limit
        self.cap = cap
        self.settlement: Settlement | None = None

    def take(self) -> None:
        """Take the room."""
        amounts = self.amounts
        for account in self.accounts:
            account.free -= amounts[account.unit]

    def give_back(self, posted: tuple[int, int, int]) -> None:
        """End the hold: post these amounts, free the rest."""
        amounts = self.amounts
        for account in self.accounts:
            unit = account.unit
            spent = posted[unit]
            account.posted += spent
            account.free += amounts[unit] - spent

    def binding(self) -> Account | None:
        """The budget in USD with the least left, else the one in tokens, else in requests."""
        best = None
        for account in self.accounts:
            if best is None or account.unit < best.unit or (account.unit == best.unit and account.free < best.free):
                best = account
        return best


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What a settlement remembers of the answer besides money."""

    status: int
    code: str
    duration_us: int = 0
    first_byte_us: int = 0
    upstream_request_id: str = ""
    response_bytes: int = 0


class Caller(msgspec.Struct, frozen=True, gc=False):
    """What a hold remembers of the request besides money."""

    request_id: str
    endpoint: str
    at_ns: int
    client: str
    session: str
    number: int = 1
    """Which attempt of the request this is, from 1."""
