"""Users: created here or on first mention by a key; blocked rather than deleted, for the ledger names them for ever.

Only an owner makes, changes or blocks owners and admins. There is always an owner: the last one is neither demoted nor
blocked.
"""

from typing import Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.budgets import BudgetOut, budgets_out, new_budget, only_new
from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.ownership import writable
from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.references import member_of, plan_there, team_there
from tollhouse.controlplane.shapes import (
    DEFAULT_PAGE,
    CursorQuery,
    Input,
    LimitQuery,
    LimitsIn,
    LimitsOut,
    MetadataIn,
    NameText,
    Page,
    PlanName,
    TeamName,
    UserIdText,
    cursor_position,
    cut,
    limits_out,
)
from tollhouse.controlplane.tenancy import known_user, reached
from tollhouse.controlplane.times import iso_ns
from tollhouse.controlplane.visit import By
from tollhouse.rules.roles import Action, may_give
from tollhouse.storage import directory, filters, teams
from tollhouse.storage.tables import users as table
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import NO_LIMITS, Budget, Membership, Role, User

router = APIRouter(prefix="/api/v1/users", tags=["users"])


class UserIn(Input):
    user_id: UserIdText
    name: NameText = ""
    email: NameText = ""
    role: Role = Role.MEMBER
    team_id: TeamName | None = Field(None, description="The team their calls count toward; makes them a member of it")
    plan_id: PlanName | None = None
    limits: LimitsIn = LimitsIn()
    budget: str | None = Field(None, max_length=100, description="A hard cap such as `20/month` or `1M tokens/day`")
    metadata: MetadataIn


class UserPatch(Input):
    """Only the fields that are given change; `metadata` is replaced as a whole."""

    name: NameText = ""
    email: NameText = ""
    role: Role = Role.MEMBER
    team_id: TeamName | None = Field(None, description="One of the teams they are in; null for none")
    plan_id: PlanName | None = None
    limits: LimitsIn = LimitsIn()
    metadata: MetadataIn


class UserOut(BaseModel):
    user_id: str
    name: str
    email: str
    role: Role
    team_id: str | None
    plan_id: str | None
    status: str
    """active | blocked | erased"""
    limits: LimitsOut
    metadata: dict[str, Any]
    owned_by: str
    """The file that declares them, which alone may change them; empty for what people made."""
    created_at: str | None
    blocked_at: str | None
    erased_at: str | None
    """Since then the id is a pseudonym, and nothing says who it was."""


class TeamRole(BaseModel):
    team_id: str
    role: Role


class UserDetail(UserOut):
    """`teams` are those of theirs that the caller may know of."""

    budgets: list[BudgetOut]
    teams: list[TeamRole]


def user_out(user: User) -> UserOut:
    return UserOut(
        user_id=user.user_id,
        name=user.name,
        email=user.email,
        role=user.role,
        team_id=user.team_id,
        plan_id=user.plan_id,
        status="erased" if user.erased_at_ns is not None else "active" if user.blocked_at_ns is None else "blocked",
        limits=limits_out(user.limits),
        metadata=user.metadata,
        owned_by=user.owned_by,
        created_at=iso_ns(user.created_at_ns),
        blocked_at=iso_ns(user.blocked_at_ns),
        erased_at=iso_ns(user.erased_at_ns),
    )


def theirs_to_change(by: By, user: User) -> None:
    """Raises Problem: 403, 409 for somebody who was erased, 412."""
    _theirs_to_give(by.caller, user.role)
    if user.erased_at_ns is not None:
        raise Problem(409, "user_erased", f"{user.user_id} was erased: there is nobody left to change.")
    by.meets(user)


def _theirs_to_give(caller: Caller, role: Role) -> None:
    if not may_give(caller.role, role):
        raise Problem(403, "forbidden", f"Only an owner makes, changes or blocks an {role}.", field="role")


def not_the_last_owner(connection: Connection, user: User, after: User | None) -> None:
    """Raises Problem (409). `after` is None for who will be gone."""

    def counts(one: User | None) -> bool:
        return one is not None and one.role is Role.OWNER and one.blocked_at_ns is None

    if counts(user) and not counts(after) and directory.count_owners(connection) == 1:
        raise Problem(409, "last_owner", f"{user.user_id} is the only owner; make another one first.")


@router.post("", status_code=201)
async def create_user(body: UserIn, deps: Deps, by: By) -> UserDetail:
    """Create a user, with limits and a budget that hold over the sum of their keys."""
    _theirs_to_give(by.caller, body.role)
    now_ns = deps.now_ns()
    user = User(
        body.user_id,
        name=body.name,
        email=body.email,
        role=body.role,
        plan_id=body.plan_id,
        limits=body.limits.over(NO_LIMITS),
        metadata=body.metadata,
        created_at_ns=now_ns,
    )
    budgets = () if body.budget is None else (new_budget(deps, body.budget, ScopeKind.USER, body.user_id),)

    def change(connection: Connection) -> None:
        plan_there(connection, body.plan_id)
        if not directory.create_user(connection, user):
            raise Problem(
                409,
                "user_exists",
                f"There is a user {user.user_id!r} already; change it with PATCH or `tollhouse users edit`.",
                field="user_id",
            )
        if body.team_id is not None:
            writable(team_there(connection, body.team_id))
            teams.put_member(connection, Membership(body.team_id, user.user_id, created_at_ns=now_ns))
        only_new(connection, budgets)

    await deps.write(change, touches=lambda _: user.user_id)
    return await get_user(user.user_id, deps, by)


