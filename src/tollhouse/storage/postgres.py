"""PostgreSQL: one connection that writes and owns the database, a few that read beside it.

    owner     the writing session holds an advisory lock for as long as it lives. Nothing is written by a session that
              does not hold it, so there is one gateway at a time: a second one is refused, a crashed one's lock is gone
              with its session, and whoever lost their connection must get the lock again before writing on (if need be
              from their own former session, when only the server still has that).
    durable   synchronous_commit=on: a commit is on the server's disk before it returns.
    bounded   connecting, waiting for the owner before, statements, a transaction without a statement, and a peer that
              has fallen silent: each has its time.
    readers   read only, and each transaction sees one state (REPEATABLE READ), as SQLite's do.

A pooler that hands one session to several clients (PgBouncer in transaction mode) breaks the first rule: connect to
the server itself, or through session mode.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import msgspec
from sqlalchemy import URL, Engine, create_engine, event, text
from sqlalchemy.pool import QueuePool

from tollhouse.storage.engines import DatabaseOptions, Engines
from tollhouse.terms.errors import StorageError

if TYPE_CHECKING:
    import psycopg

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
EXAMPLE = "postgresql://user:password@host:5432/name"
LOCK_CLASS = 0x746F6C6C
"""Our advisory locks ("toll"); the second number tells the schemas of one database apart."""
_MS = 1000


def open_server(url: URL, options: DatabaseOptions) -> Engines:
    """Engines of this database; nothing is connected yet. Raises StorageError when the driver is not installed."""
    url = url.set(drivername="postgresql+psycopg")
    place = _place(url)
    session = _Session(place, options)
    try:
        writer = _engine(url, 1, options)
        reader = _engine(url, options.readers, options, isolation_level="REPEATABLE READ")
    except ImportError as error:
        raise StorageError(
            "the database is PostgreSQL, and its driver is not installed: pip install 'tollhouse[postgres]'"
        ) from error
    lines = _Lines()
    for engine in (writer, reader):
        event.listen(engine, "connect", lines.add)
    event.listen(writer, "connect", session.own)
    event.listen(reader, "connect", session.look)
    return Engines(kind="postgresql", place=place, writer=writer, reader=reader, cut=lines.cut)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader sees of the server."""

    place: str
    version: str
    encrypted: bool
    """Or on this machine."""
    durable: bool
    """What is committed survives a power cut, as far as the server's settings say."""


def look(engines: Engines) -> Seen:
    """One connection, beside whoever has the database. Raises SQLAlchemy's errors."""
    assert engines.reader is not None
    query = text(
        "SELECT current_setting('server_version'), inet_server_addr() IS NULL OR host(inet_client_addr()) "
        "= host(inet_server_addr()) OR coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), "
        "current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'"
    )
    with engines.reader.connect() as connection:
        version, encrypted, durable = connection.execute(query).one()
    return Seen(place=engines.place, version=version.partition(" ")[0], encrypted=encrypted, durable=durable)


