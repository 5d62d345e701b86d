"""Users, their keys, limits and budgets: what the directory stores and the data plane reads."""

from enum import StrEnum
from typing import Any

import msgspec

from tollhouse.terms.names import DEFAULT_ORG, ScopeKind


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much, how often, how many at once; None is no limit. Requests and tokens per minute hold in *any* 60 s
    window.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None
    requests_per_day: int | None = None
    """Per calendar day of the server's time zone."""
    requests_per_month: int | None = None


NO_LIMITS = Limits()


class BudgetUnit(StrEnum):
    """What a budget counts. Amounts of `usd` are nano-USD, of the others whole tokens and requests."""

    USD = "usd"
    TOKENS = "tokens"
    REQUESTS = "requests"


class BudgetWindow(StrEnum):
    """When a budget starts anew: never, by the calendar of its time zone, or five hours after first use."""

    TOTAL = "total"
    FIVE_HOURS = "5h"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class BudgetEdge(StrEnum):
    """What happens to a call whose worst case no longer fits."""

    CLAMP = "clamp"
    """Lower its output cap to what is free; refuse only below the smallest useful answer."""
    REFUSE = "refuse"


class Budget(msgspec.Struct, frozen=True):
    """A hard cap. `limit` is in the budget's unit (nano-USD, tokens or requests)."""

    budget_id: str
    scope: ScopeKind
    scope_id: str
    limit: int
    unit: BudgetUnit = BudgetUnit.USD
    window: BudgetWindow = BudgetWindow.TOTAL
    timezone: str = "UTC"
    edge: BudgetEdge = BudgetEdge.CLAMP
    created_at_ns: int = 0
    scope_name: str = ""
    """What people call the scope, where that is not its id (a key's name)."""

    @property
    def whose(self) -> str:
        """Whose budget, for people: `user alice`, `key laptop`."""
        return f"{self.scope.value} {self.scope_name or self.scope_id}"


class User(msgspec.Struct, frozen=True):
    """A person or application user. `user_id` is any string the application chose; created on first mention."""

    user_id: str
    org_id: str = DEFAULT_ORG
    name: str = ""
    email: str = ""
    limits: Limits = NO_LIMITS
    metadata: dict[str, Any] = {}
    created_at_ns: int = 0
    blocked_at_ns: int | None = None


class VirtualKey(msgspec.Struct, frozen=True):
    """A key without its secret. `models` are globs; None admits every model. `hint` is the secret's last four
    characters.
    """

    key_id: str
    user_id: str
    name: str = ""
    hint: str = ""
    models: tuple[str, ...] | None = None
    limits: Limits = NO_LIMITS
    metadata: dict[str, Any] = {}
    created_at_ns: int = 0
    expires_at_ns: int | None = None
    revoked_at_ns: int | None = None


class KeySecret(msgspec.Struct, frozen=True):
    """One secret of a key, as its keyed hash. Rotation adds one and gives the old one an end."""

    digest: bytes
    key_id: str
    hint: str = ""
    created_at_ns: int = 0
    expires_at_ns: int | None = None


class DirectoryImage(msgspec.Struct, frozen=True):
    """All the data plane needs to know of people: of everybody, or of one user (then `users` has one row)."""

    users: tuple[User, ...]
    keys: tuple[VirtualKey, ...]
    secrets: tuple[KeySecret, ...]
    budgets: tuple[Budget, ...]
    posted: dict[tuple[str, int], int]
    """What is posted per (budget id, window start in seconds since 1970 UTC), in the budget's unit: the latest window
    of each that had begun at `read_at_s`, and later ones, which a clock that was ahead may have opened.
    """
    read_at_s: int = 0
    """Wall clock, seconds since 1970 UTC."""
