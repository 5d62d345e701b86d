"""Notices, webhooks, and what is on its way to them."""

import sqlalchemy as sa
from alembic import op

from tollhouse.storage.columns import Word

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def word(name: str) -> "sa.Column[str]":
    return sa.Column(name, Word, nullable=False)


def number(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), nullable=False)


def moment(name: str) -> "sa.Column[int | None]":
    return sa.Column(name, sa.BigInteger(), nullable=True)


def upgrade() -> None:
    op.create_table(
        "notices",
        word("notice_id"),
        word("kind"),
        word("subject"),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("once", Word, nullable=True),
        number("at_ns"),
        sa.PrimaryKeyConstraint("notice_id", name="pk_notices"),
        sa.UniqueConstraint("once", name="uq_notices_once"),
    )
    op.create_index("ix_notices_at_ns", "notices", ["at_ns"])
    op.create_table(
        "webhooks",
        word("webhook_id"),
        word("url"),
        word("name"),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("enabled", sa.SmallInteger(), nullable=False),
        word("hint"),
        word("created_by"),
        number("created_at_ns"),
        moment("gone_at_ns"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        number("sealed_under"),
        sa.PrimaryKeyConstraint("webhook_id", name="pk_webhooks"),
    )
    op.create_index("ix_webhooks_sealed_under", "webhooks", ["sealed_under"])
    op.create_table(
        "deliveries",
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
        sa.PrimaryKeyConstraint("webhook_id", "notice_id", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_webhook_id_state_next_at_ns", "deliveries", ["webhook_id", "state", "next_at_ns"])
    op.create_index("ix_deliveries_created_at_ns", "deliveries", ["created_at_ns"])
