"""Users."""

from typing import Any

from tollhouse.client.asks import UNSET, Ask, PageAsk, Unset, ask, page, segment
from tollhouse.client.shapes import Limits, Role, User, UserDetail


def create(
    user_id: str,
    *,
    name: str | Unset = UNSET,
    email: str | Unset = UNSET,
    role: Role | Unset = UNSET,
    team_id: str | Unset = UNSET,
    plan_id: str | Unset = UNSET,
    limits: Limits | Unset = UNSET,
    budget: str | Unset = UNSET,
    metadata: dict[str, Any] | Unset = UNSET,
) -> Ask[UserDetail]:
    """`budget` is a cap over all their keys: `20/month`, `1M tokens/day`. Conflict when there is one of this id."""
    body = {"user_id": user_id, "name": name, "email": email, "role": role, "team_id": team_id, "plan_id": plan_id}
    return ask("POST", "/users", UserDetail, {**body, "limits": limits, "budget": budget, "metadata": metadata})


def get(user_id: str) -> Ask[UserDetail]:
    """With what is left of their budgets."""
    return ask("GET", f"/users/{segment(user_id)}", UserDetail)


def find(
    *, team: str | None = None, plan: str | None = None, email: str | None = None, blocked: bool | None = None
) -> PageAsk[User]:
    return page("/users", User, team=team, plan=plan, email=email, blocked=blocked)


def edit(
    user_id: str,
    *,
    name: str | Unset = UNSET,
    email: str | Unset = UNSET,
    role: Role | Unset = UNSET,
    team_id: str | Unset | None = UNSET,
    plan_id: str | Unset | None = UNSET,
    limits: dict[str, int | None] | Unset = UNSET,
    metadata: dict[str, Any] | Unset = UNSET,
    if_match: str | None = None,
) -> Ask[UserDetail]:
    """Only what is given changes; a limit of None is taken away."""
    body = {"name": name, "email": email, "role": role, "team_id": team_id, "plan_id": plan_id}
    path = f"/users/{segment(user_id)}"
    return ask("PATCH", path, UserDetail, {**body, "limits": limits, "metadata": metadata}, if_match=if_match)


def block(user_id: str) -> Ask[UserDetail]:
    """Refuse all their calls from the next one on."""
    return ask("POST", f"/users/{segment(user_id)}/block", UserDetail, {})


def unblock(user_id: str) -> Ask[UserDetail]:
    return ask("POST", f"/users/{segment(user_id)}/unblock", UserDetail, {})


def erase(user_id: str, *, if_match: str | None = None) -> Ask[UserDetail]:
    """For good: everything personal goes, sums stay under the pseudonym that the answer is about. ServerFailed (503,
    `erasure_unfinished`) where it has only begun: ask again.
    """
    return ask("POST", f"/users/{segment(user_id)}/erase", UserDetail, {}, if_match=if_match)
