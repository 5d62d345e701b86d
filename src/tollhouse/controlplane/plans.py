"""Plans: named bundles of budgets, limits and models that users, teams and keys are given. A change reaches every
holder at once; a plan that somebody has is not deleted.
"""

from typing import Annotated

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import Connection, select

from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.deps import Deps
from tollhouse.controlplane.ownership import writable
from tollhouse.controlplane.problems import Problem, invalid, not_found
from tollhouse.controlplane.references import plan_there
from tollhouse.controlplane.shapes import (
    DEFAULT_PAGE,
    MAX_LIMIT,
    CursorQuery,
    Input,
    LimitQuery,
    LimitsIn,
    LimitsOut,
    ModelGlobs,
    NameText,
    Page,
    PlanName,
    amount_text,
    cursor_position,
    cut,
    limits_out,
)
from tollhouse.controlplane.tenancy import reached
from tollhouse.controlplane.times import iso_ns
from tollhouse.controlplane.visit import By
from tollhouse.rules.budgets import parse_budget
from tollhouse.rules.plans import plan_problem
from tollhouse.rules.roles import Action
from tollhouse.storage import plans as stored
from tollhouse.storage.tables import plans as table
from tollhouse.storage.tables import teams, users, virtual_keys
from tollhouse.terms.people import NO_LIMITS, BudgetEdge, BudgetUnit, BudgetWindow, OwnKeyRule, Plan, PlanBudget

router = APIRouter(prefix="/api/v1/plans", tags=["plans"])

MAX_HOLDERS_NAMED = 20
MAX_BUDGETS = len(BudgetUnit) * len(BudgetWindow)

Amount = Annotated[str, Field(max_length=100)]
Amounts = Annotated[
    list[Amount], Field(max_length=MAX_BUDGETS, description="Hard caps of each holder, such as `1M tokens/month`")
]
OutputCap = Annotated[int | None, Field(ge=1, le=MAX_LIMIT, description="Most output tokens of one call")]


class _PlanFields(Input):
    description: NameText = ""
    limits: LimitsIn = LimitsIn()
    budgets: Amounts = Field(default_factory=list)
    models: ModelGlobs | None = None
    max_output_tokens: OutputCap = None
    edge: BudgetEdge = BudgetEdge.CLAMP
    own_key: OwnKeyRule = OwnKeyRule.NEVER
    without_own_key: PlanName | None = None
    fall_back: bool = False
    counts_own_key: bool = False


class PlanIn(_PlanFields):
    """`own_key` says whether the user's own provider key pays; `without_own_key` names the plan that holds instead
    while the shared one does. `fall_back`: of `own_first`, whether a call whose own key its provider refuses is sent
    once more with the shared key. `counts_own_key`: whether what own keys pay counts toward budgets.
    """

    plan_id: PlanName


class PlanPatch(_PlanFields):
    """Only the fields that are given change; `budgets` are replaced as a whole, and what is posted stays with those
    of the same unit and window.
    """


class PlanBudgetOut(BaseModel):
    """`limit` is an exact decimal in the unit."""

    limit: str
    unit: BudgetUnit
    window: BudgetWindow


class PlanOut(BaseModel):
    plan_id: str
    description: str
    limits: LimitsOut
    budgets: list[PlanBudgetOut]
    models: list[str] | None
    max_output_tokens: int | None
    edge: BudgetEdge
    own_key: OwnKeyRule
    without_own_key: str | None
    fall_back: bool
    counts_own_key: bool
    owned_by: str
    """The file that declares it, which alone may change it; empty for what people made."""
    created_at: str | None


def plan_out(plan: Plan) -> PlanOut:
    return PlanOut(
        plan_id=plan.plan_id,
        description=plan.description,
        limits=limits_out(plan.limits),
        budgets=[
            PlanBudgetOut(limit=amount_text(one.limit, one.unit), unit=one.unit, window=one.window)
            for one in plan.budgets
        ],
        models=None if plan.models is None else list(plan.models),
        max_output_tokens=plan.max_output_tokens,
        edge=plan.edge,
        own_key=plan.own_key,
        without_own_key=plan.without_own_key or None,
        fall_back=plan.fall_back,
        counts_own_key=plan.counts_own_key,
        owned_by=plan.owned_by,
        created_at=iso_ns(plan.created_at_ns),
    )


def plan_budgets(amounts: list[str], *, field: str = "budgets") -> tuple[PlanBudget, ...]:
    """Budgets of what somebody wrote, one of each unit and window. Raises Problem (400)."""
    found: dict[tuple[BudgetUnit, BudgetWindow], PlanBudget] = {}
    for place, amount in enumerate(amounts):
        try:
            limit, unit, window = parse_budget(amount)
        except ValueError as error:
            raise invalid(f"{field}.{place}", str(error)) from error
        if (unit, window) in found:
            raise invalid(f"{field}.{place}", f"is the second of {unit} with the window {window}; one is enough")
        found[unit, window] = PlanBudget(limit, unit, window)
    return tuple(found.values())