@router.get("")
async def list_users(
    deps: Deps,
    by: By,
    team: str | None = Query(None, max_length=256, description="Only members of this team"),
    plan: str | None = Query(None, max_length=256, description="Only those who were given this plan"),
    role: Role | None = None,
    email: str | None = Query(None, max_length=256, description="Only those with exactly this address"),
    blocked: bool | None = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_PAGE,
) -> Page[UserOut]:
    """Users by id: those the caller may know of."""
    after = cursor_position(cursor)
    column = table.c
    wanted = filters.users_of(reached(by.caller, Action.READ_USERS))
    if team is not None:
        wanted.append(column.user_id.in_(filters.members_of(team)))
    wanted += [
        of == value for of, value in ((column.plan_id, plan), (column.role, role), (column.email, email)) if value
    ]
    if blocked is not None:
        wanted.append(column.blocked_at_ns.is_not(None) if blocked else column.blocked_at_ns.is_(None))
    rows = await deps.read(lambda connection: directory.list_users(connection, *wanted, cursor=after, limit=limit + 1))
    page, next_cursor = cut(rows, limit, lambda user: user.user_id)
    return Page(items=[user_out(user) for user in page], next_cursor=next_cursor)


# Before `get_user` and `edit_user`: those take any path, and differ from these by method.
@router.post("/{user_id:path}/block")
async def block_user(user_id: str, deps: Deps, by: By) -> UserDetail:
    """Refuse all calls of this user's keys from the next one on, and end their sessions."""
    return await _set_blocked(deps, by, user_id, deps.now_ns())


@router.post("/{user_id:path}/unblock")
async def unblock_user(user_id: str, deps: Deps, by: By) -> UserDetail:
    """Let the user's keys work again."""
    return await _set_blocked(deps, by, user_id, None)


async def _set_blocked(deps: ControlDeps, by: By, user_id: str, blocked_at_ns: int | None) -> UserDetail:
    def change(connection: Connection) -> None:
        user = known_user(connection, by.caller, Action.WRITE_USERS, user_id)
        theirs_to_change(by, user)
        if (user.blocked_at_ns is None) is not (blocked_at_ns is None):
            after = msgspec.structs.replace(user, blocked_at_ns=blocked_at_ns)
            not_the_last_owner(connection, user, after)
            directory.update_user(connection, after)

    await deps.write(change, touches=lambda _: user_id)
    return await get_user(user_id, deps, by)


@router.get("/{user_id:path}")
async def get_user(user_id: str, deps: Deps, by: By) -> UserDetail:
    """One user with what is left of their budgets."""
    seen = reached(by.caller, Action.READ_TEAMS)

    def query(connection: Connection) -> tuple[User, tuple[Budget, ...], tuple[Membership, ...]]:
        user = known_user(connection, by.caller, Action.READ_USERS, user_id)
        budgets = directory.list_budgets(connection, scope=ScopeKind.USER, scope_id=user_id)
        return user, budgets, teams.memberships_of(connection, user_id)

    user, budgets, joined = await deps.read(query)
    by.tag(user)
    mine = user_id == by.caller.user_id
    shown = [
        TeamRole(team_id=one.team_id, role=one.role)
        for one in joined
        if mine or seen.everybody or one.team_id in seen.team_ids
    ]
    return UserDetail(**user_out(user).model_dump(), budgets=await budgets_out(deps, budgets), teams=shown)


@router.patch("/{user_id:path}")
async def edit_user(user_id: str, body: UserPatch, deps: Deps, by: By) -> UserDetail:
    """Change a user; effective on their next call."""
    given = body.model_fields_set
    plain = {name: getattr(body, name) for name in ("name", "email", "role", "team_id", "plan_id", "metadata")}

    def change(connection: Connection) -> None:
        user = known_user(connection, by.caller, Action.WRITE_USERS, user_id)
        theirs_to_change(by, user)
        writable(user)
        after = msgspec.structs.replace(
            user,
            limits=body.limits.over(user.limits),
            **{name: value for name, value in plain.items() if name in given},
        )
        if after.role is not user.role:
            _theirs_to_give(by.caller, after.role)
            not_the_last_owner(connection, user, after)
        if "plan_id" in given:
            plan_there(connection, after.plan_id)
        if "team_id" in given:
            member_of(connection, after.team_id, user_id)
        directory.update_user(connection, after)

    await deps.write(change, touches=lambda _: user_id)
    return await get_user(user_id, deps, by)
