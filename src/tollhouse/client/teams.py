"""Teams and who is in them."""

from collections.abc import Sequence
from typing import Any

from tollhouse.client.asks import UNSET, Ask, PageAsk, Unset, ask, page, segment
from tollhouse.client.shapes import Limits, Member, MemberGone, Team, TeamDetail, TeamRole


def create(
    team_id: str,
    *,
    name: str | Unset = UNSET,
    plan_id: str | Unset = UNSET,
    models: Sequence[str] | Unset = UNSET,
    limits: Limits | Unset = UNSET,
    budget: str | Unset = UNSET,
    metadata: dict[str, Any] | Unset = UNSET,
) -> Ask[TeamDetail]:
    body = {"team_id": team_id, "name": name, "plan_id": plan_id, "models": models, "limits": limits}
    return ask("POST", "/teams", TeamDetail, {**body, "budget": budget, "metadata": metadata})


def get(team_id: str) -> Ask[TeamDetail]:
    return ask("GET", f"/teams/{segment(team_id)}", TeamDetail)


def find(*, plan: str | None = None, blocked: bool | None = None) -> PageAsk[Team]:
    return page("/teams", Team, plan=plan, blocked=blocked)


def edit(
    team_id: str,
    *,
    name: str | Unset = UNSET,
    plan_id: str | Unset | None = UNSET,
    models: Sequence[str] | Unset | None = UNSET,
    limits: dict[str, int | None] | Unset = UNSET,
    metadata: dict[str, Any] | Unset = UNSET,
    if_match: str | None = None,
) -> Ask[TeamDetail]:
    body = {"name": name, "plan_id": plan_id, "models": models, "limits": limits, "metadata": metadata}
    return ask("PATCH", f"/teams/{segment(team_id)}", TeamDetail, body, if_match=if_match)


def block(team_id: str) -> Ask[TeamDetail]:
    return ask("POST", f"/teams/{segment(team_id)}/block", TeamDetail, {})


def unblock(team_id: str) -> Ask[TeamDetail]:
    return ask("POST", f"/teams/{segment(team_id)}/unblock", TeamDetail, {})


def members(team_id: str) -> PageAsk[Member]:
    return page(f"/teams/{segment(team_id)}/members", Member)


def put_member(team_id: str, user_id: str, *, role: TeamRole = "member") -> Ask[Member]:
    """Take a user into the team, or give them another role there."""
    return ask("PUT", f"/teams/{segment(team_id)}/members/{segment(user_id)}", Member, {"role": role})


def remove_member(team_id: str, user_id: str) -> Ask[MemberGone]:
    """Their keys in the team are revoked."""
    return ask("DELETE", f"/teams/{segment(team_id)}/members/{segment(user_id)}", MemberGone)
