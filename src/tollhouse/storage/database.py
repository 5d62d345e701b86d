"""The open database: SQLite's file or PostgreSQL, one writer, plain functions of a Connection.

Every transaction is one hop to a thread: `await database.run(act)`, where `act` is a plain function of a Connection.
It is committed when the function returns and rolled back when it raises; a commit is on the disk before `run` returns.

There is one writer, one connection in one thread, so transactions of `run` happen one after the other in the order
they were asked for: who gets, decides and writes in one `act` needs no lock. `read` is for what only looks. It sees
everything committed before, and may run beside the writer where the engine has connections for that (PostgreSQL; with
SQLite it takes its turn like the others).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Protocol, Self, TypeVar

from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError

from tollhouse.storage import postgres, sqlite
from tollhouse.storage.acting import author
from tollhouse.storage.engines import DEFAULTS, DatabaseOptions, Engines
from tollhouse.storage.migrations import migrate
from tollhouse.storage.watch import after_execute, before_execute
from tollhouse.terms.audit import Author
from tollhouse.terms.errors import StorageError

T = TypeVar("T")
CLOSE_S = 10.0
"""How long closing waits for a server's answers."""


class Recorder(Protocol):
    """Sees every transaction of the writer, and may add to it."""

    def watching(self, connection: Connection, author: Author) -> AbstractContextManager[None]:
        """Around one; what it raises rolls the transaction back."""
        ...

    def committed(self) -> None:
        """After the commit of one, before anybody is told."""
        ...


class Database:
    """The open database. `run`, `run_sync` and `read` may be called from any thread."""

    def __init__(self, engines: Engines, options: DatabaseOptions) -> None:
        self.kind = engines.kind
        self.place = engines.place
        self._engines = engines
        self._options = options
        self._writer = _Lane(engines.writer, 1, "tollhouse-database", options.max_waiting)
        self._reader = (
            self._writer
            if engines.reader is None
            else _Lane(engines.reader, options.readers, "tollhouse-reader", options.max_waiting)
        )

    @classmethod
    def open(cls, location: str | Path, options: DatabaseOptions = DEFAULTS) -> Self:
        """Open the database at a path, `sqlite:///path` or `postgresql://…` and bring its schema up to date. A file is
        created (0600); a PostgreSQL database must be there, and becomes this process's own until `close`.

        Raises StorageError when it cannot be opened, is another program's, is in use by another gateway, or has a
        schema newer than this program.
        """
        database = cls(_open(location, options), options)
        try:
            database.run_sync(migrate)
        except BaseException:
            database.close()
            raise
        return database

    def recorded_by(self, recorder: Recorder) -> None:
        """From now on nothing that is audited changes without a record (see `trail`)."""
        event.listen(self._engines.writer, "before_execute", before_execute)
        event.listen(self._engines.writer, "after_execute", after_execute)
        self._writer.recorder = recorder

    @property
    def facts(self) -> dict[str, Any]:
        """What and where it is, without a password."""
        return {"kind": self.kind, "place": self.place}

    async def run(self, act: Callable[[Connection], T]) -> T:
        """Run `act` as one transaction in the writer's thread.

        Raises StorageError when the database is locked, full, interrupted, damaged, gone or has too many waiting; what
        `act` raises passes through. A cancelled caller does not undo a transaction that has begun.
        """
        return await asyncio.wrap_future(self._writer.submit(act))

    async def read(self, act: Callable[[Connection], T]) -> T:
        """As `run`, for an `act` that only reads: one view of the data, at least as new as the last finished `run`."""
        return await asyncio.wrap_future(self._reader.submit(act))

    async def scrub(self) -> None:
        """What was deleted or overwritten lies in no file of ours any more: the log of SQLite's writes is brought into
        the database and cut. PostgreSQL does the like by itself, when it vacuums.
        """
        if self.kind == "sqlite":
            await asyncio.wrap_future(self._writer.submit(sqlite.cut_log, transaction=False))

    def run_sync(self, act: Callable[[Connection], T]) -> T:
        """As `run`, blocking; for start, shutdown and commands, never on the event loop."""
        return self._writer.submit(act).result()

    def close(self) -> None:
        """Finish what is waiting, then close; a server that has not answered for CLOSE_S is waited for no longer.
        Harmless when repeated.
        """
        lanes, cut = (self._reader, self._writer), self._engines.cut
        under_way = [future for lane in lanes for future in lane.close()]
        if cut is not None and wait(under_way, CLOSE_S).not_done:
            for lane in lanes:
                lane.give_up()
            cut()
        for lane in lanes:
            lane.end()
        self._engines.close()


