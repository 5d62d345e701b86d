"""Captured content, and users who were erased."""

import sqlalchemy as sa
from alembic import op

from tollhouse.storage.columns import Word

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def word(name: str) -> "sa.Column[str]":
    return sa.Column(name, Word, nullable=False)


def number(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), nullable=False)


def flag(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.SmallInteger(), nullable=False)


def upgrade() -> None:
    op.add_column("users", sa.Column("erased_at_ns", sa.BigInteger(), nullable=True))
    op.create_table(
        "erasures",
        word("pseudonym"),
        word("user_id"),
        number("begun_at_ns"),
        sa.Column("done_at_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("pseudonym", name="pk_erasures"),
    )
    op.create_index("ix_erasures_user_id", "erasures", ["user_id"])
    op.create_table(
        "captures",
        word("request_id"),
        word("org_id"),
        word("user_id"),
        word("key_id"),
        number("at_ns"),
        number("expires_at_ns"),
        number("request_bytes"),
        flag("request_cut"),
        number("answer_bytes"),
        flag("answer_cut"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        number("sealed_under"),
        sa.PrimaryKeyConstraint("request_id", name="pk_captures"),
    )
    for column in ("expires_at_ns", "user_id", "sealed_under"):
        op.create_index(f"ix_captures_{column}", "captures", [column])
