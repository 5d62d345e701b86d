"""The door to the database: transactions, bounds, and what is refused, on both engines."""

import asyncio
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import asdict
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import IntegrityError

from tests.planes.test_directory import ALICE, SECRET
from tests.postgres import Postgres
from tollhouse.storage import database as door
from tollhouse.storage import directory
from tollhouse.storage.database import Database
from tollhouse.storage.engines import DatabaseOptions
from tollhouse.storage.sqlite import PAGE_BYTES
from tollhouse.storage.tables import key_secrets
from tollhouse.terms.errors import StorageError

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
WAIT_S = 20.0


def one(connection: Connection) -> Any:
    return connection.execute(text("SELECT 1")).scalar()


def test_a_transaction_is_undone_when_it_raises(database: Database) -> None:
    def half(connection: Connection) -> None:
        directory.create_user(connection, ALICE)
        raise KeyError("midway")

    with pytest.raises(KeyError):
        database.run_sync(half)
    assert database.run_sync(lambda connection: directory.get_user(connection, "alice")) is None


def test_a_query_without_end_is_interrupted(location: str) -> None:
    opened = Database.open(location, DatabaseOptions(query_limit_s=0.05))
    with pytest.raises(StorageError, match=r"interrupted|statement timeout"):
        opened.run_sync(lambda connection: connection.execute(text(ENDLESS)).scalar())
    assert opened.run_sync(one) == 1
    opened.close()
    with pytest.raises(StorageError, match="closed"):
        opened.run_sync(lambda connection: None)


def test_the_queue_before_the_writer_is_bounded(location: str) -> None:
    opened, go_on = Database.open(location, DatabaseOptions(max_waiting=2)), threading.Event()

    async def crowd() -> list[BaseException | None]:
        acts = [opened.run(lambda _: go_on.wait(WAIT_S) and None) for _ in range(2)]
        tasks = [asyncio.ensure_future(act) for act in acts]
        await asyncio.sleep(0)
        with pytest.raises(StorageError, match="busy: 2 transactions"):
            await opened.run(one)
        go_on.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(crowd()) == [None, None]
    opened.close()


def test_what_breaks_a_rule_is_not_the_databases_trouble(database: Database) -> None:
    """Who waits for a database that is down must not wait for ever with a row that can never go in."""
    with pytest.raises(IntegrityError) as caught:
        database.run_sync(lambda connection: connection.execute(insert(key_secrets).values(asdict(SECRET))))
    assert "FOREIGN KEY" in str(caught.value).upper()
    assert SECRET.hint not in str(caught.value)


def test_a_reader_sees_what_was_committed_and_one_state_of_it(database: Database) -> None:
    started, written = threading.Event(), threading.Event()

    def look(connection: Connection) -> tuple[bool, bool]:
        before = directory.get_user(connection, "alice") is not None
        started.set()
        if database.kind == "postgresql":  # with SQLite the writer waits for its turn
            assert written.wait(WAIT_S)
        return before, directory.get_user(connection, "alice") is not None

    async def go() -> tuple[tuple[bool, bool], tuple[bool, bool]]:
        first = asyncio.ensure_future(database.read(look))
        await asyncio.to_thread(started.wait, WAIT_S)
        await database.run(lambda connection: directory.create_user(connection, ALICE))
        written.set()
        return await first, await database.read(look)

    assert asyncio.run(go()) == ((False, False), (True, True))


# SQLite


def test_files_are_private_and_writes_are_synced(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "tollhouse.db")
    database.run_sync(lambda connection: directory.create_user(connection, ALICE))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}

    def pragmas(connection: Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "page_size")
        return [connection.execute(text(f"PRAGMA {name}")).scalar() for name in names]

    assert database.run_sync(pragmas) == ["wal", 2, 1, PAGE_BYTES]
    database.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(StorageError):
        Database.open(tmp_path / "x.db")
    with pytest.raises(StorageError, match="cannot open"):
        Database.open(tmp_path / "missing" / "x.db")
    for wrong in ("oracle://db", "sqlite://x.db", "sqlite:///"):
        with pytest.raises(StorageError, match="sqlite:///path"):
            Database.open(wrong)


# PostgreSQL


@pytest.fixture
def url(postgres: Postgres) -> Any:
    made = postgres.fresh_database()
    yield made
    postgres.drop(made)


def settings_of(connection: Connection) -> dict[str, str]:
    names = ("synchronous_commit", "statement_timeout", "default_transaction_read_only", "transaction_isolation")
    return {name: str(connection.execute(text(f"SHOW {name}")).scalar()) for name in names}


