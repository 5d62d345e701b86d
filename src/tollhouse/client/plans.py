"""Plans."""

from collections.abc import Sequence
from typing import Any

from tollhouse.client.asks import UNSET, Ask, PageAsk, Unset, ask, page, segment
from tollhouse.client.shapes import Edge, Limits, OwnKey, Plan


def create(
    plan_id: str,
    *,
    description: str | Unset = UNSET,
    limits: Limits | Unset = UNSET,
    budgets: Sequence[str] | Unset = UNSET,
    models: Sequence[str] | Unset = UNSET,
    max_output_tokens: int | Unset = UNSET,
    edge: Edge | Unset = UNSET,
    own_key: OwnKey | Unset = UNSET,
    without_own_key: str | Unset = UNSET,
    fall_back: bool | Unset = UNSET,
    counts_own_key: bool | Unset = UNSET,
) -> Ask[Plan]:
    """Each holder has the limits and `budgets` (`1M tokens/month`) for themselves."""
    body = {"plan_id": plan_id, "description": description, "limits": limits, "budgets": budgets, "models": models}
    edges = _edges(max_output_tokens, edge, own_key, without_own_key)
    return ask("POST", "/plans", Plan, {**body, **edges, "fall_back": fall_back, "counts_own_key": counts_own_key})


def get(plan_id: str) -> Ask[Plan]:
    return ask("GET", f"/plans/{segment(plan_id)}", Plan)


def find() -> PageAsk[Plan]:
    return page("/plans", Plan)


def edit(
    plan_id: str,
    *,
    description: str | Unset = UNSET,
    limits: dict[str, int | None] | Unset = UNSET,
    budgets: Sequence[str] | Unset = UNSET,
    models: Sequence[str] | Unset | None = UNSET,
    max_output_tokens: int | Unset | None = UNSET,
    edge: Edge | Unset = UNSET,
    own_key: OwnKey | Unset = UNSET,
    without_own_key: str | Unset | None = UNSET,
    fall_back: bool | Unset = UNSET,
    counts_own_key: bool | Unset = UNSET,
    if_match: str | None = None,
) -> Ask[Plan]:
    """Only what is given changes; its holders have it on their next call."""
    body: dict[str, Any] = {"description": description, "limits": limits, "budgets": budgets, "models": models}
    body |= _edges(max_output_tokens, edge, own_key, without_own_key)
    body |= {"fall_back": fall_back, "counts_own_key": counts_own_key}
    return ask("PATCH", f"/plans/{segment(plan_id)}", Plan, body, if_match=if_match)


def remove(plan_id: str) -> Ask[None]:
    """Conflict while somebody holds it."""
    return ask("DELETE", f"/plans/{segment(plan_id)}", type(None))


def _edges(max_output_tokens: Any, edge: Any, own_key: Any, without_own_key: Any) -> dict[str, Any]:
    return {
        "max_output_tokens": max_output_tokens,
        "edge": edge,
        "own_key": own_key,
        "without_own_key": without_own_key,
    }
