"""Budgets: hard caps, shown with what is spent, held and left at this instant.

A scope has at most one budget of a unit and window: of two, the larger would never bind. What can be changed later is
how much and what happens at the edge; another unit or window would be another budget.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from tollhouse.controlplane.access import Caller, forbidden
from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.ownership import writable
from tollhouse.controlplane.problems import Problem, invalid
from tollhouse.controlplane.shapes import (
    DEFAULT_PAGE,
    CursorQuery,
    Input,
    LimitQuery,
    Page,
    amount_text,
    cursor_position,
    cut,
)
from tollhouse.controlplane.tenancy import (
    budget_is_theirs_to_set,
    known_budget,
    known_key,
    known_team,
    known_user,
    reached,
    tenant_of_key,
)
from tollhouse.controlplane.times import iso_ns, iso_s
from tollhouse.controlplane.visit import By
from tollhouse.rules.budgets import describe_amount, parse_budget, zone_of
from tollhouse.rules.roles import Action
from tollhouse.storage import directory, filters, teams
from tollhouse.terms.names import DEFAULT_ORG, ScopeKind
from tollhouse.terms.people import Budget, BudgetEdge, BudgetUnit, BudgetWindow, Team, VirtualKey

router = APIRouter(prefix="/api/v1/budgets", tags=["budgets"])

MAX_PER_SCOPE = len(BudgetUnit) * len(BudgetWindow)
_ID_BYTES = 10
_BARE = re.compile(r"\d[\d_,.]*\s*[kmb]?", re.IGNORECASE)


class BudgetIn(Input):
    scope: ScopeKind
    scope_id: str | None = Field(None, max_length=256, description="Team, user or key id; nothing for the organisation")
    amount: str = Field(
        max_length=100, description="Such as `20/month`, `$5/day`, `1M tokens/month`, `90 requests/day`"
    )
    timezone: str | None = Field(None, max_length=64, description="IANA name; the server's when missing")
    edge: BudgetEdge = BudgetEdge.CLAMP


class BudgetPatch(Input):
    """Only the fields that are given change."""

    amount: str | None = Field(None, max_length=100, description="In the budget's own unit; what is posted stays")
    edge: BudgetEdge | None = None


class BudgetOut(BaseModel):
    """Amounts are exact decimals in `unit`. `held` is taken by calls under way, apart from `posted`."""

    budget_id: str
    scope: ScopeKind
    scope_id: str
    scope_name: str
    unit: Literal["usd", "tokens", "requests"]
    window: str
    timezone: str
    edge: BudgetEdge
    limit: str
    posted: str
    held: str
    remaining: str
    window_start: str | None
    resets_at: str | None
    owned_by: str
    """The file that declares it, which alone may change it; `plan:` and a name where that plan gives it."""
    created_at: str | None


def new_budget(
    deps: ControlDeps,
    amount: str,
    scope: ScopeKind,
    scope_id: str,
    *,
    timezone: str | None = None,
    edge: BudgetEdge = BudgetEdge.CLAMP,
    field: str = "budget",
) -> Budget:
    """A budget of what somebody wrote. Raises Problem (400)."""
    limit, unit, window = _parsed(amount, field)
    zone = timezone or deps.timezone
    try:
        zone_of(zone)
    except ValueError as error:
        raise invalid("timezone", str(error)) from error
    return Budget(
        f"bud_{deps.random_bytes(_ID_BYTES).hex()}",
        scope=scope,
        scope_id=scope_id,
        limit=limit,
        unit=unit,
        window=window,
        timezone=zone,
        edge=edge,
        created_at_ns=deps.now_ns(),
    )


def only_new(connection: Connection, budgets: Sequence[Budget]) -> None:
    """Insert budgets. Raises Problem (409, with `existing`) when the scope has one of that unit and window."""
    for budget in budgets:
        there = directory.list_budgets(connection, scope=budget.scope, scope_id=budget.scope_id, limit=MAX_PER_SCOPE)
        for other in there:
            if (other.unit, other.window) == (budget.unit, budget.window):
                raise Problem(
                    409,
                    "budget_exists",
                    f"There is a budget of {budget.unit} with the window {budget.window} for this {budget.scope}: "
                    f"{describe_amount(other.limit, other.unit)}. Change it ({other.budget_id}) or remove it first.",
                    extra={"existing": other.budget_id},
                )
        directory.create_budget(connection, budget)


async def budgets_out(deps: ControlDeps, budgets: Sequence[Budget]) -> list[BudgetOut]:
    """Budgets as they stand now, with the names of those they hold over."""
    named: set[tuple[ScopeKind, str]] = {
        (budget.scope, budget.scope_id) for budget in budgets if budget.scope in (ScopeKind.KEY, ScopeKind.TEAM)
    }
    names: dict[tuple[ScopeKind, str], str] = {}
    if named:
        names = await deps.read(lambda connection: _names(connection, named))
    return [_budget_out(deps, budget, names) for budget in budgets]


def _names(connection: Connection, scopes: set[tuple[ScopeKind, str]]) -> dict[tuple[ScopeKind, str], str]:
    found: dict[tuple[ScopeKind, str], str] = {}
    for scope, scope_id in scopes:
        look = directory.get_key if scope is ScopeKind.KEY else teams.get_team
        one: VirtualKey | Team | None = look(connection, scope_id)
        if one is not None and one.name:
            found[scope, scope_id] = one.name
    return found


def _budget_out(deps: ControlDeps, budget: Budget, names: dict[tuple[ScopeKind, str], str]) -> BudgetOut:
    now = deps.standing.standing(budget)
    unit = budget.unit
    return BudgetOut(
        budget_id=budget.budget_id,
        scope=budget.scope,
        scope_id=budget.scope_id,
        scope_name=names.get((budget.scope, budget.scope_id), budget.scope_id),
        unit=unit.value,
        window=budget.window.value,
        timezone=budget.timezone,
        edge=budget.edge,
        limit=amount_text(budget.limit, unit),
        posted=amount_text(now.posted, unit),
        held=amount_text(now.held, unit),
        remaining=amount_text(now.remaining, unit),
        window_start=iso_s(now.window_start_s) if now.window_start_s else None,
        resets_at=iso_s(now.resets_at_s),
        owned_by=budget.owned_by,
        created_at=iso_ns(budget.created_at_ns),
    )


@router.post("", status_code=201)
async def create_budget(body: BudgetIn, deps: Deps, by: By) -> BudgetOut:
    """Set a hard cap over the organisation, a team, a user (all their keys together) or one key; effective on the next
    call.
    """
    scope_id = _scope_id(body)
    budget = new_budget(deps, body.amount, body.scope, scope_id, timezone=body.timezone, edge=body.edge, field="amount")

    def change(connection: Connection) -> str | None:
        user_id = _holder(connection, by.caller, body.scope, scope_id)
        only_new(connection, (budget,))
        return user_id

    await deps.write(change, touches=lambda user_id: user_id)
    by.tag(budget)
    return (await budgets_out(deps, (budget,)))[0]


@router.get("")
async def list_budgets(
    deps: Deps,
    by: By,
    scope: ScopeKind | None = None,
    scope_id: Annotated[str | None, Query(max_length=256)] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_PAGE,
) -> Page[BudgetOut]:
    """Budgets with what is spent, held and left: those the caller may know of. What plans give is told by `/me`."""
    after = cursor_position(cursor)
    theirs = filters.budgets_of(reached(by.caller, Action.READ_BUDGETS))
    rows = await deps.read(
        lambda connection: directory.list_budgets(
            connection, *theirs, scope=scope, scope_id=scope_id, cursor=after, limit=limit + 1
        )
    )
    page, next_cursor = cut(rows, limit, lambda budget: budget.budget_id)
    return Page(items=await budgets_out(deps, page), next_cursor=next_cursor)


@router.get("/{budget_id}")
async def get_budget(budget_id: str, deps: Deps, by: By) -> BudgetOut:
    """One budget with what is spent, held and left."""
    budget = await deps.read(lambda connection: known_budget(connection, by.caller, Action.READ_BUDGETS, budget_id))
    by.tag(budget)
    return (await budgets_out(deps, (budget,)))[0]


@router.patch("/{budget_id}")
async def edit_budget(budget_id: str, body: BudgetPatch, deps: Deps, by: By) -> BudgetOut:
    """Change how much, or what happens at the edge; effective on the next call."""

    def change(connection: Connection) -> tuple[Budget, str | None]:
        budget = _changeable(connection, by, budget_id)
        changed = msgspec.structs.replace(
            budget,
            limit=budget.limit if body.amount is None else _new_limit(body.amount, budget),
            edge=body.edge or budget.edge,
        )
        directory.update_budget(connection, changed)
        return changed, _user_of(connection, budget.scope, budget.scope_id)

    budget, _ = await deps.write(change, touches=lambda result: result[1])
    by.tag(budget)
    return (await budgets_out(deps, (budget,)))[0]


@router.delete("/{budget_id}", status_code=204)
async def remove_budget(budget_id: str, deps: Deps, by: By) -> None:
    """Remove the cap; what it counted stays in the ledger."""

    def change(connection: Connection) -> str | None:
        budget = _changeable(connection, by, budget_id)
        directory.delete_budget(connection, budget_id)
        return _user_of(connection, budget.scope, budget.scope_id)

    await deps.write(change, touches=lambda user_id: user_id)


def _changeable(connection: Connection, by: By, budget_id: str) -> Budget:
    """A budget that is to be changed. Raises Problem: 404, 403, 412, or 409 for one that a file owns."""
    budget = known_budget(connection, by.caller, Action.WRITE_BUDGETS, budget_id)
    by.meets(budget)
    writable(budget)
    return budget


def _scope_id(body: BudgetIn) -> str:
    if body.scope is ScopeKind.ORGANISATION:
        if body.scope_id not in (None, DEFAULT_ORG):
            raise invalid("scope_id", f"there is one organisation, {DEFAULT_ORG!r}; leave it out")
        return DEFAULT_ORG
    if not body.scope_id:
        raise invalid("scope_id", f"is missing: whose budget is it (the id of a {body.scope})")
    return body.scope_id


def _holder(connection: Connection, caller: Caller, scope: ScopeKind, scope_id: str) -> str | None:
    """That the scope of a new budget is there and the caller's to set one over; whose part of the directory it stands
    in. Raises Problem: 404 or 403.
    """
    if scope is ScopeKind.TEAM:
        known_team(connection, caller, Action.READ_TEAMS, scope_id)
    elif scope is ScopeKind.USER:
        known_user(connection, caller, Action.READ_USERS, scope_id)
    elif scope is ScopeKind.KEY:
        key = known_key(connection, caller, Action.READ_KEYS, scope_id)
        if tenant_of_key(connection, key) not in reached(caller, Action.WRITE_BUDGETS):
            raise forbidden(caller, Action.WRITE_BUDGETS)
    budget_is_theirs_to_set(caller, scope)
    return _user_of(connection, scope, scope_id)


def _user_of(connection: Connection, scope: ScopeKind, scope_id: str) -> str | None:
    """Whose part of the directory a budget stands in; None is everybody's."""
    if scope is ScopeKind.USER:
        return scope_id
    key = directory.get_key(connection, scope_id) if scope is ScopeKind.KEY else None
    return None if key is None else key.user_id


def _parsed(amount: str, field: str) -> tuple[int, BudgetUnit, BudgetWindow]:
    try:
        return parse_budget(amount)
    except ValueError as error:
        raise invalid(field, str(error)) from error


def _new_limit(amount: str, budget: Budget) -> int:
    """`30` and `30/month` for a monthly budget in USD; a bare number takes the budget's unit. Raises Problem (400)."""
    number, slash, window_name = (part.strip() for part in amount.partition("/"))
    if _BARE.fullmatch(number) and budget.unit is not BudgetUnit.USD:
        number = f"{number} {budget.unit}"
    limit, unit, window = _parsed(f"{number}{slash}{window_name}", "amount")
    if unit is not budget.unit or (slash and window is not budget.window):
        raise invalid(
            "amount",
            f"this budget counts {budget.unit} with the window {budget.window}; to change them, set another",
        )
    return limit
