"""Every table that holds envelopes, for who wraps them anew or counts those that no longer open.

A table module that seals something adds a `SealedTable` here. Its columns `sealed` (the envelope) and `sealed_under`
(the version of the master key that opens it; indexed) are always written together, so that a rotation that was broken
off knows where it was.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Row, Table, func, select, update

from tollhouse.storage.audited import UNRECORDED
from tollhouse.storage.capture_tables import captures
from tollhouse.storage.credential_tables import credentials
from tollhouse.storage.notice_tables import webhooks
from tollhouse.terms.names import DEFAULT_ORG

MAX_BATCH = 1_000
"""Small envelopes: some 20 ms."""

NO_SECRET = 0
"""The version of a row that holds no secret."""

Bound = tuple[str, str, str, str]
"""What an envelope is bound to: tenant, record, provider, host (`tollhouse.vault.Binding`)."""


class SealedRow(msgspec.Struct, frozen=True):
    row_id: str
    sealed: bytes
    sealed_under: int
    bound: Bound


class SealedTable:
    """One table of envelopes, one a row. `noun` is what people call such a row, `bound` what one is bound to, `at_once`
    how many are read in one transaction at most.
    """

    def __init__(
        self,
        noun: str,
        table: Table,
        row_id: "Column[str]",
        bound: Callable[[Row[Any]], Bound],
        at_once: int = MAX_BATCH,
    ) -> None:
        self.noun = noun
        self.at_once = at_once
        self._table = table
        self._row_id = row_id
        self.bound = bound

    @property
    def name(self) -> str:
        """Of the table."""
        return self._table.name

    def by_version(self, connection: Connection) -> dict[int, int]:
        """How many lie under each master key."""
        under = self._table.c.sealed_under
        rows = connection.execute(select(under, func.count()).where(under > NO_SECRET).group_by(under))
        return {version: count for version, count in rows}  # noqa: C416  dict() of rows has no types

    def some(
        self,
        connection: Connection,
        *,
        version: int | None = None,
        below: int | None = None,
        limit: int,
        after: str = "",
    ) -> list[SealedRow]:
        """At most `limit` with an id after this: under this version, or under one below."""
        column = self._table.c
        some = (self._row_id > after, column.sealed_under > NO_SECRET)
        query = select(self._table).where(*some).order_by(self._row_id).limit(limit)
        if version is not None:
            query = query.where(column.sealed_under == version)
        if below is not None:
            query = query.where(column.sealed_under < below)
        return [
            SealedRow(getattr(row, self._row_id.name), row.sealed, row.sealed_under, self.bound(row))
            for row in connection.execute(query)
        ]

    def reseal(self, connection: Connection, row: SealedRow, sealed: bytes, *, sealed_under: int) -> bool:
        """Put another envelope of the same secret in its place; False when it is no longer the one that was read."""
        same = (self._row_id == row.row_id, self._table.c.sealed == row.sealed)
        values = {"sealed": sealed, "sealed_under": sealed_under}
        statement = update(self._table).where(*same).values(values)
        return connection.execute(statement.execution_options(**UNRECORDED)).rowcount == 1  # the same secret


def _credential(row: Row[Any]) -> Bound:
    return row.org_id, row.credential_id, row.provider, row.host


def _content(row: Row[Any]) -> Bound:
    return row.org_id, row.request_id, "content", ""


def _webhook(row: Row[Any]) -> Bound:
    return DEFAULT_ORG, row.webhook_id, "webhook", ""


SEALED: tuple[SealedTable, ...] = (
    SealedTable("credential", credentials, credentials.c.credential_id, _credential),
    SealedTable("webhook", webhooks, webhooks.c.webhook_id, _webhook),
    SealedTable("content", captures, captures.c.request_id, _content, at_once=10),  # of megabytes each
)


def count_sealed(connection: Connection) -> dict[int, int]:
    """How many envelopes of all tables lie under each master key."""
    found: Counter[int] = Counter()
    for table in SEALED:
        found.update(table.by_version(connection))
    return dict(found)