def test_the_writer_commits_to_the_disk_and_readers_cannot_write(url: str) -> None:
    database = Database.open(url, DatabaseOptions(query_limit_s=7))
    assert database.run_sync(settings_of) == {
        "synchronous_commit": "on",
        "statement_timeout": "7s",
        "default_transaction_read_only": "off",
        "transaction_isolation": "read committed",
    }
    looked = asyncio.run(database.read(settings_of))
    assert (looked["default_transaction_read_only"], looked["transaction_isolation"]) == ("on", "repeatable read")
    with pytest.raises(StorageError, match="read-only transaction"):
        asyncio.run(database.read(lambda connection: directory.create_user(connection, ALICE)))
    database.close()


def test_a_second_gateway_is_refused_in_words_until_the_first_is_gone(url: str) -> None:
    first = Database.open(url)
    with pytest.raises(StorageError, match=r"another gateway has the database t\d+ at .*: connected from a local"):
        Database.open(url, DatabaseOptions(owner_wait_s=0.05))
    assert first.run_sync(one) == 1
    waiting = threading.Thread(target=lambda: Database.open(url, DatabaseOptions(owner_wait_s=WAIT_S)).close())
    waiting.start()
    first.close()
    waiting.join(WAIT_S)
    assert not waiting.is_alive()


def test_an_owner_whose_connections_were_cut_gets_the_database_back(url: str, postgres: Postgres) -> None:
    database = Database.open(url)
    for _ in range(2):
        postgres.cut(url)
        assert database.run_sync(one) == asyncio.run(database.read(one)) == 1
    with pytest.raises(StorageError, match="another gateway"):
        Database.open(url, DatabaseOptions(owner_wait_s=0.05))
    database.close()


def test_an_owner_takes_the_lock_from_a_session_that_only_the_server_still_has(url: str) -> None:
    database = Database.open(url, DatabaseOptions(owner_wait_s=0.05))
    with database._engines.writer.connect() as lost:
        former: Any = lost.connection.driver_connection
        lost.detach()
        assert database.run_sync(one) == 1
        with pytest.raises(psycopg.OperationalError):
            former.execute("SELECT 1")
    database.close()


def test_an_owner_that_lost_the_database_to_another_writes_no_more(url: str, postgres: Postgres) -> None:
    former = Database.open(url, DatabaseOptions(owner_wait_s=0.05))
    postgres.cut(url)
    latter = Database.open(url)
    for _ in range(2):
        with pytest.raises(StorageError, match="another gateway"):
            former.run_sync(lambda connection: directory.create_user(connection, ALICE))
    latter.close()
    assert former.run_sync(lambda connection: directory.create_user(connection, ALICE))
    former.close()


def test_while_postgresql_is_away_everything_is_refused_and_then_goes_on(url: str, postgres: Postgres) -> None:
    database = Database.open(url)
    postgres.close_door(url)
    for _ in range(2):
        with pytest.raises(StorageError, match="not currently accepting connections"):
            database.run_sync(one)
        with pytest.raises(StorageError, match="not currently accepting connections"):
            asyncio.run(database.read(one))
    postgres.open_door(url)
    assert database.run_sync(one) == asyncio.run(database.read(one)) == 1
    database.close()


def test_closing_waits_for_no_server_that_does_not_answer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was stopped, or waits for its disk: its machine acknowledges, so no time-out of a network ends it."""
    monkeypatch.setattr(door, "CLOSE_S", 0.05)

    async def story() -> None:
        database = Database.open(url, DatabaseOptions(query_limit_s=600))
        begun = threading.Event()

        def endless(connection: Connection) -> None:
            begun.set()
            connection.execute(text("SELECT pg_sleep(600)"))

        calls = [asyncio.ensure_future(database.run(endless)), asyncio.ensure_future(database.read(endless))]
        waiting = asyncio.ensure_future(database.run(endless))
        await asyncio.to_thread(begun.wait, 30)
        async with asyncio.timeout(60):
            await asyncio.to_thread(database.close)
            *ended, last = await asyncio.gather(*calls, waiting, return_exceptions=True)
        assert [type(error) for error in ended] == [StorageError] * 2
        assert isinstance(last, StorageError | asyncio.CancelledError)

    asyncio.run(story())


def test_no_error_tells_the_password(url: str, postgres: Postgres) -> None:
    password = "hunter2-and-more"
    wrong = url.replace(postgres.password, password)
    for location in (wrong, wrong.replace("/t", "/nowhere"), f"postgresql://x:{password}@[", wrong + "&nonsense=1"):
        with pytest.raises(StorageError) as caught:
            Database.open(location)
        assert password not in "".join(traceback.format_exception(caught.value))
    opened = Database.open(url)
    assert postgres.password not in opened.place
    opened.close()


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StorageError, match=r"pip install 'tollhouse\[postgres\]'"):
        Database.open("postgresql://nobody@127.0.0.1:1/nothing")


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: Postgres) -> None:
    url = postgres.url("ascii")
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(StorageError, match=r"encoding SQL_ASCII.*ENCODING 'UTF8'"):
        Database.open(url)
    postgres.drop(url)
