"""The audit trail: records that are never changed, and what is about somebody in them."""

import sqlalchemy as sa
from alembic import op

from tollhouse.storage.audit_tables import TRIGGERS
from tollhouse.storage.columns import Word

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def words(*names: str) -> "list[sa.Column[str]]":
    return [sa.Column(name, Word, nullable=False) for name in names]


def number(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), nullable=False, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "audit",
        number("seq"),
        number("at_ns"),
        *words("request_id", "actor_kind", "actor", "way", "address", "client", "action", "act", "kind", "object"),
        sa.Column("changes", sa.Text(), nullable=False),
        number("subjects"),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_actor_seq", "audit", ["actor", "seq"])
    op.create_index("ix_audit_object_seq", "audit", ["object", "seq"])
    op.create_index("ix_audit_at_ns", "audit", ["at_ns"])
    op.create_table(
        "audit_subjects",
        number("ref"),
        *words("what", "about"),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("lookup", sa.LargeBinary(), nullable=True),
        number("erased"),
        sa.PrimaryKeyConstraint("ref", name="pk_audit_subjects"),
    )
    op.create_index("ix_audit_subjects_about", "audit_subjects", ["about"])
    op.create_index("ix_audit_subjects_lookup", "audit_subjects", ["lookup"])
    for statements in TRIGGERS[op.get_bind().dialect.name].values():
        for statement in statements:
            op.execute(statement)
