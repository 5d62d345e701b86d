"""Webhooks: who is told of notices."""

from collections.abc import Sequence
from typing import Literal

from tollhouse.client.asks import UNSET, Ask, PageAsk, Unset, ask, page, segment
from tollhouse.client.notice_shapes import Delivery, NewWebhook, Notice, Webhook


def create(
    url: str,
    *,
    name: str | Unset = UNSET,
    kinds: Sequence[str] | Unset = UNSET,
    enabled: bool | Unset = UNSET,
    secret: str | Unset = UNSET,
) -> Ask[NewWebhook]:
    """The answer's `secret` signs what is sent: the only place where it appears. `kinds`: globs such as `budget.*`."""
    body = {"url": url, "name": name, "kinds": kinds, "enabled": enabled, "secret": secret}
    return ask("POST", "/webhooks", NewWebhook, body)


def get(webhook_id: str) -> Ask[Webhook]:
    return ask("GET", f"/webhooks/{segment(webhook_id)}", Webhook)


def find() -> PageAsk[Webhook]:
    """Those of the settings too."""
    return page("/webhooks", Webhook)


def edit(
    webhook_id: str,
    *,
    url: str | Unset = UNSET,
    name: str | Unset = UNSET,
    kinds: Sequence[str] | Unset | None = UNSET,
    enabled: bool | Unset = UNSET,
    secret: str | Unset = UNSET,
    if_match: str | None = None,
) -> Ask[Webhook]:
    """Only what is given changes; `kinds` of None are all, an empty `secret` switches the webhook off."""
    body = {"url": url, "name": name, "kinds": kinds, "enabled": enabled, "secret": secret}
    return ask("PATCH", f"/webhooks/{segment(webhook_id)}", Webhook, body, if_match=if_match)


def remove(webhook_id: str) -> Ask[Webhook]:
    """What it is owed is forgotten."""
    return ask("DELETE", f"/webhooks/{segment(webhook_id)}", Webhook)


def test(webhook_id: str) -> Ask[Delivery]:
    """Send a test; the answer tells how that went."""
    return ask("POST", f"/webhooks/{segment(webhook_id)}/test", Delivery, {})


def deliveries(webhook_id: str, *, state: Literal["pending", "delivered", "dead"] | None = None) -> PageAsk[Delivery]:
    """Newest first."""
    return page(f"/webhooks/{segment(webhook_id)}/deliveries", Delivery, state=state)


def notices(*, kind: str | None = None) -> PageAsk[Notice]:
    """What happened, newest first. `kind`: one, or what several begin with (`budget.`)."""
    return page("/notices", Notice, kind=kind)
