"""What `database` knows of an engine: how to write, how to read beside it, what to call it."""

from collections.abc import Callable
from typing import Literal

import msgspec
from sqlalchemy import Engine


class DatabaseOptions(msgspec.Struct, frozen=True):
    """Bounds of the database door."""

    busy_timeout_s: float = 5.0
    """SQLite: how long to wait for a lock another program holds on the file."""
    query_limit_s: float = 30.0
    """Longest time one transaction (PostgreSQL: one statement) may compute; then it is interrupted and rolled back."""
    max_waiting: int = 1000
    """Transactions waiting for their turn; more are refused."""
    cache_bytes: int = 16 * 1024 * 1024
    """SQLite's page cache."""
    readers: int = 4
    """PostgreSQL: connections for reading, beside the one that writes."""
    connect_timeout_s: float = 5.0
    """PostgreSQL: how long to wait for a connection."""
    owner_wait_s: float = 5.0
    """PostgreSQL: how long to wait until the gateway that had the database before is gone."""
    silence_s: int = 20
    """PostgreSQL: a connection whose other end does not even acknowledge for this long is given up, by both ends."""


DEFAULTS = DatabaseOptions()


class Engines(msgspec.Struct, frozen=True, kw_only=True):
    """An open database.

    place    for people: a path, or a URL without its password
    writer   one connection
    reader   a few connections beside it that see committed data and cannot write; None: reads go through the writer
    """

    kind: Literal["sqlite", "postgresql"]
    place: str
    writer: Engine
    reader: Engine | None
    cut: Callable[[], None] | None = None
    """Ends every connection to a server where it is; whoever waits for an answer gets an error instead."""

    def close(self) -> None:
        self.writer.dispose()
        if self.reader is not None:
            self.reader.dispose()
