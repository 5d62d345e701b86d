"""Tries to sign in that were not good, by account and by address. Plain functions of a Connection."""

from sqlalchemy import Connection, delete, func, insert, select, update

from tollhouse.rules.lockout import NONE, Failures
from tollhouse.storage.sign_in_tables import sign_in_failures

_row = sign_in_failures.c


def get_failures(connection: Connection, subject: bytes) -> Failures:
    row = connection.execute(select(sign_in_failures).where(_row.subject == subject)).one_or_none()
    return NONE if row is None else Failures(row._mapping["count"], row.last_ns, row.until_ns)


def put_failures(connection: Connection, subject: bytes, failures: Failures) -> None:
    """Write; none at all is no row."""
    if failures.count == 0:
        connection.execute(delete(sign_in_failures).where(_row.subject == subject))
        return
    values = {"count": failures.count, "last_ns": failures.last_ns, "until_ns": failures.until_ns}
    if not connection.execute(update(sign_in_failures).where(_row.subject == subject).values(values)).rowcount:
        connection.execute(insert(sign_in_failures).values(subject=subject, **values))


def forget_old_failures(connection: Connection, before_ns: int, most: int) -> int:
    """Remove those whose last try was before a time, and the oldest beyond `most`; how many."""
    removed = connection.execute(delete(sign_in_failures).where(_row.last_ns < before_ns)).rowcount
    count = connection.execute(select(func.count()).select_from(sign_in_failures)).scalar_one()
    if count > most:
        edge = select(_row.last_ns).order_by(_row.last_ns).offset(count - most - 1).limit(1).scalar_subquery()
        removed += connection.execute(delete(sign_in_failures).where(_row.last_ns <= edge)).rowcount
    return removed
