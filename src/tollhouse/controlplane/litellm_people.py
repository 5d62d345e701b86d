"""LiteLLM's routes of users and teams: other words for what `/api/v1/users` and `/api/v1/teams` do, as in `litellm`.

a user     limits and budget hold over all their keys; the key that comes with them (unless `auto_create_key` is
           false) has the models, the duration and the team that are given
a team     its spend is told where it has a budget in USD, and is null where it has none
proxy_admin, internal_user   admin, member (`litellm_people_fields.ROLES`)
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from tollhouse.controlplane.budgets import new_budget, only_new
from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.litellm import answer, insert_key, join, new_key, takes, tightest, told, usd
from tollhouse.controlplane.litellm_fields import DURATIONS, KeyFields, read_fields
from tollhouse.controlplane.litellm_people_fields import (
    ROLE_WORDS,
    TEAM_REFUSED,
    TEAM_ROLE_WORDS,
    TEAM_ROLES,
    USER_REFUSED,
    TeamNewIn,
    UserNewIn,
)
from tollhouse.controlplane.problems import Problem, invalid
from tollhouse.controlplane.shapes import UserIdText
from tollhouse.controlplane.times import iso_ns, iso_s
from tollhouse.storage import directory, ledger, teams
from tollhouse.storage.rows import MAX_PAGE
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import NO_LIMITS, Budget, BudgetUnit, Limits, Membership, Role, Team, User, VirtualKey

router = APIRouter(tags=["litellm"])

_ID_BYTES = 10
KeyWithBudgets = tuple[VirtualKey, tuple[Budget, ...]]


@router.post("/user/new", openapi_extra=takes(UserNewIn))
async def new_user(request: Request, deps: Deps) -> Response:
    """Create a user, and a key unless `auto_create_key` is false; takes LiteLLM's fields."""
    fields = await read_fields(request, UserNewIn, refused=USER_REFUSED, minted=True)
    user_id = fields.user_id or f"user_{deps.random_bytes(_ID_BYTES).hex()}"
    with_key = fields.auto_create_key is not False
    if not with_key:
        _refuse_keys_own(fields)
    user = User(
        user_id,
        name=fields.user_alias or "",
        email=fields.user_email or "",
        limits=fields.limits().over(NO_LIMITS),
        metadata=fields.labels({}),
        created_at_ns=deps.now_ns(),
        role=fields.user_role or Role.MEMBER,
    )
    budgets = _budgets(deps, fields.budget_text(), ScopeKind.USER, user_id)
    key = new_key(deps, fields, user_id, limited=False) if with_key else None
    joined = {team.team_id: TEAM_ROLES[team.user_role] for team in fields.teams or ()}

    def change(connection: Connection) -> tuple[User, Sequence[Membership]]:
        if not directory.create_user(connection, user):
            raise Problem(409, "user_exists", f"There is a user {user_id!r} already.", field="user_id")
        only_new(connection, budgets)
        for place, (team_id, role) in enumerate(joined.items()):
            join(connection, team_id, user_id, role, user.created_at_ns, field=f"teams.{place}")
        if key is not None:
            insert_key(connection, key)
        made = directory.get_user(connection, user_id)
        assert made is not None  # written above
        return made, teams.memberships_of(connection, user_id)

    made, memberships = await deps.write(change, touches=lambda _: user_id)
    of_user = {**_user_told(deps, made, budgets, memberships), "spend": Decimal(0)}
    of_key = {"key": None} if key is None else {**told(deps, key.key, ()), "key": key.text}
    return answer({**of_key, **of_user})


def _refuse_keys_own(fields: KeyFields) -> None:
    """What only a key can have means nothing without one. Raises Problem (400)."""
    for name in ("key_alias", "models", "duration", "team_id"):
        if getattr(fields, name):
            raise invalid(name, "is the key's that is made with the user; leave out auto_create_key: false, or this")


@router.get("/user/info")
async def user_info(deps: Deps, user_id: Annotated[UserIdText, Query(description="Whose")]) -> Response:
    """One user in LiteLLM's words, with their keys (at most a thousand) and teams."""
    await deps.shipped()

    def query(connection: Connection) -> tuple[User, tuple[Budget, ...], list[KeyWithBudgets], list[Team], int, Any]:
        user = directory.get_user(connection, user_id)
        if user is None:
            raise Problem(404, "not_found", f"There is no user {user_id!r}.", field="user_id")
        budgets = _in_usd(connection, ScopeKind.USER, user_id)
        rows = ledger.usage(connection, "user", user_id=user_id) if not budgets else ()
        keys = directory.list_keys(connection, user_id=user_id, limit=MAX_PAGE)
        memberships = teams.memberships_of(connection, user_id)
        found = [teams.get_team(connection, member.team_id) for member in memberships]
        return (
            user,
            budgets,
            [(key, _in_usd(connection, ScopeKind.KEY, key.key_id)) for key in keys if key.revoked_at_ns is None],
            [team for team in found if team is not None],
            sum(row.amount_nusd for row in rows),
            memberships,
        )

    user, budgets, keys, of_teams, spent_nusd, memberships = await deps.read(query)
    if budgets:
        spent_nusd = deps.standing.standing(tightest(deps, budgets)).posted
    return answer(
        {
            "user_id": user_id,
            "user_info": {**_user_told(deps, user, budgets, memberships), "spend": usd(spent_nusd)},
            "keys": [told(deps, key, its) for key, its in keys],
            "teams": [{"team_id": team.team_id, "team_alias": team.name or None} for team in of_teams],
        }
    )


