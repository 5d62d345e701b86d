"""Users: created here or on first mention by a key; blocked rather than deleted, for the ledger names them for ever."""

from typing import Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from tollhouse.controlplane.budgets import BudgetOut, budgets_out, new_budget, only_new
from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.problems import Problem, not_found
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
    UserIdText,
    cursor_position,
    cut,
    limits_out,
)
from tollhouse.controlplane.times import iso_ns
from tollhouse.storage import directory
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import NO_LIMITS, Budget, User

router = APIRouter(prefix="/api/v1/users", tags=["users"])


class UserIn(Input):
    user_id: UserIdText
    name: NameText = ""
    email: NameText = ""
    limits: LimitsIn = LimitsIn()
    budget: str | None = Field(None, max_length=100, description="A hard cap such as `20/month` or `1M tokens/day`")
    metadata: MetadataIn


class UserPatch(Input):
    """Only the fields that are given change; `metadata` is replaced as a whole."""

    name: NameText = ""
    email: NameText = ""
    limits: LimitsIn = LimitsIn()
    metadata: MetadataIn


class UserOut(BaseModel):
    user_id: str
    name: str
    email: str
    status: str
    """active | blocked"""
    limits: LimitsOut
    metadata: dict[str, Any]
    created_at: str | None
    blocked_at: str | None


class UserDetail(UserOut):
    budgets: list[BudgetOut]


def user_out(user: User) -> UserOut:
    return UserOut(
        user_id=user.user_id,
        name=user.name,
        email=user.email,
        status="active" if user.blocked_at_ns is None else "blocked",
        limits=limits_out(user.limits),
        metadata=user.metadata,
        created_at=iso_ns(user.created_at_ns),
        blocked_at=iso_ns(user.blocked_at_ns),
    )


def _known(connection: Connection, user_id: str) -> User:
    user = directory.get_user(connection, user_id)
    if user is None:
        raise not_found("user", user_id, "`tollhouse users list` shows those there are.")
    return user


async def _detail(deps: ControlDeps, user: User, budgets: tuple[Budget, ...]) -> UserDetail:
    return UserDetail(**user_out(user).model_dump(), budgets=await budgets_out(deps, budgets))


@router.post("", status_code=201)
async def create_user(body: UserIn, deps: Deps) -> UserDetail:
    """Create a user, with limits and a budget that hold over the sum of their keys."""
    now_ns = deps.now_ns()
    user = User(
        body.user_id,
        name=body.name,
        email=body.email,
        limits=body.limits.over(NO_LIMITS),
        metadata=body.metadata,
        created_at_ns=now_ns,
    )
    budgets = () if body.budget is None else (new_budget(deps, body.budget, ScopeKind.USER, body.user_id),)

    def change(connection: Connection) -> User:
        if not directory.create_user(connection, user):
            raise Problem(
                409,
                "user_exists",
                f"There is a user {user.user_id!r} already; change it with PATCH or `tollhouse users edit`.",
                field="user_id",
            )
        only_new(connection, budgets)
        return user

    await deps.write(change, touches=lambda made: made.user_id)
    return await _detail(deps, user, budgets)


@router.get("")
async def list_users(deps: Deps, cursor: CursorQuery = None, limit: LimitQuery = DEFAULT_PAGE) -> Page[UserOut]:
    """Users by id."""
    after = cursor_position(cursor)
    rows = await deps.read(lambda connection: directory.list_users(connection, cursor=after, limit=limit + 1))
    page, next_cursor = cut(rows, limit, lambda user: user.user_id)
    return Page(items=[user_out(user) for user in page], next_cursor=next_cursor)


# Before `get_user` and `edit_user`: those take any path, and differ from these by method.
@router.post("/{user_id:path}/block")
async def block_user(user_id: str, deps: Deps) -> UserDetail:
    """Refuse all calls of this user's keys from the next one on."""
    return await _set_blocked(deps, user_id, deps.now_ns())


@router.post("/{user_id:path}/unblock")
async def unblock_user(user_id: str, deps: Deps) -> UserDetail:
    """Let the user's keys work again."""
    return await _set_blocked(deps, user_id, None)


async def _set_blocked(deps: ControlDeps, user_id: str, blocked_at_ns: int | None) -> UserDetail:
    def change(connection: Connection) -> User:
        user = _known(connection, user_id)
        if (user.blocked_at_ns is None) is not (blocked_at_ns is None):
            user = msgspec.structs.replace(user, blocked_at_ns=blocked_at_ns)
            directory.update_user(connection, user)
        return user

    await deps.write(change, touches=lambda user: user.user_id)
    return await get_user(user_id, deps)


@router.get("/{user_id:path}")
async def get_user(user_id: str, deps: Deps) -> UserDetail:
    """One user with what is left of their budgets."""

    def query(connection: Connection) -> tuple[User, tuple[Budget, ...]]:
        user = _known(connection, user_id)
        return user, directory.list_budgets(connection, scope=ScopeKind.USER, scope_id=user_id)

    user, budgets = await deps.read(query)
    return await _detail(deps, user, budgets)


@router.patch("/{user_id:path}")
async def edit_user(user_id: str, body: UserPatch, deps: Deps) -> UserDetail:
    """Change a user; effective on their next call."""
    given = body.model_fields_set

    def change(connection: Connection) -> User:
        user = _known(connection, user_id)
        user = msgspec.structs.replace(
            user,
            name=body.name if "name" in given else user.name,
            email=body.email if "email" in given else user.email,
            limits=body.limits.over(user.limits),
            metadata=body.metadata if "metadata" in given else user.metadata,
        )
        directory.update_user(connection, user)
        return user

    await deps.write(change, touches=lambda user: user.user_id)
    return await get_user(user_id, deps)
