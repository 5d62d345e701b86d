"""The tables of notices and of who is told of them. As those of `tables`, and of the same metadata."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from tollhouse.storage.columns import Word
from tollhouse.storage.tables import metadata as metadata


def _word(name: str) -> "Column[str]":
    return Column(name, Word, nullable=False)


def _number(name: str) -> "Column[int]":
    return Column(name, BigInteger, nullable=False)


def _moment(name: str) -> "Column[int | None]":
    return Column(name, BigInteger, nullable=True)


notices = Table(
    "notices",
    metadata,
    Column("notice_id", Word, primary_key=True),
    _word("kind"),
    _word("subject"),
    Column("text", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("once", Word, nullable=True),
    _number("at_ns"),
    UniqueConstraint("once"),
    Index(None, "at_ns"),
)
"""What happened. Ids grow with time. `once` is the name under which something is told one time only."""

webhooks = Table(
    "webhooks",
    metadata,
    Column("webhook_id", Word, primary_key=True),
    _word("url"),
    _word("name"),
    Column("kinds", Text, nullable=False),
    Column("enabled", SmallInteger, nullable=False),
    _word("hint"),
    _word("created_by"),
    _number("created_at_ns"),
    _moment("gone_at_ns"),
    Column("sealed", LargeBinary, nullable=False),
    _number("sealed_under"),
    Index(None, "sealed_under"),
)
"""`sealed` is the secret that signs, in an envelope that only a master key opens (`tollhouse.vault`)."""

deliveries = Table(
    "deliveries",
    metadata,
    _word("webhook_id"),
    _word("notice_id"),
    _word("kind"),
    _word("state"),
    _number("attempts"),
    _number("created_at_ns"),
    _number("next_at_ns"),
    _moment("ended_at_ns"),
    _number("status"),
    _word("error"),
    PrimaryKeyConstraint("webhook_id", "notice_id"),
    Index(None, "webhook_id", "state", "next_at_ns"),
    Index(None, "created_at_ns"),
)
"""One a notice and webhook. A webhook that the settings declare has no row of its own, so there is no foreign key."""
