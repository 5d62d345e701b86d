"""Teams: users and keys whose spend counts together. Blocked, not deleted, for the ledger names them."""

from typing import Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from tollhouse.controlplane.budgets import BudgetOut, budgets_out, new_budget, only_new
from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.ownership import writable
from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.references import plan_there
from tollhouse.controlplane.shapes import (
    DEFAULT_PAGE,
    CursorQuery,
    Input,
    LimitQuery,
    LimitsIn,
    LimitsOut,
    MetadataIn,
    ModelGlobs,
    NameText,
    Page,
    PlanName,
    TeamName,
    cursor_position,
    cut,
    limits_out,
)
from tollhouse.controlplane.tenancy import known_team, reached
from tollhouse.controlplane.times import iso_ns
from tollhouse.controlplane.visit import By
from tollhouse.rules.roles import Action
from tollhouse.storage import directory, filters
from tollhouse.storage import teams as stored
from tollhouse.storage.tables import teams as table
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import NO_LIMITS, Budget, Team

router = APIRouter(prefix="/api/v1/teams", tags=["teams"])


class _TeamFields(Input):
    name: NameText = ""
    plan_id: PlanName | None = None
    models: ModelGlobs | None = None
    limits: LimitsIn = LimitsIn()
    metadata: MetadataIn


class TeamIn(_TeamFields):
    team_id: TeamName
    budget: str | None = Field(None, max_length=100, description="A hard cap such as `20/month` or `1M tokens/day`")


class TeamPatch(_TeamFields):
    """Only the fields that are given change; `models: null` admits every model; `metadata` is replaced as a whole."""


class TeamOut(BaseModel):
    team_id: str
    name: str
    plan_id: str | None
    status: str
    """active | blocked"""
    models: list[str] | None
    limits: LimitsOut
    metadata: dict[str, Any]
    owned_by: str
    """The file that declares it, which alone may change it; empty for what people made."""
    created_at: str | None
    blocked_at: str | None


class TeamDetail(TeamOut):
    budgets: list[BudgetOut]


def team_out(team: Team) -> TeamOut:
    return TeamOut(
        team_id=team.team_id,
        name=team.name,
        plan_id=team.plan_id,
        status="active" if team.blocked_at_ns is None else "blocked",
        models=None if team.models is None else list(team.models),
        limits=limits_out(team.limits),
        metadata=team.metadata,
        owned_by=team.owned_by,
        created_at=iso_ns(team.created_at_ns),
        blocked_at=iso_ns(team.blocked_at_ns),
    )


@router.post("", status_code=201)
async def create_team(body: TeamIn, deps: Deps, by: By) -> TeamDetail:
    """Create a team, with limits, models, a plan and a budget that hold over all calls that count toward it."""
    team = Team(
        body.team_id,
        name=body.name,
        plan_id=body.plan_id,
        models=None if body.models is None else tuple(body.models),
        limits=body.limits.over(NO_LIMITS),
        metadata=body.metadata,
        created_at_ns=deps.now_ns(),
    )
    budgets = () if body.budget is None else (new_budget(deps, body.budget, ScopeKind.TEAM, team.team_id),)

    def change(connection: Connection) -> None:
        plan_there(connection, team.plan_id)
        if not stored.create_team(connection, team):
            raise Problem(
                409, "team_exists", f"There is a team {team.team_id!r} already; change it with PATCH.", field="team_id"
            )
        only_new(connection, budgets)

    await deps.write(change, touches=lambda _: None)
    return await get_team(team.team_id, deps, by)


@router.get("")
async def list_teams(
    deps: Deps,
    by: By,
    plan: str | None = Query(None, max_length=256, description="Only those who were given this plan"),
    blocked: bool | None = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_PAGE,
) -> Page[TeamOut]:
    """Teams by id: those the caller may know of."""
    after = cursor_position(cursor)
    wanted = filters.teams_of(reached(by.caller, Action.READ_TEAMS))
    if plan is not None:
        wanted.append(table.c.plan_id == plan)
    if blocked is not None:
        wanted.append(table.c.blocked_at_ns.is_not(None) if blocked else table.c.blocked_at_ns.is_(None))
    rows = await deps.read(lambda connection: stored.list_teams(connection, *wanted, cursor=after, limit=limit + 1))
    page, next_cursor = cut(rows, limit, lambda team: team.team_id)
    return Page(items=[team_out(team) for team in page], next_cursor=next_cursor)


@router.get("/{team_id}")
async def get_team(team_id: str, deps: Deps, by: By) -> TeamDetail:
    """One team with what is left of its budgets."""

    def query(connection: Connection) -> tuple[Team, tuple[Budget, ...]]:
        team = known_team(connection, by.caller, Action.READ_TEAMS, team_id)
        return team, directory.list_budgets(connection, scope=ScopeKind.TEAM, scope_id=team_id)

    team, budgets = await deps.read(query)
    by.tag(team)
    return TeamDetail(**team_out(team).model_dump(), budgets=await budgets_out(deps, budgets))


@router.patch("/{team_id}")
async def edit_team(team_id: str, body: TeamPatch, deps: Deps, by: By) -> TeamDetail:
    """Change a team; effective on the next call that counts toward it."""
    given = body.model_fields_set

    def change(connection: Connection) -> None:
        team = known_team(connection, by.caller, Action.WRITE_TEAMS, team_id)
        by.meets(team)
        writable(team)
        if "plan_id" in given:
            plan_there(connection, body.plan_id)
        after = msgspec.structs.replace(
            team,
            name=body.name if "name" in given else team.name,
            plan_id=body.plan_id if "plan_id" in given else team.plan_id,
            models=(body.models and tuple(body.models)) if "models" in given else team.models,
            limits=body.limits.over(team.limits),
            metadata=body.metadata if "metadata" in given else team.metadata,
        )
        stored.update_team(connection, after)

    await deps.write(change, touches=lambda _: None)
    return await get_team(team_id, deps, by)


@router.post("/{team_id}/block")
async def block_team(team_id: str, deps: Deps, by: By) -> TeamDetail:
    """Refuse all calls that count toward this team, from the next one on."""
    return await _set_blocked(deps, by, team_id, deps.now_ns())


@router.post("/{team_id}/unblock")
async def unblock_team(team_id: str, deps: Deps, by: By) -> TeamDetail:
    """Let the team's calls pass again."""
    return await _set_blocked(deps, by, team_id, None)


async def _set_blocked(deps: ControlDeps, by: By, team_id: str, blocked_at_ns: int | None) -> TeamDetail:
    def change(connection: Connection) -> None:
        team = known_team(connection, by.caller, Action.WRITE_TEAMS, team_id)
        by.meets(team)
        if (team.blocked_at_ns is None) is not (blocked_at_ns is None):
            stored.update_team(connection, msgspec.structs.replace(team, blocked_at_ns=blocked_at_ns))

    await deps.write(change, touches=lambda _: None)
    return await get_team(team_id, deps, by)
