"""Teams, plans and roles; whose file declares a thing; the team of a ledger entry."""

import sqlalchemy as sa
from alembic import op

from tollhouse.storage.columns import Word

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def word(*names: str) -> "list[sa.Column[str]]":
    return [sa.Column(name, Word, nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "plans",
        *word("plan_id", "description"),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("budgets", sa.Text(), nullable=False),
        sa.Column("models", sa.Text(), nullable=True),
        sa.Column("max_output_tokens", sa.BigInteger(), nullable=True),
        *word("edge", "own_key", "without_own_key", "owned_by"),
        sa.Column("created_at_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("plan_id", name="pk_plans"),
    )
    op.create_table(
        "teams",
        *word("team_id", "org_id", "name"),
        sa.Column("plan_id", Word, nullable=True),
        sa.Column("models", sa.Text(), nullable=True),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        *word("owned_by"),
        sa.Column("created_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("blocked_at_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("team_id", name="pk_teams"),
    )
    op.create_table(
        "memberships",
        *word("team_id", "user_id", "role"),
        sa.Column("created_at_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("team_id", "user_id", name="pk_memberships"),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_memberships_user_id"),
    )
    op.create_index("ix_memberships_user_id", "memberships", ["user_id"])
    op.add_column("users", sa.Column("role", Word, nullable=False, server_default="member"))
    for table in ("users", "virtual_keys"):
        op.add_column(table, sa.Column("team_id", Word, nullable=True))
        op.add_column(table, sa.Column("plan_id", Word, nullable=True))
    for table in ("users", "virtual_keys", "budgets"):
        op.add_column(table, sa.Column("owned_by", Word, nullable=False, server_default=""))
    op.add_column("ledger", sa.Column("team_id", Word, nullable=False, server_default=""))
