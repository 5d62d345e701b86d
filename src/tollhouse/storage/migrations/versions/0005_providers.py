"""Providers that a file declares."""

import sqlalchemy as sa
from alembic import op

from tollhouse.storage.columns import Word

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def word(name: str) -> "sa.Column[str]":
    return sa.Column(name, Word, nullable=False)


def upgrade() -> None:
    op.create_table(
        "providers",
        word("name"),
        word("kind"),
        sa.Column("models", sa.Text(), nullable=False),
        word("base_url"),
        word("api_key"),
        sa.Column("list_models", sa.Text(), nullable=False),
        sa.Column("price_provider", Word, nullable=True),
        sa.Column("cancel_stops_billing", sa.BigInteger(), nullable=True),
        word("owned_by"),
        sa.Column("created_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_providers"),
    )
