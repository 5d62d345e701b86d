"""One SQLite file, one connection, one thread.

Every transaction is one hop to that thread: `await database.run(act)`, where `act` is a plain function of a
Connection. It is committed when the function returns and rolled back when it raises. There is never a second
connection to the file, so there is no lock to wait for, and no place for the WAL-reset bug that SQLite had before
3.51.3 with several connections.

WAL with synchronous=FULL: a commit is on the disk before `run` returns.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Self, TypeVar

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import QueuePool

from tollhouse.storage.migrations import migrate
from tollhouse.terms.errors import StorageError

T = TypeVar("T")


PAGE_BYTES = 8192
"""The ledger grows at its end: with pages of twice SQLite's 4096 bytes a commit and a checkpoint write half as many."""


class DatabaseOptions(msgspec.Struct, frozen=True):
    """Bounds of the database door."""

    busy_timeout_s: float = 5.0
    """How long to wait for a lock another program holds on the file."""
    query_limit_s: float = 30.0
    """Longest time one transaction may compute; then it is interrupted and rolled back."""
    max_waiting: int = 1000
    """Transactions waiting for their turn; more are refused."""
    cache_bytes: int = 16 * 1024 * 1024
    """SQLite's page cache."""


DEFAULTS = DatabaseOptions()


class Database:
    """The open database. `run` and `run_sync` may be called from any thread."""

    def __init__(
        self, engine: Engine, executor: ThreadPoolExecutor, clock: "_QueryClock", options: DatabaseOptions
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._clock = clock
        self._options = options
        self._places = BoundedSemaphore(options.max_waiting)
        self._closed = False

    @classmethod
    def open(cls, location: str | Path, options: DatabaseOptions = DEFAULTS) -> Self:
        """Open (or create, 0600) the database at a path or `sqlite:///path` and bring its schema up to date.

        Raises StorageError when the file cannot be opened, is no database, or has a schema newer than this program.
        """
        path = _path_of(location)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StorageError(f"cannot open the database {path}: {error.strerror}") from error
        clock = _QueryClock(options.query_limit_s)
        database = cls(_engine(path, options, clock), ThreadPoolExecutor(1, "tollhouse-database"), clock, options)
        try:
            database.run_sync(migrate)
        except BaseException:
            database.close()
            raise
        return database

    async def run(self, act: Callable[[Connection], T]) -> T:
        """Run `act` as one transaction in the database's thread.

        Raises StorageError when the database is locked, full, interrupted, damaged or has too many waiting; what
        `act` raises passes through. A cancelled caller does not undo a transaction that has begun.
        """
        return await asyncio.wrap_future(self._submit(act))

    def run_sync(self, act: Callable[[Connection], T]) -> T:
        """As `run`, blocking; for start, shutdown and commands, never on the event loop."""
        return self._submit(act).result()

    def close(self) -> None:
        """Finish what is waiting, then close. Harmless when repeated."""
        self._closed = True
        self._executor.shutdown(wait=True)
        self._engine.dispose()

    def _submit(self, act: Callable[[Connection], T]) -> "Future[T]":
        if self._closed:
            raise StorageError("the database is closed")
        if not self._places.acquire(blocking=False):
            raise StorageError(
                f"the database is busy: {self._options.max_waiting} transactions wait already; try again"
            )
        future = self._executor.submit(self._transact, act)
        future.add_done_callback(self._done)
        return future

    def _done(self, _future: "Future[Any]") -> None:
        self._places.release()

    def _transact(self, act: Callable[[Connection], T]) -> T:
        self._clock.start()
        try:
            with self._engine.begin() as connection:
                return act(connection)
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise StorageError(f"the database refused: {error.orig}") from error
        finally:
            self._clock.stop()


class _QueryClock:
    """Interrupts SQLite's virtual machine when a transaction computes for too long."""

    STEPS = 200_000
    """Instructions between two looks at the clock: some milliseconds."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._until = float("inf")

    def start(self) -> None:
        self._until = time.monotonic() + self._limit_s

    def stop(self) -> None:
        self._until = float("inf")

    def overdue(self) -> int:
        return int(time.monotonic() > self._until)


def _path_of(location: str | Path) -> Path:
    text = str(location)
    if "://" not in text:
        return Path(text)
    scheme, _, rest = text.partition(":///")
    if scheme != "sqlite" or not rest:
        raise StorageError(f"a database is a path or sqlite:///path, not {scheme}")
    return Path(rest)


def _engine(path: Path, options: DatabaseOptions, clock: _QueryClock) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": options.busy_timeout_s, "cached_statements": 256},
    )

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: sqlite3's own begins too late, after the reads
        for pragma in (
            f"page_size={PAGE_BYTES}",  # of a new file, and only before the WAL
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={int(options.busy_timeout_s * 1000)}",
            f"cache_size=-{options.cache_bytes // 1024}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.set_progress_handler(clock.overdue, clock.STEPS)

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine
