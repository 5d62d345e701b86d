"""Stored credentials: plain functions of a Connection, as in `directory`. `sealed` is only ever handed on."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, or_, select, update

from tollhouse.storage.audited import UNRECORDED
from tollhouse.storage.credential_tables import credential_users, credentials
from tollhouse.storage.rows import page
from tollhouse.terms.credentials import Credential
from tollhouse.terms.events import SettleKind, Settlement

NOTED_EVERY_NS = 60 * 10**9
MAX_NOTED = 100_000
"""Credentials of whose last note is known, some 100 bytes each."""


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


def own_credential(connection: Connection, user_id: str, provider: str) -> Credential | None:
    """The one a user stored for a provider; there is one at most."""
    found = list_credentials(connection, credentials.c.user_id == user_id, credentials.c.provider == provider, limit=1)
    return found[0] if found else None


def count_own(connection: Connection, user_id: str) -> int:
    return connection.scalar(select(func.count()).where(credentials.c.user_id == user_id)) or 0


def managed_named(connection: Connection, name: str) -> tuple[Credential, ...]:
    """The operator's of this id or name; of a name there may be several."""
    mine = credentials.c.user_id == ""
    named = or_(credentials.c.credential_id == name, credentials.c.name == name)
    return list_credentials(connection, mine, named)


def same_secret(connection: Connection, credential: Credential) -> Credential | None:
    """Another one of the same user (or the operator), provider and secret."""
    column = credentials.c
    where = (
        column.user_id == credential.user_id,
        column.provider == credential.provider,
        column.fingerprint == credential.fingerprint,
        column.credential_id != credential.credential_id,
    )
    found = list_credentials(connection, *where, limit=1)
    return found[0] if found else None


def assign(connection: Connection, credential: Credential, user_id: str, now_ns: int) -> None:
    """Send this user's calls to its provider with this one, instead of the shared one or the one they had."""
    unassign(connection, user_id, credential.provider)
    row = {"credential_id": credential.credential_id, "user_id": user_id, "provider": credential.provider}
    connection.execute(insert(credential_users).values(row | {"created_at_ns": now_ns}))


def unassign(connection: Connection, user_id: str, provider: str) -> bool:
    """False when the user had none of this provider."""
    theirs = (credential_users.c.user_id == user_id, credential_users.c.provider == provider)
    return connection.execute(delete(credential_users).where(*theirs)).rowcount == 1


def users_assigned(connection: Connection, credential_id: str, *, limit: int) -> tuple[str, ...]:
    """Whose calls are sent with it, by user id."""
    column = credential_users.c
    query = select(column.user_id).where(column.credential_id == credential_id).order_by(column.user_id).limit(limit)
    return tuple(connection.scalars(query))


def assigned_to(connection: Connection, user_id: str) -> tuple[str, ...]:
    """The providers for which the operator gave this user a credential."""
    column = credential_users.c
    return tuple(connection.scalars(select(column.provider).where(column.user_id == user_id).order_by(column.provider)))


class Uses:
    """When stored credentials were last noted to be used: not with every call, once a minute for each."""

    def __init__(self) -> None:
        self._noted: OrderedDict[str, int] = OrderedDict()

    def worth_noting(self, settlements: Iterable[Settlement]) -> dict[str, int]:
        """Credential id → when it was used, of those whose last note is older than a minute."""
        used: dict[str, int] = {}
        for settlement in settlements:
            hold = settlement.hold
            if hold.credential_id and settlement.settle.kind is not SettleKind.VOIDED:
                used[hold.credential_id] = max(hold.at_ns, used.get(hold.credential_id, 0))
        return {name: at_ns for name, at_ns in used.items() if at_ns - self._noted.get(name, 0) >= NOTED_EVERY_NS}

    def noted(self, used: Mapping[str, int]) -> None:
        """These are in the database. The longest unused are forgotten beyond a bound, and noted again when used."""
        for name, at_ns in used.items():
            self._noted[name] = at_ns
            self._noted.move_to_end(name)
        while len(self._noted) > MAX_NOTED:
            self._noted.popitem(last=False)


def note_used(connection: Connection, used: Mapping[str, int]) -> None:
    """When each was last used, by id, in nanoseconds; never set back."""
    if not used:
        return
    column = credentials.c
    later = or_(column.last_used_at_ns.is_(None), column.last_used_at_ns < bindparam("at_ns"))
    statement = update(credentials).where(column.credential_id == bindparam("used_id"), later)
    connection.execute(
        statement.values(last_used_at_ns=bindparam("at_ns")).execution_options(**UNRECORDED),
        [{"used_id": credential_id, "at_ns": at_ns} for credential_id, at_ns in used.items()],
    )


def note_refused(connection: Connection, refused: Mapping[str, int | None]) -> None:
    """When each was last refused by its provider, by id, in nanoseconds; None: it works again."""
    same = credentials.c.credential_id == bindparam("refused_id")
    statement = update(credentials).where(same).values(refused_at_ns=bindparam("at_ns"))
    if refused:
        connection.execute(
            statement.execution_options(**UNRECORDED),
            [{"refused_id": credential_id, "at_ns": at_ns} for credential_id, at_ns in refused.items()],
        )


def refused_now(connection: Connection) -> dict[str, int]:
    """Those that their providers refused when they were last used, since when."""
    column = credentials.c
    query = select(column.credential_id, column.refused_at_ns).where(column.refused_at_ns.is_not(None))
    return {row.credential_id: row.refused_at_ns for row in connection.execute(query)}


def _credential(row: Row[Any]) -> Credential:
    return Credential(**{name: getattr(row, name) for name in Credential.__struct_fields__})
