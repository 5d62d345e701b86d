"""Stored credentials, whose key paid for a call, and the end-user it was for; keys that are paused or captured."""

import sqlalchemy as sa
from alembic import op

from tollhouse.storage.columns import Word

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def word(name: str) -> "sa.Column[str]":
    return sa.Column(name, Word, nullable=False)


def text(name: str) -> "sa.Column[str]":
    return sa.Column(name, Word, nullable=False, server_default="")


def flag(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.SmallInteger(), nullable=False, server_default="0")


def moment(name: str) -> "sa.Column[int | None]":
    return sa.Column(name, sa.BigInteger(), nullable=True)


def number(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), nullable=False)


def upgrade() -> None:
    op.add_column("plans", flag("fall_back"))
    op.add_column("plans", flag("counts_own_key"))
    op.add_column("virtual_keys", moment("paused_at_ns"))
    op.add_column("virtual_keys", text("pause_reason"))
    op.add_column("virtual_keys", sa.Column("capture_days", sa.BigInteger(), nullable=False, server_default="0"))
    for table in ("ledger", "requests"):
        op.add_column(table, text("credential_id"))
        op.add_column(table, text("end_user"))
    op.create_table(
        "credentials",
        word("credential_id"),
        word("provider"),
        word("host"),
        word("user_id"),
        word("org_id"),
        word("name"),
        word("base_url"),
        word("kind"),
        word("hint"),
        word("fingerprint"),
        word("created_by"),
        number("created_at_ns"),
        moment("last_used_at_ns"),
        moment("refused_at_ns"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        number("sealed_under"),
        sa.PrimaryKeyConstraint("credential_id", name="pk_credentials"),
    )
    op.create_index("ix_credentials_user_id_provider", "credentials", ["user_id", "provider"])
    op.create_index("ix_credentials_sealed_under", "credentials", ["sealed_under"])
    op.create_table(
        "credential_users",
        word("credential_id"),
        word("user_id"),
        word("provider"),
        number("created_at_ns"),
        sa.ForeignKeyConstraint(
            ["credential_id"], ["credentials.credential_id"], name="fk_credential_users_credential_id"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_credential_users_user_id"),
        sa.PrimaryKeyConstraint("user_id", "provider", name="pk_credential_users"),
    )
    op.create_index("ix_credential_users_credential_id", "credential_users", ["credential_id"])
