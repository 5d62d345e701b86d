"""Stored credentials: plain functions of a Connection, as in `directory`. `sealed` is only ever handed on."""

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, insert, or_, select, update

from tollhouse.storage.credential_tables import credential_users, credentials
from tollhouse.storage.rows import page
from tollhouse.terms.credentials import Credential


def create_credential(connection: Connection, credential: Credential, *, sealed_under: int) -> None:
    """`sealed_under` is the version of the master key."""
    connection.execute(insert(credentials).values({**msgspec.structs.asdict(credential), "sealed_under": sealed_under}))


def get_credential(connection: Connection, credential_id: str) -> Credential | None:
    row = connection.execute(select(credentials).where(credentials.c.credential_id == credential_id)).one_or_none()
    return None if row is None else _credential(row)


def list_credentials(
    connection: Connection, *where: ColumnElement[bool], cursor: str = "", limit: int = 100
) -> tuple[Credential, ...]:
    """At most `limit` with an id after `cursor`, of those that meet all conditions."""
    return tuple(map(_credential, page(connection, credentials, credentials.c.credential_id, cursor, limit, *where)))


def update_credential(connection: Connection, credential: Credential) -> bool:
    """Write all fields but the envelope (see `reseal`); False when there is none of this id."""
    row = msgspec.structs.asdict(credential)
    del row["sealed"]
    same = credentials.c.credential_id == credential.credential_id
    return connection.execute(update(credentials).where(same).values(row)).rowcount == 1


def reseal(connection: Connection, credential_id: str, sealed: bytes, *, sealed_under: int) -> bool:
    """Another envelope of the same secret, or of a new one; False when there is none of this id."""
    same = credentials.c.credential_id == credential_id
    values = {"sealed": sealed, "sealed_under": sealed_under}
    return connection.execute(update(credentials).where(same).values(values)).rowcount == 1


def delete_credential(connection: Connection, credential_id: str) -> bool:
    """With its envelope, and taken from whom it was assigned to; False when there is none of this id."""
    connection.execute(delete(credential_users).where(credential_users.c.credential_id == credential_id))
    return connection.execute(delete(credentials).where(credentials.c.credential_id == credential_id)).rowcount == 1


def credentials_for(connection: Connection, user_id: str | None) -> tuple[Credential, ...]:
    """A user's own and all of the operator's; of everybody, when asked for nobody."""
    query = select(credentials).order_by(credentials.c.credential_id)
    if user_id is not None:
        query = query.where(or_(credentials.c.user_id == user_id, credentials.c.user_id == ""))
    return tuple(map(_credential, connection.execute(query)))


def assignments(connection: Connection, user_id: str | None) -> tuple[tuple[str, str], ...]:
    """(user id, credential id) of one user, or of everybody."""
    query = select(credential_users.c.user_id, credential_users.c.credential_id)
    if user_id is not None:
        query = query.where(credential_users.c.user_id == user_id)
    found = connection.execute(query.order_by(credential_users.c.user_id, credential_users.c.credential_id))
    return tuple((row.user_id, row.credential_id) for row in found)


def _credential(row: Row[Any]) -> Credential:
    return Credential(**{name: getattr(row, name) for name in Credential.__struct_fields__})
