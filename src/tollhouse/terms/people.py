"""Users, teams, plans, keys, limits and budgets: what the directory stores and the data plane reads."""

from enum import StrEnum
from typing import Any

import msgspec

from tollhouse.terms.credentials import Credential
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
    owned_by: str = ""
    """The file that declares it; `plan:` and a name where a plan gives it to its holders: then it has no row."""

    @property
    def whose(self) -> str:
        """Whose budget, for people: `user alice`, `key laptop`."""
        return f"{self.scope.value} {self.scope_name or self.scope_id}"


class Role(StrEnum):
    """What somebody is, in the organisation or (admin, member, viewer) in a team; what each may do: `rules.roles`."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"
    SERVICE = "service"
    """A program: it has keys and never signs in."""


class OwnKeyRule(StrEnum):
    """Whether a plan's calls are paid by the user's own provider key."""

    NEVER = "never"
    OWN_FIRST = "own_first"
    SHARED_FIRST = "shared_first"
    OWN_ONLY = "own_only"


class PlanBudget(msgspec.Struct, frozen=True):
    """A budget that each holder of a plan has for themselves. `limit` is in its unit."""

    limit: int
    unit: BudgetUnit = BudgetUnit.USD
    window: BudgetWindow = BudgetWindow.MONTH


class Plan(msgspec.Struct, frozen=True):
    """A named bundle of what its holders may do; a holder is a user, a team or a key.

    models             globs; None admits every model
    max_output_tokens  most output tokens of one call; None leaves it to the model
    edge               what happens to a call beyond `max_output_tokens` or the plan's budgets
    own_key            who pays; a rule other than `never` makes room for the user's own provider key
    without_own_key    the plan that holds instead for a user who has stored none: limits follow whose key pays
    fall_back          `own_first`: whether a call whose own key its provider refuses is sent once more with the shared
                       one, under what holds without an own key
    counts_own_key     whether what an own key pays counts toward budgets; it is metered always
    """

    plan_id: str
    description: str = ""
    limits: Limits = NO_LIMITS
    budgets: tuple[PlanBudget, ...] = ()
    models: tuple[str, ...] | None = None
    max_output_tokens: int | None = None
    edge: BudgetEdge = BudgetEdge.CLAMP
    own_key: OwnKeyRule = OwnKeyRule.NEVER
    without_own_key: str = ""
    owned_by: str = ""
    """The file that declares it, which alone may change it; empty for what people made."""
    created_at_ns: int = 0
    fall_back: bool = False
    counts_own_key: bool = False


class Team(msgspec.Struct, frozen=True):
    """Users and keys whose spend counts together. `models` are globs; None admits every model."""

    team_id: str
    org_id: str = DEFAULT_ORG
    name: str = ""
    plan_id: str | None = None
    models: tuple[str, ...] | None = None
    limits: Limits = NO_LIMITS
    metadata: dict[str, Any] = {}
    owned_by: str = ""
    created_at_ns: int = 0
    blocked_at_ns: int | None = None


class Membership(msgspec.Struct, frozen=True):
    """Somebody's role in a team: admin, member or viewer."""

    team_id: str
    user_id: str
    role: Role = Role.MEMBER
    created_at_ns: int = 0


class User(msgspec.Struct, frozen=True):
    """A person or application user. `user_id` is any string the application chose; created on first mention.

    `team_id` is the team their calls count toward where the key names none.
    """

    user_id: str
    org_id: str = DEFAULT_ORG
    name: str = ""
    email: str = ""
    limits: Limits = NO_LIMITS
    metadata: dict[str, Any] = {}
    created_at_ns: int = 0
    blocked_at_ns: int | None = None
    role: Role = Role.MEMBER
    team_id: str | None = None
    plan_id: str | None = None
    owned_by: str = ""
    erased_at_ns: int | None = None
    """Then nothing says who it was: the id is a pseudonym, under which the sums stay."""


class VirtualKey(msgspec.Struct, frozen=True):
    """A key without its secret. `models` are globs; None admits every model. `hint` is the secret's last four
    characters. `team_id` is the team its calls count toward; None: its user's. A paused key is refused until somebody
    takes it up again. `capture_days`: how long what is asked and answered with it is kept; 0: it is not kept at all.
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
    team_id: str | None = None
    plan_id: str | None = None
    owned_by: str = ""
    paused_at_ns: int | None = None
    pause_reason: str = ""
    capture_days: int = 0


class KeySecret(msgspec.Struct, frozen=True):
    """One secret of a key, as its keyed hash. Rotation adds one and gives the old one an end."""

    digest: bytes
    key_id: str
    hint: str = ""
    created_at_ns: int = 0
    expires_at_ns: int | None = None


class DirectoryImage(msgspec.Struct, frozen=True):
    """All the data plane needs to know of people: of everybody, or of one user (then `users` has one row). Teams and
    plans are all there, in both.
    """

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
    teams: tuple[Team, ...] = ()
    plans: tuple[Plan, ...] = ()
    credentials: tuple[Credential, ...] = ()
    """Users' own ones; those of the operator are all there, in both."""
    assigned: tuple[tuple[str, str], ...] = ()
    """(user id, credential id): which of the operator's credentials a user's calls are sent with."""
