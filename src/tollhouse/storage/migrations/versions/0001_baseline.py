"""The first schema: users, keys, budgets, ledger, request log."""

import sqlalchemy as sa
from alembic import op

from tollhouse.storage.columns import Word

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def word(*names: str) -> "list[sa.Column[str]]":
    return [sa.Column(name, Word, nullable=False) for name in names]


def number(*names: str) -> "list[sa.Column[int]]":
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def moment(*names: str) -> "list[sa.Column[int | None]]":
    return [sa.Column(name, sa.BigInteger(), nullable=True) for name in names]


def upgrade() -> None:
    people()
    money()
    log()


def people() -> None:
    op.create_table(
        "users",
        *word("user_id", "org_id", "name", "email"),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        *number("created_at_ns"),
        *moment("blocked_at_ns"),
        sa.PrimaryKeyConstraint("user_id", name="pk_users"),
    )
    op.create_table(
        "virtual_keys",
        *word("key_id", "user_id", "name", "hint"),
        sa.Column("models", sa.Text(), nullable=True),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        *number("created_at_ns"),
        *moment("expires_at_ns", "revoked_at_ns"),
        sa.PrimaryKeyConstraint("key_id", name="pk_virtual_keys"),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_virtual_keys_user_id"),
    )
    op.create_index("ix_virtual_keys_user_id", "virtual_keys", ["user_id"])
    op.create_table(
        "key_secrets",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        *word("key_id", "hint"),
        *number("created_at_ns"),
        *moment("expires_at_ns"),
        sa.PrimaryKeyConstraint("digest", name="pk_key_secrets"),
        sa.ForeignKeyConstraint(["key_id"], ["virtual_keys.key_id"], name="fk_key_secrets_key_id"),
    )
    op.create_index("ix_key_secrets_key_id", "key_secrets", ["key_id"])


def money() -> None:
    op.create_table(
        "budgets",
        *word("budget_id", "scope", "scope_id"),
        *number("cap"),
        *word("unit", "window", "timezone", "edge"),
        *number("created_at_ns"),
        sa.PrimaryKeyConstraint("budget_id", name="pk_budgets"),
    )
    op.create_index("ix_budgets_scope_scope_id", "budgets", ["scope", "scope_id"])
    op.create_table(
        "budget_windows",
        *word("budget_id"),
        *number("window_start_s", "posted"),
        sa.PrimaryKeyConstraint("budget_id", "window_start_s", name="pk_budget_windows"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger",
        *word("request_id"),
        *number("attempt", "at_ns", "settled_at_ns"),
        *word("org_id", "user_id", "key_id", "endpoint", "provider"),
        *word("requested_model", "upstream_model", "served_model", "kind"),
        *number("amount_nusd", "hold_nusd", "hold_tokens", "max_output_tokens", "tokens"),
        *number("input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens", "output_tokens"),
        *number("input_audio_tokens", "output_audio_tokens", "web_searches", "web_fetches"),
        *word("variant", "price_version"),
        sa.Column("streamed", sa.SmallInteger(), nullable=False),
        *number("status", "duration_us", "first_byte_us", "response_bytes"),
        *word("client", "session", "code", "upstream_request_id"),
        sa.Column("budgets", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, autoincrement=True),
        sa.PrimaryKeyConstraint("entry_id", name="pk_ledger"),
        sa.UniqueConstraint("request_id", "attempt", name="uq_ledger_request_id_attempt"),
    )
    op.create_index("ix_ledger_at_ns", "ledger", ["at_ns"])
    op.create_index("ix_ledger_user_id_at_ns_key_id", "ledger", ["user_id", "at_ns", "key_id"])
    further = sa.text("attempt > 1")
    op.create_index(
        "ix_ledger_request_id_attempt",
        "ledger",
        ["request_id", "attempt"],
        sqlite_where=further,
        postgresql_where=further,
    )


def log() -> None:
    op.create_table(
        "requests",
        *word("request_id"),
        *number("attempts", "at_ns"),
        *word(
            "org_id", "user_id", "key_id", "endpoint", "provider", "requested_model", "upstream_model", "served_model"
        ),
        *number("status"),
        *word("code", "kind"),
        *number("hold_nusd", "max_output_tokens"),
        *word("price_version"),
        sa.Column("streamed", sa.SmallInteger(), nullable=False),
        *number("duration_us", "first_byte_us", "response_bytes"),
        *word("client", "session", "upstream_request_id"),
        sa.PrimaryKeyConstraint("request_id", name="pk_requests"),
    )
    op.create_index("ix_requests_at_ns", "requests", ["at_ns"])
    op.create_index("ix_requests_user_id_at_ns_key_id", "requests", ["user_id", "at_ns", "key_id"])
