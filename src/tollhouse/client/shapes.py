"""What the management API answers. Fields that a newer server adds are left out; amounts are exact."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

Role = Literal["owner", "admin", "member", "viewer", "service"]
TeamRole = Literal["admin", "member", "viewer"]
Unit = Literal["usd", "tokens", "requests"]
Edge = Literal["clamp", "refuse"]
OwnKey = Literal["never", "own_first", "shared_first", "own_only"]
Scope = Literal["organisation", "team", "user", "key"]


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None
    requests_per_day: int | None = None
    requests_per_month: int | None = None


class Budget(msgspec.Struct, frozen=True):
    """Amounts are in `unit`. `held` is taken by calls under way, apart from `posted`."""

    budget_id: str
    scope: str
    scope_id: str
    scope_name: str
    unit: str
    window: str
    timezone: str
    edge: str
    limit: Decimal
    posted: Decimal
    held: Decimal
    remaining: Decimal
    window_start: datetime | None = None
    resets_at: datetime | None = None
    owned_by: str = ""
    created_at: datetime | None = None


class User(msgspec.Struct, frozen=True):
    """`status`: active | blocked | erased."""

    user_id: str
    name: str
    email: str
    role: str
    status: str
    limits: Limits
    metadata: dict[str, Any]
    team_id: str | None = None
    plan_id: str | None = None
    owned_by: str = ""
    created_at: datetime | None = None
    blocked_at: datetime | None = None
    erased_at: datetime | None = None


class Membership(msgspec.Struct, frozen=True):
    team_id: str
    role: str


class UserDetail(User, frozen=True):
    budgets: tuple[Budget, ...] = ()
    teams: tuple[Membership, ...] = ()


class Key(msgspec.Struct, frozen=True):
    """`status`: active | paused | expired | revoked. `models` None admits every model."""

    key_id: str
    name: str
    user_id: str
    hint: str
    status: str
    models: tuple[str, ...] | None
    limits: Limits
    metadata: dict[str, Any]
    team_id: str | None = None
    plan_id: str | None = None
    owned_by: str = ""
    capture_days: int = 0
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    paused_at: datetime | None = None
    pause_reason: str = ""


class Secret(msgspec.Struct, frozen=True):
    hint: str
    created_at: datetime | None = None
    expires_at: datetime | None = None


class KeyDetail(Key, frozen=True):
    budgets: tuple[Budget, ...] = ()
    secrets: tuple[Secret, ...] = ()


class NewKey(KeyDetail, frozen=True, kw_only=True):
    """`key` is the secret: shown in this answer and never again."""

    key: str

    def __repr__(self) -> str:
        """Without the secret: what is printed ends up in logs."""
        return f"NewKey({self.key_id!r}, user_id={self.user_id!r}, hint={self.hint!r})"


class Team(msgspec.Struct, frozen=True):
    """`status`: active | blocked."""

    team_id: str
    name: str
    status: str
    models: tuple[str, ...] | None
    limits: Limits
    metadata: dict[str, Any]
    plan_id: str | None = None
    owned_by: str = ""
    created_at: datetime | None = None
    blocked_at: datetime | None = None


class TeamDetail(Team, frozen=True):
    budgets: tuple[Budget, ...] = ()


class Member(msgspec.Struct, frozen=True):
    team_id: str
    user_id: str
    role: str
    created_at: datetime | None = None


class MemberGone(msgspec.Struct, frozen=True):
    team_id: str
    user_id: str
    revoked_keys: tuple[str, ...] = ()


class PlanBudget(msgspec.Struct, frozen=True):
    limit: Decimal
    unit: str
    window: str


class Plan(msgspec.Struct, frozen=True):
    plan_id: str
    description: str
    limits: Limits
    budgets: tuple[PlanBudget, ...]
    models: tuple[str, ...] | None
    max_output_tokens: int | None
    edge: str
    own_key: str
    without_own_key: str | None = None
    fall_back: bool = False
    counts_own_key: bool = False
    owned_by: str = ""
    created_at: datetime | None = None


class Figures(msgspec.Struct, frozen=True):
    """What was used; `estimated_usd`, `upper_usd` and `own_usd` (by users' own keys) are parts of `amount_usd`."""

    calls: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    amount_usd: Decimal
    estimated_usd: Decimal
    upper_usd: Decimal
    own_usd: Decimal


class UsageRow(Figures, frozen=True, kw_only=True):
    group: str
    label: str


class Usage(msgspec.Struct, frozen=True):
    by: str
    rows: tuple[UsageRow, ...]
    total: Figures
    since: datetime | None = None
    until: datetime | None = None


class Tokens(msgspec.Struct, frozen=True):
    input_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0


class Request(msgspec.Struct, frozen=True):
    """One call. `kind` says how the amount is known: exact, estimated, upper, voided; empty is free."""

    request_id: str
    user_id: str
    key_id: str
    endpoint: str
    provider: str
    requested_model: str
    upstream_model: str
    served_model: str
    status: int
    code: str
    kind: str
    amount_usd: Decimal
    hold_usd: Decimal
    usage: Tokens
    streamed: bool
    duration_ms: float
    first_byte_ms: float
    team_id: str = ""
    at: datetime | None = None
    paid_by: str = ""
    credential_id: str = ""
    end_user: str = ""
    """Of the application's own users, as the client says."""


class MyTeam(msgspec.Struct, frozen=True):
    team_id: str
    name: str
    status: str


class LimitLeft(msgspec.Struct, frozen=True):
    kind: str
    limit: int
    remaining: int
    resets_at: datetime | None = None


class MyLimits(msgspec.Struct, frozen=True):
    scope: str
    scope_id: str
    limits: Limits
    left: tuple[LimitLeft, ...] = ()
    plan_id: str | None = None


class Side(msgspec.Struct, frozen=True):
    """A body; `bytes` is the size of all of it, `encoding` utf-8 or base64."""

    encoding: str
    body: str
    bytes: int
    cut: bool


class Content(msgspec.Struct, frozen=True):
    """What was asked and answered in one call."""

    request_id: str
    user_id: str
    key_id: str
    request: Side
    answer: Side
    at: datetime | None = None
    expires_at: datetime | None = None


class MyOwnKey(msgspec.Struct, frozen=True):
    provider: str
    credential_id: str
    name: str
    hint: str
    refused_at: datetime | None = None


class Me(msgspec.Struct, frozen=True):
    """Who asks, what limits their calls, and what is left."""

    user: User
    budgets: tuple[Budget, ...]
    limits: tuple[MyLimits, ...] = ()
    key: Key | None = None
    team: MyTeam | None = None
    plan: Plan | None = None
    max_output_tokens: int | None = None
    own_key: str = "never"
    own_keys: tuple[MyOwnKey, ...] = ()
    provider: str | None = None
    paid_by: str | None = None


class FieldChange(msgspec.Struct, frozen=True):
    field: str
    before: Any
    after: Any


class Change(msgspec.Struct, frozen=True):
    act: str
    kind: str
    name: str
    fields: tuple[FieldChange, ...] = ()


class DeclaredKey(msgspec.Struct, frozen=True):
    name: str
    user_id: str
    key_id: str
    key: str

    def __repr__(self) -> str:
        return f"DeclaredKey({self.name!r}, user_id={self.user_id!r}, key_id={self.key_id!r})"


class Declared(msgspec.Struct, frozen=True):
    """What a declared file changed, or would."""

    owner: str
    dry_run: bool
    changes: tuple[Change, ...]
    summary: dict[str, int]
    keys: tuple[DeclaredKey, ...] = ()


class AuditChange(msgspec.Struct, frozen=True):
    field: str
    before: Any
    after: Any


class AuditRecord(msgspec.Struct, frozen=True):
    """One thing that was done. `hash` is the head of the trail up to here."""

    seq: int
    at: str
    actor_kind: str
    actor: str
    way: str
    address: str
    client: str
    action: str
    act: str
    kind: str
    object: str
    changes: tuple[AuditChange, ...]
    request_id: str
    hash: str


class AuditFault(msgspec.Struct, frozen=True):
    seq: int
    what: str


class AuditVerification(msgspec.Struct, frozen=True):
    """A part of the trail that was verified; `next` is None at its end."""

    records: int
    faults: tuple[AuditFault, ...]
    head: str
    next: str | None = None
    anchor: str | None = None
