"""The team of a request that cost nothing."""

import sqlalchemy as sa
from alembic import op

from tollhouse.storage.columns import Word

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("requests", sa.Column("team_id", Word, nullable=False, server_default=""))
