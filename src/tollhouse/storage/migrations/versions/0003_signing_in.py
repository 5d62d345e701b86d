"""Signing in: passwords, identities of issuers, what claims gave, sessions, invitations, failures."""

import sqlalchemy as sa
from alembic import op

from tollhouse.storage.columns import Word

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def words(*names: str) -> "list[sa.Column[str]]":
    return [sa.Column(name, Word, nullable=False) for name in names]


def numbers(*names: str) -> "list[sa.Column[int]]":
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def user_of(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=f"fk_{table}_user_id")


def upgrade() -> None:
    op.create_table(
        "passwords",
        *words("email", "user_id"),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("vouched", sa.SmallInteger(), nullable=False),
        *numbers("changed_at_ns"),
        sa.PrimaryKeyConstraint("email", name="pk_passwords"),
        user_of("passwords"),
    )
    op.create_index("ix_passwords_user_id", "passwords", ["user_id"], unique=True)
    op.create_table(
        "identities",
        *words("issuer", "subject", "user_id", "email"),
        *numbers("created_at_ns", "seen_at_ns"),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_identities"),
        user_of("identities"),
    )
    op.create_index("ix_identities_user_id", "identities", ["user_id"])
    op.create_table(
        "provisions",
        *words("user_id", "source"),
        sa.Column("given", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "source", name="pk_provisions"),
        user_of("provisions"),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        *words("session_id", "user_id"),
        *numbers("created_at_ns", "seen_at_ns", "expires_at_ns", "ends_at_ns"),
        *words("address", "client"),
        sa.PrimaryKeyConstraint("digest", name="pk_sessions"),
        user_of("sessions"),
    )
    op.create_index("ix_sessions_session_id", "sessions", ["session_id"], unique=True)
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_table(
        "invitations",
        *words("invitation_id"),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        *words("email"),
        sa.Column("user_id", Word, nullable=True),
        *words("role"),
        sa.Column("team_id", Word, nullable=True),
        *words("team_role"),
        sa.Column("plan_id", Word, nullable=True),
        *words("invited_by"),
        *numbers("created_at_ns", "expires_at_ns"),
        sa.Column("accepted_at_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("invitation_id", name="pk_invitations"),
    )
    op.create_index("ix_invitations_digest", "invitations", ["digest"], unique=True)
    op.create_table(
        "sign_in_failures",
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        *numbers("count", "last_ns", "until_ns"),
        sa.PrimaryKeyConstraint("subject", name="pk_sign_in_failures"),
    )
    op.create_index("ix_sign_in_failures_last_ns", "sign_in_failures", ["last_ns"])
