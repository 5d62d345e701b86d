"""What somebody may know of themselves: who they are here, what limits their calls, and what is left.

Asked by a virtual key it is about calls by that key; asked by a signed-in user, about calls of theirs without one.
"""

import math
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import Connection

from tollhouse.controlplane.budgets import BudgetOut, budgets_out
from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.key_shapes import KeyOut, key_out
from tollhouse.controlplane.plans import PlanOut, plan_out
from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.shapes import LimitsOut, limits_out
from tollhouse.controlplane.times import NS_PER_S, iso_ns, iso_s
from tollhouse.controlplane.users import TeamRole, UserOut, user_out
from tollhouse.controlplane.visit import By
from tollhouse.ports import LimitHolder
from tollhouse.rules.plans import (
    OWN_HOLDER,
    holds_under,
    limits_in_force,
    nearest_plan,
    open_to_shared,
    own_key_first,
    plan_in_force,
)
from tollhouse.storage import directory, plans, teams
from tollhouse.storage.credentials import assignments, credentials_for
from tollhouse.storage.image import given_budgets
from tollhouse.terms.credentials import Credential, PaidBy
from tollhouse.terms.names import DEFAULT_ORG, ScopeKind
from tollhouse.terms.people import Budget, Limits, Membership, OwnKeyRule, Plan, Team, User, VirtualKey

router = APIRouter(prefix="/api/v1/me", tags=["me"])


class MyTeam(BaseModel):
    """The team the calls count toward."""

    team_id: str
    name: str
    status: str
    """active | blocked"""


class LimitLeft(BaseModel):
    """What one limit leaves at this instant, counting the calls of the last 60 s or of the day or month."""

    kind: str
    """The limit's name in `limits`."""
    limit: int
    remaining: int
    resets_at: str | None
    """When all of it is free again if no more calls come; null: when the calls under way end."""


class MyLimits(BaseModel):
    """The limits in force of one of those whose room a call takes: its own where they are set, else its plan's."""

    scope: ScopeKind
    scope_id: str
    plan_id: str | None
    limits: LimitsOut
    left: list[LimitLeft]


class MyOwnKey(BaseModel):
    """A provider's key of the user's own, without its secret."""

    provider: str
    credential_id: str
    name: str
    hint: str
    """The secret's last four characters."""
    refused_at: str | None
    """When the provider last refused it; null since it last worked."""


class MeOut(BaseModel):
    """`plan` is the plan in force nearest to the call: the key's, else the user's, else the team's. A call must have
    room in all `limits` and all `budgets`, which are the organisation's, the team's, the user's and the key's, with
    those that their plans give. `max_output_tokens` is the most output tokens of one call by these plans.

    Limits follow whose key pays for a call, which may be another for each provider: all of these are those of a call to
    `provider`, which `paid_by` pays first. `own_key` is the rule about that.
    """

    user: UserOut
    key: KeyOut | None
    team: MyTeam | None
    teams: list[TeamRole]
    plan: PlanOut | None
    max_output_tokens: int | None
    own_key: OwnKeyRule
    own_keys: list[MyOwnKey]
    provider: str | None
    """The one that was asked about, else the first for which there is an own key; null: any."""
    paid_by: PaidBy | None
    """Null: nobody's key does; the plan wants an own one."""
    limits: list[MyLimits]
    budgets: list[BudgetOut]


class _Holder(msgspec.Struct, frozen=True):
    """One of those whose limits and budgets a call must have room in."""

    scope: ScopeKind
    scope_id: str
    own_limits: Limits
    plan: Plan | None
    otherwise: Plan | None
    """What is in force while the shared key pays."""

    @property
    def limits(self) -> Limits:
        return limits_in_force(self.own_limits, self.plan)

    @property
    def name(self) -> str:
        """By which they are known to the limiter."""
        shared = limits_in_force(self.own_limits, self.otherwise)
        return f"{'' if self.limits == shared else OWN_HOLDER}{self.scope}:{self.scope_id}"


class _Me(msgspec.Struct, frozen=True):
    user: User
    key: VirtualKey | None
    team: Team | None
    joined: tuple[Membership, ...]
    holders: tuple[_Holder, ...]
    """From the widest to the nearest."""
    budgets: tuple[Budget, ...]
    rule: OwnKeyRule
    own_keys: tuple[Credential, ...]
    provider: str | None
    paid_by: PaidBy | None


