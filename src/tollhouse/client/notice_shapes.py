"""What the management API answers about notices and webhooks, as in `shapes`."""

from datetime import datetime
from typing import Any

import msgspec


class Webhook(msgspec.Struct, frozen=True):
    """`status`: on | off | no_secret | gone. A `declared` one stands in the settings of the server."""

    webhook_id: str
    url: str
    name: str
    kinds: tuple[str, ...]
    enabled: bool
    status: str
    hint: str
    declared: bool
    created_by: str = ""
    created_at: datetime | None = None
    gone_at: datetime | None = None


class NewWebhook(Webhook, frozen=True, kw_only=True):
    """`secret` is what messages are signed with: shown in this answer and never again."""

    secret: str

    def __repr__(self) -> str:
        """Without the secret: what is printed ends up in logs."""
        return f"NewWebhook({self.webhook_id!r}, hint={self.hint!r})"


class Delivery(msgspec.Struct, frozen=True):
    """`state`: pending | delivered | dead. `status` is what the receiver answered last, 0 for nothing."""

    webhook_id: str
    notice_id: str
    kind: str
    state: str
    attempts: int
    status: int
    error: str
    created_at: datetime | None = None
    next_at: datetime | None = None
    ended_at: datetime | None = None


class Notice(msgspec.Struct, frozen=True):
    notice_id: str
    kind: str
    subject: str
    text: str
    data: dict[str, Any]
    at: datetime | None = None