@router.post("/team/new", openapi_extra=takes(TeamNewIn))
async def new_team(request: Request, deps: Deps) -> Response:
    """Create a team with its members, who are created on first mention; takes LiteLLM's fields."""
    fields = await read_fields(request, TeamNewIn, refused=TEAM_REFUSED)
    now_ns = deps.now_ns()
    team = Team(
        fields.team_id or f"team_{deps.random_bytes(_ID_BYTES).hex()}",
        name=fields.team_alias or "",
        models=tuple(fields.models or ()) or None,
        limits=fields.limits().over(NO_LIMITS),
        metadata=fields.labels({}),
        created_at_ns=now_ns,
        blocked_at_ns=now_ns if fields.blocked else None,
    )
    budgets = _budgets(deps, fields.budget_text(), ScopeKind.TEAM, team.team_id)
    members = tuple(
        Membership(team.team_id, one.user_id, role=TEAM_ROLES[one.role], created_at_ns=now_ns)
        for one in fields.members_with_roles or ()
    )

    def change(connection: Connection) -> Sequence[Membership]:
        if not teams.create_team(connection, team):
            raise Problem(409, "team_exists", f"There is a team {team.team_id!r} already.", field="team_id")
        only_new(connection, budgets)
        for member in members:
            directory.ensure_user(connection, member.user_id, now_ns)
            teams.put_member(connection, member)
        return teams.members_of(connection, team.team_id, limit=MAX_PAGE)

    joined = await deps.write(change, touches=lambda _: None)
    return answer(_team_told(deps, team, budgets, joined))


@router.get("/team/info")
async def team_info(deps: Deps, team_id: Annotated[UserIdText, Query(description="Which")]) -> Response:
    """One team in LiteLLM's words, with its members and keys (at most a thousand of each)."""
    await deps.shipped()

    def query(
        connection: Connection,
    ) -> tuple[Team, tuple[Budget, ...], Sequence[Membership], list[KeyWithBudgets]]:
        team = teams.get_team(connection, team_id)
        if team is None:
            raise Problem(404, "not_found", f"There is no team {team_id!r}.", field="team_id")
        keys = directory.list_keys(connection, team_id=team_id, limit=MAX_PAGE)
        return (
            team,
            _in_usd(connection, ScopeKind.TEAM, team_id),
            teams.members_of(connection, team_id, limit=MAX_PAGE),
            [(key, _in_usd(connection, ScopeKind.KEY, key.key_id)) for key in keys if key.revoked_at_ns is None],
        )

    team, budgets, members, keys = await deps.read(query)
    return answer(
        {
            "team_id": team_id,
            "team_info": _team_told(deps, team, budgets, members),
            "keys": [told(deps, key, its) for key, its in keys],
            "team_memberships": [{"user_id": member.user_id, "team_id": team_id} for member in members],
        }
    )


def _budgets(deps: ControlDeps, text: str | None, scope: ScopeKind, scope_id: str) -> tuple[Budget, ...]:
    return () if text is None else (new_budget(deps, text, scope, scope_id, field="max_budget"),)


def _in_usd(connection: Connection, scope: ScopeKind, scope_id: str) -> tuple[Budget, ...]:
    found = directory.list_budgets(connection, scope=scope, scope_id=scope_id)
    return tuple(budget for budget in found if budget.unit is BudgetUnit.USD)


# Answers


def _capped(deps: ControlDeps, limits: Limits, budgets: Sequence[Budget]) -> dict[str, Any]:
    """Limits and the tightest budget in LiteLLM's words."""
    budget = tightest(deps, budgets) if budgets else None
    return {
        "max_budget": None if budget is None else usd(budget.limit),
        "budget_duration": None if budget is None else DURATIONS[budget.window],
        "budget_reset_at": None if budget is None else iso_s(deps.standing.standing(budget).resets_at_s),
        "rpm_limit": limits.requests_per_minute,
        "tpm_limit": limits.tokens_per_minute,
        "max_parallel_requests": limits.parallel_requests,
    }


def _user_told(
    deps: ControlDeps, user: User, budgets: Sequence[Budget], memberships: Sequence[Membership]
) -> dict[str, Any]:
    return {
        "user_id": user.user_id,
        "user_email": user.email or None,
        "user_alias": user.name or None,
        "user_role": ROLE_WORDS[user.role],
        "teams": [member.team_id for member in memberships],
        **_capped(deps, user.limits, budgets),
        "metadata": user.metadata,
        "created_at": iso_ns(user.created_at_ns),
    }


def _team_told(
    deps: ControlDeps, team: Team, budgets: Sequence[Budget], members: Sequence[Membership]
) -> dict[str, Any]:
    spent = usd(deps.standing.standing(tightest(deps, budgets)).posted) if budgets else None
    return {
        "team_id": team.team_id,
        "team_alias": team.name or None,
        "organization_id": None,
        "admins": [],
        "members": [],
        "members_with_roles": [
            {"role": TEAM_ROLE_WORDS[member.role], "user_id": member.user_id, "user_email": None} for member in members
        ],
        "models": [] if team.models is None else list(team.models),
        **_capped(deps, team.limits, budgets),
        "spend": spent,
        "metadata": team.metadata,
        "blocked": team.blocked_at_ns is not None,
        "created_at": iso_ns(team.created_at_ns),
    }