def _known(connection: Connection, caller: Caller, plan_id: str) -> Plan:
    plan = stored.get_plan(connection, plan_id)
    theirs = _theirs(connection, caller)
    if plan is None or (theirs is not None and plan_id not in theirs):
        raise not_found("plan", plan_id, "`tollhouse plans list` shows those there are.")
    return plan


def _theirs(connection: Connection, caller: Caller) -> set[str] | None:
    """The plans that the caller has, by themselves, their keys and their teams, and those that stand in for them. None:
    they reach all.
    """
    if reached(caller, Action.READ_PLANS).everybody:
        return None
    found: set[str] = set()
    for column, where in (
        (users.c.plan_id, users.c.user_id == caller.user_id),
        (virtual_keys.c.plan_id, virtual_keys.c.user_id == caller.user_id),
        (teams.c.plan_id, teams.c.team_id.in_(sorted(caller.team_roles))),
    ):
        found.update(name for name in connection.scalars(select(column).where(where)) if name)
    more = found
    while more:
        others = select(table.c.without_own_key).where(table.c.plan_id.in_(sorted(more)))
        more = {name for name in connection.scalars(others) if name} - found
        found |= more
    return found


def _makes_sense(connection: Connection, plan: Plan) -> None:
    """Raises Problem (400)."""
    problem = plan_problem(plan)
    if problem is not None:
        raise invalid(*problem)
    if plan.without_own_key == plan.plan_id:
        raise invalid("without_own_key", "names the plan itself; name another, or leave it out")
    plan_there(connection, plan.without_own_key or None, field="without_own_key")


@router.post("", status_code=201)
async def create_plan(body: PlanIn, deps: Deps, by: By) -> PlanOut:
    """Create a plan; it holds for whom it is given to."""
    plan = Plan(
        body.plan_id,
        description=body.description,
        limits=body.limits.over(NO_LIMITS),
        budgets=plan_budgets(body.budgets),
        models=None if body.models is None else tuple(body.models),
        max_output_tokens=body.max_output_tokens,
        edge=body.edge,
        own_key=body.own_key,
        without_own_key=body.without_own_key or "",
        fall_back=body.fall_back,
        counts_own_key=body.counts_own_key,
        created_at_ns=deps.now_ns(),
    )

    def change(connection: Connection) -> None:
        _makes_sense(connection, plan)
        if not stored.create_plan(connection, plan):
            raise Problem(
                409, "plan_exists", f"There is a plan {plan.plan_id!r} already; change it with PATCH.", field="plan_id"
            )

    await deps.write(change, touches=lambda _: None)
    by.tag(plan)
    return plan_out(plan)


@router.get("")
async def list_plans(deps: Deps, by: By, cursor: CursorQuery = None, limit: LimitQuery = DEFAULT_PAGE) -> Page[PlanOut]:
    """Plans by name: those the caller has, or all for who manages them."""
    after = cursor_position(cursor)

    def query(connection: Connection) -> tuple[Plan, ...]:
        theirs = _theirs(connection, by.caller)
        where = () if theirs is None else (table.c.plan_id.in_(sorted(theirs)),)
        return stored.list_plans(connection, *where, cursor=after, limit=limit + 1)

    page, next_cursor = cut(await deps.read(query), limit, lambda plan: plan.plan_id)
    return Page(items=[plan_out(plan) for plan in page], next_cursor=next_cursor)


@router.get("/{plan_id}")
async def get_plan(plan_id: str, deps: Deps, by: By) -> PlanOut:
    """One plan."""
    plan = await deps.read(lambda connection: _known(connection, by.caller, plan_id))
    by.tag(plan)
    return plan_out(plan)


@router.patch("/{plan_id}")
async def edit_plan(plan_id: str, body: PlanPatch, deps: Deps, by: By) -> PlanOut:
    """Change a plan; effective on its holders' next calls."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    if "budgets" in given:
        given["budgets"] = plan_budgets(body.budgets)
    if "models" in given:
        given["models"] = body.models and tuple(body.models)
    if "without_own_key" in given:
        given["without_own_key"] = body.without_own_key or ""

    def change(connection: Connection) -> Plan:
        plan = _known(connection, by.caller, plan_id)
        by.meets(plan)
        writable(plan)
        after = msgspec.structs.replace(plan, **{**given, "limits": body.limits.over(plan.limits)})
        _makes_sense(connection, after)
        stored.update_plan(connection, after)
        return after

    plan = await deps.write(change, touches=lambda _: None)
    by.tag(plan)
    return plan_out(plan)


@router.delete("/{plan_id}", status_code=204)
async def remove_plan(plan_id: str, deps: Deps, by: By) -> None:
    """Remove a plan that nobody has."""

    def change(connection: Connection) -> None:
        plan = _known(connection, by.caller, plan_id)
        by.meets(plan)
        writable(plan)
        holders = stored.holders_of(connection, plan_id, MAX_HOLDERS_NAMED)
        if holders:
            named = list(holders[:MAX_HOLDERS_NAMED])
            raise Problem(
                409,
                "plan_in_use",
                f"The plan {plan_id} is held by {', '.join(named)}{' and more' if holders[len(named) :] else ''}: give "
                "them another first.",
                extra={"holders": named},
            )
        stored.delete_plan(connection, plan_id)

    await deps.write(change, touches=lambda _: None)
