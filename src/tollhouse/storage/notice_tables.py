"""The tables of notices and of who is told of them. As those of `tables`, and of the same metadata."""

from sqlalchemy import (
    Column,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from tollhouse.storage.columns import Word, moment, number, word
from tollhouse.storage.tables import metadata as metadata

notices = Table(
    "notices",
    metadata,
    Column("notice_id", Word, primary_key=True),
    word("kind"),
    word("subject"),
    Column("text", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("once", Word, nullable=True),
    number("at_ns"),
    UniqueConstraint("once"),
    Index(None, "at_ns"),
)
"""What happened. Ids grow with time. `once` is the name under which something is told one time only."""

webhooks = Table(
    "webhooks",
    metadata,
    Column("webhook_id", Word, primary_key=True),
    word("url"),
    word("name"),
    Column("kinds", Text, nullable=False),
    Column("enabled", SmallInteger, nullable=False),
    word("hint"),
    word("created_by"),
    number("created_at_ns"),
    moment("gone_at_ns"),
    Column("sealed", LargeBinary, nullable=False),
    number("sealed_under"),
    Index(None, "sealed_under"),
)
"""`sealed` is the secret that signs, in an envelope that only a master key opens (`tollhouse.vault`)."""

deliveries = Table(
    "deliveries",
    metadata,
    word("webhook_id"),
    word("notice_id"),
    word("kind"),
    word("state"),
    number("attempts"),
    number("created_at_ns"),
    number("next_at_ns"),
    moment("ended_at_ns"),
    number("status"),
    word("error"),
    PrimaryKeyConstraint("webhook_id", "notice_id"),
    Index(None, "webhook_id", "state", "next_at_ns"),
    Index(None, "created_at_ns"),
)
"""One a notice and webhook. A webhook that the settings declare has no row of its own, so there is no foreign key."""
