"""Captured content: plain functions of a Connection, as in `directory`. `sealed` is only ever handed on."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, delete, insert, select

from tollhouse.storage.capture_tables import captures
from tollhouse.terms.captures import Content

FORGET_ROWS = 500
"""Most rows that one call of `forget_expired` deletes: each may hold megabytes."""


class Capture(msgspec.Struct, frozen=True):
    """A row of the table."""

    request_id: str
    org_id: str
    user_id: str
    key_id: str
    at_ns: int
    expires_at_ns: int
    request_bytes: int
    request_cut: bool
    answer_bytes: int
    answer_cut: bool
    sealed: bytes
    sealed_under: int


def row_of(content: Content, sealed: bytes, sealed_under: int) -> Capture:
    asked, answered = content.request, content.answer
    return Capture(
        content.request_id,
        content.org_id,
        content.user_id,
        content.key_id,
        content.at_ns,
        content.expires_at_ns,
        asked.size_bytes,
        asked.cut,
        answered.size_bytes,
        answered.cut,
        sealed,
        sealed_under,
    )


def keep(connection: Connection, rows: Sequence[Capture]) -> None:
    """Insert; of a request that is there already, the later row stays."""
    for row in rows:
        values = {**msgspec.structs.asdict(row), "request_cut": int(row.request_cut), "answer_cut": int(row.answer_cut)}
        connection.execute(delete(captures).where(captures.c.request_id == row.request_id))
        connection.execute(insert(captures).values(values))


def get_capture(connection: Connection, request_id: str, now_ns: int) -> Capture | None:
    """What is kept of a request; None when there is none, or its time is over."""
    query = select(captures).where(captures.c.request_id == request_id, captures.c.expires_at_ns > now_ns)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    found = {**row._mapping, "request_cut": bool(row.request_cut), "answer_cut": bool(row.answer_cut)}
    return Capture(**found)


def forget_expired(connection: Connection, now_ns: int) -> int:
    """Delete some of those whose time is over; how many."""
    over = select(captures.c.request_id).where(captures.c.expires_at_ns <= now_ns).limit(FORGET_ROWS)
    return connection.execute(delete(captures).where(captures.c.request_id.in_(over.scalar_subquery()))).rowcount


def forget_of_user(connection: Connection, user_id: str) -> int:
    """Delete all of a user's; how many."""
    return connection.execute(delete(captures).where(captures.c.user_id == user_id)).rowcount