def _engine(url: URL, connections: int, options: DatabaseOptions, **more: Any) -> Engine:
    silence_s = options.silence_s
    ours = {
        "connect_timeout": max(2, round(options.connect_timeout_s)),
        "client_encoding": "utf8",
        "application_name": "tollhouse",
        "keepalives_idle": max(1, silence_s // 2),
        "keepalives_interval": max(1, silence_s // 8),
        "keepalives_count": 4,
        "tcp_user_timeout": silence_s * _MS,
    }
    return create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=True,  # the server may have been restarted since
        hide_parameters=True,
        use_native_hstore=False,
        connect_args={name: value for name, value in ours.items() if name not in url.query},
        **more,
    )


class _Lines:
    """Connections to the server. One that has stopped, but whose machine still acknowledges, answers nothing and ends
    nothing: only cutting the line ends the wait for it.
    """

    def __init__(self) -> None:
        self._lines: WeakSet[psycopg.Connection[Any]] = WeakSet()

    def add(self, connection: "psycopg.Connection[Any]", _record: object) -> None:
        self._lines.add(connection)

    def cut(self) -> None:
        """From another thread than the one that waits."""
        from psycopg import Error  # noqa: PLC0415 - only where the database is PostgreSQL

        for connection in list(self._lines):
            with (
                contextlib.suppress(OSError, Error),  # it is closed, or just being closed
                socket.socket(fileno=os.dup(connection.fileno())) as line,
            ):
                line.shutdown(socket.SHUT_RDWR)


def _place(url: URL) -> str:
    """The database for people, without user and password."""
    host = url.host or url.query.get("host") or "the local socket"
    port = f":{url.port}" if url.port else ""
    return f"{url.database or url.username} at {host if isinstance(host, str) else ', '.join(host)}{port}"


class _Session:
    """Prepares each new session, or closes it."""

    def __init__(self, place: str, options: DatabaseOptions) -> None:
        self._place = place
        self._former: tuple[Any, ...] | None = None
        """The session that had the lock for us before, until we know that it is gone."""
        limit_ms, silence_s = round(options.query_limit_s * _MS), options.silence_s
        self._settings = {
            "synchronous_commit": "on",
            "statement_timeout": str(limit_ms),
            "idle_in_transaction_session_timeout": str(limit_ms),
            "lock_timeout": str(max(1, round(options.owner_wait_s * _MS))),
            "tcp_keepalives_idle": str(max(1, silence_s // 2)),
            "tcp_keepalives_interval": str(max(1, silence_s // 8)),
            "tcp_keepalives_count": "4",
        }

    def look(self, connection: "psycopg.Connection[Any]", _record: object) -> None:
        """A session that reads."""
        with _closed_unless_good(connection):
            self._prepare(connection, self._settings | {"default_transaction_read_only": "on"})

    def own(self, connection: "psycopg.Connection[Any]", _record: object) -> None:
        """The session that writes: only as the database's one owner. Raises StorageError when it has another."""
        with _closed_unless_good(connection):
            self._prepare(connection, self._settings)
            if self._former is not None:
                _end(connection, self._former)
            if not _locked(connection):
                raise StorageError(
                    f"another gateway has the database {self._place}: connected from {_owner(connection)}. One gateway "
                    "works on a database: stop the other one, or give this one a database of its own"
                )
            self._former = connection.execute(_OURSELVES).fetchone()
            connection.commit()

    def _prepare(self, connection: "psycopg.Connection[Any]", settings: dict[str, str]) -> None:
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        words = [word for setting in settings.items() for word in setting]
        found = connection.execute(f"SELECT current_setting('server_encoding'), {calls}", words).fetchone()
        connection.commit()
        encoding = found[0] if found else ""
        if encoding != "UTF8":
            raise StorageError(
                f"the database {self._place} has the encoding {encoding}, which cannot hold every text; make it anew "
                "with ENCODING 'UTF8' TEMPLATE template0"
            )


@contextlib.contextmanager
def _closed_unless_good(connection: "psycopg.Connection[Any]") -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _locked(connection: "psycopg.Connection[Any]") -> bool:
    """Whether this session has the owner's lock now; waits for it until `lock_timeout`."""
    from psycopg.errors import LockNotAvailable  # noqa: PLC0415 - only where the database is PostgreSQL

    try:
        with connection.transaction():
            connection.execute("SET LOCAL statement_timeout = 0")
            connection.execute("SELECT pg_advisory_lock(%s, hashtext(current_schema()))", (LOCK_CLASS,))
    except LockNotAvailable:
        return False
    return True


_OURSELVES = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"


def _end(connection: "psycopg.Connection[Any]", former: tuple[Any, ...]) -> None:
    """A session that we lost need not be lost to the server, which may wait for its network or still work for it."""
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s", former
    )
    connection.commit()


def _owner(connection: "psycopg.Connection[Any]") -> str:
    """From where and since when somebody has this database."""
    found = connection.execute(
        "SELECT coalesce(host(client_addr), 'a local socket'), to_char(backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') "
        "FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted AND classid = %s "
        "AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ",
        (LOCK_CLASS,),
    ).fetchone()
    return "{} since {}".format(*found) if found else "somewhere"