class _Lane:
    """Threads that run transactions on an engine, as many as it has connections, with a bounded queue before them."""

    def __init__(self, engine: Engine, threads: int, name: str, max_waiting: int) -> None:
        self._engine = engine
        self._executor = ThreadPoolExecutor(threads, name)
        self._max_waiting = max_waiting
        self._places = BoundedSemaphore(max_waiting)
        self._closed = False
        self._futures: set[Future[Any]] = set()
        self.recorder: Recorder | None = None

    def submit(self, act: Callable[[Connection], T], *, transaction: bool = True) -> "Future[T]":
        """Raises StorageError, also by the Future. Without a `transaction`: for what must not be inside one."""
        if self._closed:
            raise StorageError("the database is closed")
        if not self._places.acquire(blocking=False):
            raise StorageError(f"the database is busy: {self._max_waiting} transactions wait already; try again")
        run: Callable[[Callable[[Connection], T], Author], T] = self._transact if transaction else self._outside
        future = self._executor.submit(run, act, author())
        self._futures.add(future)
        future.add_done_callback(self._done)
        return future

    def close(self) -> "tuple[Future[Any], ...]":
        """Take no more; what is under way."""
        self._closed = True
        return tuple(self._futures)

    def give_up(self) -> None:
        """What has not begun will not begin."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def end(self) -> None:
        """When all is done."""
        self._executor.shutdown(wait=True)

    def _done(self, future: "Future[Any]") -> None:
        self._futures.discard(future)
        self._places.release()

    def _outside(self, act: Callable[[Connection], T], _who: Author) -> T:
        try:
            with self._engine.connect() as connection:
                return act(connection)
        except DBAPIError as error:
            raise StorageError(f"the database refused: {_in_words(error)}") from error

    def _transact(self, act: Callable[[Connection], T], who: Author) -> T:
        recorder = self.recorder
        try:
            with self._engine.begin() as connection, _watched(recorder, connection, who):
                result = act(connection)
            if recorder is not None:
                recorder.committed()
            return result
        except (IntegrityError, DataError):
            raise  # the fault of what was written, not of the database: trying again would not help
        except DBAPIError as error:
            raise StorageError(f"the database refused: {_in_words(error)}") from error


def _watched(recorder: Recorder | None, connection: Connection, who: Author) -> AbstractContextManager[None]:
    return nullcontext() if recorder is None else recorder.watching(connection, who)


def look(location: str, options: DatabaseOptions = DEFAULTS) -> postgres.Seen:
    """What there is to see of a PostgreSQL database, also while a gateway has it. Raises StorageError."""
    engines = _open(location, options)
    try:
        return postgres.look(engines)
    except DBAPIError as error:
        raise StorageError(f"the database refused: {_in_words(error)}") from error
    finally:
        engines.close()


def _in_words(error: DBAPIError) -> str:
    """One line; drivers write several."""
    return "; ".join(line.strip() for line in str(error.orig).splitlines() if line.strip())


def _open(location: str | Path, options: DatabaseOptions) -> Engines:
    text = str(location)
    if "://" not in text:
        return sqlite.open_file(Path(text), options)
    scheme, _, rest = text.partition("://")
    if scheme in postgres.SCHEMES:
        try:
            return postgres.open_server(make_url(text), options)
        except (ArgumentError, ValueError):  # says what was given, and that may hold a password
            raise StorageError(f"the database's URL cannot be read; it looks like {postgres.EXAMPLE}") from None
    if scheme != "sqlite" or not rest.startswith("/") or len(rest) == 1:
        raise StorageError(f"a database is a path, sqlite:///path or {postgres.EXAMPLE}, not {scheme}")
    return sqlite.open_file(Path(rest[1:]), options)
