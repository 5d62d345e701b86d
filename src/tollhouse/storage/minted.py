"""Keys that were minted for a short while: plain functions of a Connection, as in `directory`. Their ids tell them
apart from keys that people made, however those are named.
"""

from sqlalchemy import Connection, and_, delete, func, select

from tollhouse.storage.audited import UNRECORDED
from tollhouse.storage.tables import budgets, key_secrets, virtual_keys

NAME = "minted"
ID_PREFIX = "key_mint_"
_END = "key_mint`"
"""What comes after all ids of that prefix."""

_MINTED = and_(virtual_keys.c.key_id >= ID_PREFIX, virtual_keys.c.key_id < _END)


def living(connection: Connection, user_id: str, now_ns: int) -> tuple[int, int | None]:
    """How many of this user's minted keys work, and when the first of them ends."""
    column = virtual_keys.c
    alive = (column.user_id == user_id, _MINTED, column.revoked_at_ns.is_(None), column.expires_at_ns > now_ns)
    row = connection.execute(select(func.count(), func.min(column.expires_at_ns)).where(*alive)).one()
    return row[0], row[1]


def clean(connection: Connection, *, before_ns: int, limit: int) -> int:
    """Forget minted keys that ended before then, at most so many; how many there were."""
    column = virtual_keys.c
    budgeted = select(budgets.c.scope_id).where(budgets.c.scope_id == column.key_id)
    over = select(column.key_id).where(_MINTED, column.expires_at_ns < before_ns, ~budgeted.exists()).limit(limit)
    key_ids = list(connection.scalars(over))
    if key_ids:
        for table in (key_secrets, virtual_keys):
            forgotten = delete(table).where(table.c.key_id.in_(key_ids))
            connection.execute(forgotten.execution_options(**UNRECORDED))
    return len(key_ids)
