"""Webhooks: plain functions of a Connection, as in `directory`. `sealed` is only ever handed on."""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tollhouse.storage.notice_tables import deliveries, webhooks
from tollhouse.storage.rows import decode_globs, encode, page
from tollhouse.terms.webhooks import Webhook


def create_webhook(connection: Connection, hook: Webhook) -> None:
    connection.execute(insert(webhooks).values(_row(hook)))


def get_webhook(connection: Connection, webhook_id: str) -> Webhook | None:
    row = connection.execute(select(webhooks).where(webhooks.c.webhook_id == webhook_id)).one_or_none()
    return None if row is None else _webhook(row)


def list_webhooks(connection: Connection, *, cursor: str = "", limit: int = 100) -> tuple[Webhook, ...]:
    """At most `limit` with an id after `cursor`."""
    return tuple(map(_webhook, page(connection, webhooks, webhooks.c.webhook_id, cursor, limit)))


def all_webhooks(connection: Connection) -> tuple[Webhook, ...]:
    """They are few (`notices.max_webhooks`)."""
    return tuple(map(_webhook, connection.execute(select(webhooks).order_by(webhooks.c.webhook_id))))


def count_webhooks(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(webhooks)).scalar_one()


def update_webhook(connection: Connection, hook: Webhook) -> bool:
    """Write all fields; False when there is none of this id."""
    query = update(webhooks).where(webhooks.c.webhook_id == hook.webhook_id).values(_row(hook))
    return connection.execute(query).rowcount == 1


def delete_webhook(connection: Connection, webhook_id: str) -> bool:
    """With its secret and its deliveries; False when there is none of this id."""
    connection.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook_id))
    return connection.execute(delete(webhooks).where(webhooks.c.webhook_id == webhook_id)).rowcount == 1


def _row(hook: Webhook) -> dict[str, Any]:
    return {**msgspec.structs.asdict(hook), "kinds": encode(hook.kinds), "enabled": int(hook.enabled)}


def _webhook(row: Row[Any]) -> Webhook:
    found = {name: getattr(row, name) for name in Webhook.__struct_fields__}
    return Webhook(**{**found, "kinds": decode_globs(row.kinds), "enabled": bool(row.enabled)})