def _look(connection: Connection, user_id: str, key_id: str | None, provider: str | None, timezone: str) -> _Me | None:
    key = None if key_id is None else directory.get_key(connection, key_id)
    user = directory.get_user(connection, user_id)
    if user is None or (key is None and key_id is not None):
        return None
    team_id = (key.team_id if key is not None else None) or user.team_id
    team = None if team_id is None else teams.get_team(connection, team_id)
    all_plans = plans.all_plans(connection)
    by_name = {plan.plan_id: plan for plan in all_plans}
    given = nearest_plan(
        by_name, None if key is None else key.plan_id, user.plan_id, None if team is None else team.plan_id
    )
    own_keys, pays, provider = _payer(connection, user_id, given, by_name, provider)

    def holder(scope: ScopeKind, scope_id: str, limits: Limits, plan_id: str | None) -> _Holder:
        shared = plan_in_force(by_name, plan_id)
        own = plan_in_force(by_name, plan_id, has_own_key=True)
        return _Holder(scope, scope_id, limits, own if pays is PaidBy.OWN else shared, shared)

    holders = [holder(ScopeKind.USER, user_id, user.limits, user.plan_id)]
    if team is not None:
        holders.insert(0, holder(ScopeKind.TEAM, team.team_id, team.limits, team.plan_id))
    if key is not None:
        holders.append(holder(ScopeKind.KEY, key.key_id, key.limits, key.plan_id))
    found: list[Budget] = []
    if pays is not PaidBy.OWN or (given is not None and given.counts_own_key):
        plan_of = {one.scope: one.plan for one in holders}
        scopes = [(ScopeKind.ORGANISATION, str(DEFAULT_ORG)), *((one.scope, one.scope_id) for one in holders)]
        for scope, scope_id in scopes:
            found += directory.list_budgets(connection, scope=scope, scope_id=scope_id)
        teams_here, keys_here = () if team is None else (team,), () if key is None else (key,)
        theirs = given_budgets(all_plans, teams_here, (user,), keys_here, timezone)
        found += [budget for budget in theirs if holds_under(budget, plan_of.get(budget.scope))]
    rule = OwnKeyRule.NEVER if given is None else given.own_key
    joined = teams.memberships_of(connection, user_id)
    return _Me(user, key, team, joined, tuple(holders), tuple(found), rule, own_keys, provider, pays)


def _payer(
    connection: Connection, user_id: str, given: Plan | None, by_name: dict[str, Plan], provider: str | None
) -> tuple[tuple[Credential, ...], PaidBy | None, str | None]:
    """Their own keys; whose key pays first for a call to this provider; and which provider that is."""
    stored = credentials_for(connection, user_id)
    own_keys = tuple(one for one in stored if one.user_id == user_id)
    in_force = None if given is None else plan_in_force(by_name, given.plan_id)
    if provider is None and own_keys and own_key_first(given, in_force):
        provider = own_keys[0].provider
    if own_key_first(given, in_force) and any(one.provider == provider for one in own_keys):
        return own_keys, PaidBy.OWN, provider
    if not open_to_shared(given, in_force):
        return own_keys, None, provider
    mine = {credential_id for _, credential_id in assignments(connection, user_id)}
    assigned = any(one.provider == provider and one.credential_id in mine for one in stored)
    return own_keys, PaidBy.ASSIGNED if assigned else PaidBy.SHARED, provider


@router.get("")
async def get_me(
    deps: Deps,
    by: By,
    provider: Annotated[str | None, Query(max_length=64, description="Of calls to this provider")] = None,
) -> MeOut:
    """Whoever asks, by a virtual key or signed in: who they are, what limits their calls, what is left."""
    caller = by.caller
    user_id = caller.key.user_id if caller.key is not None else caller.user_id
    key_id = None if caller.key is None else caller.key.key_id
    me = await deps.read(lambda connection: _look(connection, user_id, key_id, provider, deps.timezone))
    if me is None:
        raise Problem(401, "invalid_credentials", "Whoever you are, you are no longer there.")
    given = [one.plan for one in me.holders if one.plan is not None]
    caps = [plan.max_output_tokens for plan in given if plan.max_output_tokens is not None]
    team = None
    if me.team is not None:
        status = "active" if me.team.blocked_at_ns is None else "blocked"
        team = MyTeam(team_id=me.team.team_id, name=me.team.name, status=status)
    return MeOut(
        user=user_out(me.user),
        key=None if me.key is None else key_out(me.key, deps.now_ns()),
        team=team,
        teams=[TeamRole(team_id=one.team_id, role=one.role) for one in me.joined],
        plan=plan_out(given[-1]) if given else None,
        max_output_tokens=min(caps, default=None),
        own_key=me.rule,
        own_keys=[
            MyOwnKey(
                provider=one.provider,
                credential_id=one.credential_id,
                name=one.name,
                hint=one.hint,
                refused_at=None if one.refused_at_ns is None else iso_ns(one.refused_at_ns),
            )
            for one in me.own_keys
        ],
        provider=me.provider,
        paid_by=me.paid_by,
        limits=[await _my_limits(deps, one) for one in me.holders],
        budgets=await budgets_out(deps, me.budgets),
    )


async def _my_limits(deps: ControlDeps, one: _Holder) -> MyLimits:
    limits = one.limits
    now_s = deps.now_ns() / NS_PER_S  # first, or the time that looking takes would move midnight into the next second
    rooms = await deps.room(LimitHolder(one.name, limits))
    return MyLimits(
        scope=one.scope,
        scope_id=one.scope_id,
        plan_id=None if one.plan is None else one.plan.plan_id,
        limits=limits_out(limits),
        left=[
            LimitLeft(
                kind=room.kind,
                limit=room.limit,
                remaining=room.remaining,
                resets_at=None if room.reset_s is None else iso_s(math.ceil(now_s + room.reset_s)),
            )
            for room in rooms
        ],
    )
