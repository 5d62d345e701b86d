"""Virtual keys."""

from collections.abc import Sequence
from typing import Any

from tollhouse.client.asks import UNSET, Ask, PageAsk, Unset, ask, page, segment
from tollhouse.client.shapes import Key, KeyDetail, Limits, NewKey


def create(
    user_id: str,
    *,
    name: str | Unset = UNSET,
    team_id: str | Unset = UNSET,
    plan_id: str | Unset = UNSET,
    models: Sequence[str] | Unset = UNSET,
    limits: Limits | Unset = UNSET,
    budget: str | Unset = UNSET,
    expires: str | Unset = UNSET,
    metadata: dict[str, Any] | Unset = UNSET,
    capture_days: int | Unset = UNSET,
) -> Ask[NewKey]:
    """The answer's `key` is the only place its secret ever appears. `expires`: `30d`, a date, a time, `never`.
    `capture_days`: for how long the bodies of its requests and answers are kept.
    """
    body = {"user_id": user_id, "name": name, "team_id": team_id, "plan_id": plan_id, "models": models}
    more = {"limits": limits, "budget": budget, "expires": expires, "metadata": metadata, "capture_days": capture_days}
    return ask("POST", "/keys", NewKey, {**body, **more})


def mint(
    user_id: str | Unset = UNSET,
    *,
    ttl: str = "1h",
    team_id: str | Unset = UNSET,
    models: Sequence[str] | Unset = UNSET,
) -> Ask[NewKey]:
    """A key that ends by itself soon."""
    return ask("POST", "/keys/mint", NewKey, {"ttl": ttl, "user_id": user_id, "team_id": team_id, "models": models})


def get(key_id: str) -> Ask[KeyDetail]:
    return ask("GET", f"/keys/{segment(key_id)}", KeyDetail)


def find(*, user: str | None = None, name: str | None = None) -> PageAsk[Key]:
    """Revoked ones too."""
    return page("/keys", Key, user=user, name=name)


def edit(
    key_id: str,
    *,
    name: str | Unset = UNSET,
    team_id: str | Unset | None = UNSET,
    plan_id: str | Unset | None = UNSET,
    models: Sequence[str] | Unset | None = UNSET,
    limits: dict[str, int | None] | Unset = UNSET,
    expires: str | Unset = UNSET,
    metadata: dict[str, Any] | Unset = UNSET,
    capture_days: int | Unset = UNSET,
    if_match: str | None = None,
) -> Ask[KeyDetail]:
    """Only what is given changes; `models` of None admits every model."""
    body = {"name": name, "team_id": team_id, "plan_id": plan_id, "models": models, "limits": limits}
    path = f"/keys/{segment(key_id)}"
    more = {"expires": expires, "metadata": metadata, "capture_days": capture_days}
    return ask("PATCH", path, KeyDetail, {**body, **more}, if_match=if_match)


def rotate(key_id: str, *, grace: str = "0") -> Ask[NewKey]:
    """A new secret; the old one works until `grace` is over."""
    return ask("POST", f"/keys/{segment(key_id)}/rotate", NewKey, {"grace": grace})


def pause(key_id: str, *, reason: str = "") -> Ask[KeyDetail]:
    """Its next call is refused, until it is resumed. Whoever calls with it is told the reason."""
    return ask("POST", f"/keys/{segment(key_id)}/pause", KeyDetail, {"reason": reason})


def resume(key_id: str) -> Ask[KeyDetail]:
    """A paused key; its next call passes."""
    return ask("POST", f"/keys/{segment(key_id)}/resume", KeyDetail, {})


def revoke(key_id: str) -> Ask[KeyDetail]:
    """For good: its next call is refused."""
    return ask("DELETE", f"/keys/{segment(key_id)}", KeyDetail)
