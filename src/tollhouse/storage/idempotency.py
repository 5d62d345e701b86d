"""What was done under which Idempotency-Key: a mark made in the transaction that did it, and the answer, sealed, once
it is given. The key itself, and whose it is, stand here as a keyed hash only.
"""

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from tollhouse.storage.tables import idempotency

_PRUNED_AT_ONCE = 100
"""Rows beyond the bound that one mark removes, so that nobody waits long."""


class Done(msgspec.Struct, frozen=True):
    """`body_digest` of the request; `answer` is sealed, and empty where the work was done and its answer lost."""

    body_digest: bytes
    answer: bytes


def find(connection: Connection, name: bytes, *, since_ns: int) -> Done | None:
    """What was done under this name since then."""
    column = idempotency.c
    query = select(column.body_digest, column.answer).where(column.name == name, column.at_ns >= since_ns)
    row = connection.execute(query).one_or_none()
    return None if row is None else Done(row.body_digest, row.answer)


def mark(connection: Connection, name: bytes, body_digest: bytes, *, now_ns: int, since_ns: int, max_rows: int) -> bool:
    """Say that it is done now; False when it was before. What is older than `since_ns` goes, and the oldest beyond
    `max_rows`.
    """
    column = idempotency.c
    if find(connection, name, since_ns=since_ns) is not None:
        return False
    connection.execute(delete(idempotency).where(column.at_ns < since_ns))
    excess = connection.execute(select(func.count()).select_from(idempotency)).scalar_one() - max_rows + 1
    if excess > 0:
        oldest = select(column.name).order_by(column.at_ns).limit(min(excess, _PRUNED_AT_ONCE))
        connection.execute(delete(idempotency).where(column.name.in_(oldest.scalar_subquery())))
    connection.execute(insert(idempotency).values(name=name, body_digest=body_digest, at_ns=now_ns, answer=b""))
    return True


def keep_answer(connection: Connection, name: bytes, answer: bytes) -> None:
    connection.execute(update(idempotency).where(idempotency.c.name == name).values(answer=answer))
