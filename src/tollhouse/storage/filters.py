"""Whose rows: conditions on the ledger and the request log, so put that an index answers them."""

from sqlalchemy import ColumnElement, Connection, Table, select

from tollhouse.storage.tables import virtual_keys


def whose(
    connection: Connection, table: Table, *, user_id: str | None, key_id: str | None
) -> list[ColumnElement[bool]]:
    """Rows of this user, of this key, or both.

    A key has one user for life, so a key's rows are found among those of its user; only an unknown key's are sought
    everywhere.
    """
    conditions = []
    if key_id is not None:
        conditions.append(table.c.key_id == key_id)
        if user_id is None:
            owner = select(virtual_keys.c.user_id).where(virtual_keys.c.key_id == key_id)
            user_id = connection.execute(owner).scalar()
    if user_id is not None:
        conditions.append(table.c.user_id == user_id)
    return conditions
