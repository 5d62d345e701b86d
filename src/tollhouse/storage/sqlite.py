"""SQLite: one file, one connection, for reading and writing.

There is never a second connection to the file, so there is no lock to wait for, and no place for the WAL-reset bug
that SQLite had before 3.51.3 with several connections.

WAL with synchronous=FULL: a commit is on the disk before it returns.
"""

import os
import sqlite3
import time
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from tollhouse.storage.engines import DatabaseOptions, Engines
from tollhouse.terms.errors import StorageError

PAGE_BYTES = 8192
"""The ledger grows at its end: with pages of twice SQLite's 4096 bytes a commit and a checkpoint write half as many."""


def open_file(path: Path, options: DatabaseOptions) -> Engines:
    """The file, created (0600) if it is not there. Raises StorageError when it cannot be opened."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StorageError(f"cannot open the database {path}: {error.strerror}") from error
    return Engines(kind="sqlite", place=str(path), writer=_engine(path, options), reader=None)


def cut_log(connection: Connection) -> None:
    """Bring the write-ahead log into the file and cut it to nothing. Outside a transaction."""
    connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]


class _QueryClock:
    """Interrupts SQLite's virtual machine when a transaction computes for too long."""

    STEPS = 200_000
    """Instructions between two looks at the clock: some milliseconds."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._until = float("inf")

    def start(self) -> None:
        self._until = time.monotonic() + self._limit_s

    def overdue(self) -> int:
        return int(time.monotonic() > self._until)


def _engine(path: Path, options: DatabaseOptions) -> Engine:
    clock = _QueryClock(options.query_limit_s)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": options.busy_timeout_s, "cached_statements": 256},
    )

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: sqlite3's own begins too late, after the reads
        for pragma in (
            f"page_size={PAGE_BYTES}",  # of a new file, and only before the WAL
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",  # what is deleted or overwritten is overwritten in the file: people can be erased
            f"busy_timeout={int(options.busy_timeout_s * 1000)}",
            f"cache_size=-{options.cache_bytes // 1024}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.set_progress_handler(clock.overdue, clock.STEPS)

    def begin(connection: Connection) -> None:
        clock.start()
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine
