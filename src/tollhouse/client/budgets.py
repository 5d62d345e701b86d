"""Hard caps over the organisation, a team, a user or a key."""

from tollhouse.client.asks import UNSET, Ask, PageAsk, Unset, ask, page, segment
from tollhouse.client.shapes import Budget, Edge, Scope


def create(
    scope: Scope,
    scope_id: str | Unset = UNSET,
    *,
    amount: str,
    timezone: str | Unset = UNSET,
    edge: Edge | Unset = UNSET,
) -> Ask[Budget]:
    """`amount`: `20/month`, `$5/day`, `1M tokens/month`. Conflict when the scope has one of that unit and window."""
    body = {"scope": scope, "scope_id": scope_id, "amount": amount, "timezone": timezone, "edge": edge}
    return ask("POST", "/budgets", Budget, body)


def get(budget_id: str) -> Ask[Budget]:
    return ask("GET", f"/budgets/{segment(budget_id)}", Budget)


def find(*, scope: Scope | None = None, scope_id: str | None = None) -> PageAsk[Budget]:
    return page("/budgets", Budget, scope=scope, scope_id=scope_id)


def edit(
    budget_id: str, *, amount: str | Unset = UNSET, edge: Edge | Unset = UNSET, if_match: str | None = None
) -> Ask[Budget]:
    """What is posted stays."""
    return ask("PATCH", f"/budgets/{segment(budget_id)}", Budget, {"amount": amount, "edge": edge}, if_match=if_match)


def remove(budget_id: str) -> Ask[None]:
    return ask("DELETE", f"/budgets/{segment(budget_id)}", type(None))
