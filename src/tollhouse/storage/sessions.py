"""Sessions: plain functions of a Connection, as in `directory`. A token is known by its hash only."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from sqlalchemy import Connection, delete, insert, or_, select, update

from tollhouse.storage.audited import UNRECORDED
from tollhouse.storage.sign_in_tables import sessions
from tollhouse.storage.tables import users
from tollhouse.terms.people import Role
from tollhouse.terms.sessions import Session

_FIELDS = ("session_id", "user_id", "created_at_ns", "seen_at_ns", "expires_at_ns", "ends_at_ns", "address", "client")


def add_session(connection: Connection, digest: bytes, session: Session) -> None:
    row = {name: getattr(session, name) for name in _FIELDS}
    connection.execute(insert(sessions).values(digest=digest, **row))


def live_sessions(connection: Connection, now_ns: int) -> Iterator[tuple[bytes, Session, Role]]:
    """Each that is not over, whose user is not blocked, with its user's role; without its CSRF token."""
    column = sessions.c
    query = (
        select(sessions, users.c.role)
        .join(users, users.c.user_id == column.user_id)
        .where(column.expires_at_ns > now_ns, users.c.blocked_at_ns.is_(None))
        .order_by(column.created_at_ns)
    )
    for row in connection.execute(query):
        yield row.digest, Session(csrf="", **{name: getattr(row, name) for name in _FIELDS}), Role(row.role)


def touch_sessions(connection: Connection, seen: Mapping[bytes, Session]) -> None:
    """Write when sessions were seen and when they end now."""
    for digest, session in seen.items():
        changes = {"seen_at_ns": session.seen_at_ns, "expires_at_ns": session.expires_at_ns}
        touched = update(sessions).where(sessions.c.digest == digest).values(changes)
        connection.execute(touched.execution_options(**UNRECORDED))


def end_sessions(connection: Connection, digests: Collection[bytes]) -> None:
    for digest in digests:
        connection.execute(delete(sessions).where(sessions.c.digest == digest))


def end_sessions_of(connection: Connection, user_ids: Sequence[str]) -> None:
    """All sessions of some users."""
    for user_id in user_ids:
        connection.execute(delete(sessions).where(sessions.c.user_id == user_id))


def forget_old_sessions(connection: Connection, now_ns: int) -> int:
    """Remove those that are over; how many."""
    column = sessions.c
    over = or_(column.expires_at_ns <= now_ns, column.ends_at_ns <= now_ns)
    return connection.execute(delete(sessions).where(over).execution_options(**UNRECORDED)).rowcount
