"""What may stand in a declared file: rows like the bodies that make one of the noun, but whole. A field that is not
written is at its default, for the file is the truth; only these stay as they are where they are not written:

    users   role, team_id, blocked
    teams   members, blocked
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from tollhouse.controlplane.shapes import (
    MAX_LIMIT,
    Input,
    LimitsIn,
    MetadataIn,
    ModelGlob,
    ModelGlobs,
    NameText,
    PlanName,
    TeamName,
    UserIdText,
)
from tollhouse.rules import secret_references
from tollhouse.rules.budgets import parse_budget, zone_of
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import BudgetEdge, OwnKeyRule, Role

MAX_ROWS = 2_000
"""Rows of one noun in one file."""
MAX_BUDGETS = 18
"""One of each unit and window."""
MAX_MEMBERS = 2_000


def _amount(text: str) -> str:
    parse_budget(text)
    return text


def _zone(text: str) -> str:
    zone_of(text)
    return text


def _reference(text: str) -> str:
    if text and (problem := secret_references.problem(text, declared=True)) is not None:
        raise ValueError(f"{problem}, as the server reads it")
    return text


def _file_name(text: str) -> str:
    if text.startswith(("plan:", "settings")):
        raise ValueError("is taken; call the file something else")
    return text


def _number(amount: object) -> object:
    """`20` in YAML is a number; so much money in total is meant."""
    return str(amount) if isinstance(amount, int) and not isinstance(amount, bool) else amount


Amount = Annotated[str, Field(max_length=100), BeforeValidator(_number), AfterValidator(_amount)]
Amounts = Annotated[tuple[Amount, ...], Field(max_length=MAX_BUDGETS)]
OwnerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}$"), AfterValidator(_file_name)]


class PlanRow(Input):
    plan_id: PlanName
    description: NameText = ""
    limits: LimitsIn = LimitsIn()
    budgets: Amounts = ()
    models: ModelGlobs | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_LIMIT)] | None = None
    edge: BudgetEdge = BudgetEdge.CLAMP
    own_key: OwnKeyRule = OwnKeyRule.NEVER
    without_own_key: PlanName | None = None
    fall_back: bool = False
    counts_own_key: bool = False


class TeamRow(Input):
    team_id: TeamName
    name: NameText = ""
    plan_id: PlanName | None = None
    models: ModelGlobs | None = None
    limits: LimitsIn = LimitsIn()
    budgets: Amounts = ()
    metadata: MetadataIn
    members: Annotated[dict[UserIdText, Literal["admin", "member", "viewer"]], Field(max_length=MAX_MEMBERS)] | None = (
        None
    )
    """User id: role in the team. Written at all, it is everybody who is in it."""
    blocked: bool | None = None


class UserRow(Input):
    user_id: UserIdText
    name: NameText = ""
    email: NameText = ""
    role: Role | None = None
    team_id: TeamName | None = None
    """The team their calls count toward where the key names none; one they are in."""
    plan_id: PlanName | None = None
    limits: LimitsIn = LimitsIn()
    budgets: Amounts = ()
    metadata: MetadataIn
    blocked: bool | None = None


class KeyRow(Input):
    name: Annotated[NameText, Field(min_length=1)]
    """Which key it is, together with its user."""
    user_id: UserIdText
    team_id: TeamName | None = None
    plan_id: PlanName | None = None
    models: ModelGlobs | None = None
    limits: LimitsIn = LimitsIn()
    budgets: Amounts = ()
    expires: Annotated[str, Field(max_length=64)] | None = None
    """A date or a time; no duration, which would mean another day each time the file is applied."""
    metadata: MetadataIn


class BudgetRow(Input):
    """A budget with a time zone or an edge of its own, or over somebody whom the file does not declare."""

    scope: Literal[ScopeKind.ORGANISATION, ScopeKind.TEAM, ScopeKind.USER]
    scope_id: Annotated[str, Field(max_length=256)] | None = None
    """Team or user id; nothing for the organisation."""
    amount: Amount
    timezone: Annotated[str, Field(max_length=64), AfterValidator(_zone)] | None = None
    edge: BudgetEdge = BudgetEdge.CLAMP


class ProviderIn(Input):
    """As a row of `providers:` in the settings."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    kind: Literal["anthropic", "openai"]
    base_url: Annotated[str, Field(max_length=500)] = ""
    api_key: Annotated[str, Field(max_length=500), AfterValidator(_reference)] = ""
    models: Annotated[tuple[ModelGlob, ...], Field(min_length=1, max_length=500)]
    list_models: Annotated[tuple[ModelGlob, ...], Field(max_length=500)] = ()
    price_provider: NameText | None = None
    cancel_stops_billing: bool | None = None


Rows = Field(max_length=MAX_ROWS)


class Resources(Input):
    plans: Annotated[tuple[PlanRow, ...], Rows] = ()
    teams: Annotated[tuple[TeamRow, ...], Rows] = ()
    users: Annotated[tuple[UserRow, ...], Rows] = ()
    keys: Annotated[tuple[KeyRow, ...], Rows] = ()
    budgets: Annotated[tuple[BudgetRow, ...], Rows] = ()
    providers: Annotated[tuple[ProviderIn, ...], Rows] = ()


class DeclarationIn(Input):
    """`owner` is the file's name: what it declares is changed by it alone."""

    owner: OwnerName
    resources: Resources = Resources()
    dry_run: bool = False
    """Say what would change, and change nothing."""
    prune: bool = False
    """End what the file declared before and no longer names."""
