"""Home, database and journal together: where the database is, and what a failed start leaves behind."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from tests.planes.records import hold
from tests.postgres import Postgres
from tollhouse.app.store import Store
from tollhouse.cli.checks import Level, local_findings
from tollhouse.settings import Settings, database_url, load
from tollhouse.settings.sections import Storage
from tollhouse.storage import directory
from tollhouse.storage.database import Database
from tollhouse.terms.errors import SettingsError, StorageError
from tollhouse.terms.people import User

VARIABLE = "TOLLHOUSE_STORAGE__DATABASE_URL"
STOP = {
    "sqlite": ["CREATE TRIGGER stop BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'no'); END"],
    "postgresql": [
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'no' USING ERRCODE = 'integrity_constraint_violation'; END $$",
        "CREATE TRIGGER stop BEFORE INSERT ON ledger EXECUTE FUNCTION no()",
    ],
}
GO = {"sqlite": ["DROP TRIGGER stop"], "postgresql": ["DROP FUNCTION no CASCADE"]}


def settings(home: Path, location: str) -> Settings:
    url = location if ":" in location else f"sqlite:///{location}"
    return Settings(home=home, storage=Storage(database_url=url))


def open_store(home: Path, location: str) -> Store:
    store = Store(settings(home, location))
    asyncio.run(store.open())
    return store


def ours() -> set[threading.Thread]:
    """Threads of databases and journals that are open."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("tollhouse")}


def test_a_recovery_that_fails_leaves_nothing_open_and_can_be_run_again(
    tmp_path: Path, engine: str, empty: Callable[[], str]
) -> None:
    location, before = empty(), ours()

    def change(statements: list[str]) -> None:
        database = Database.open(location)
        database.run_sync(lambda connection: [connection.execute(text(statement)) for statement in statements])
        database.close()

    store = open_store(tmp_path / "home", location)
    store.journal.append(hold(1))
    store.close()
    change(STOP[engine])
    for _ in range(2):
        with pytest.raises(IntegrityError):
            open_store(tmp_path / "home", location)
        assert ours() <= before
    change(GO[engine])
    again = open_store(tmp_path / "home", location)
    again.close()
    assert again.recovery is not None
    assert again.recovery.crashed == 1


def test_the_secret_is_never_made_anew_beside_a_database_with_users(tmp_path: Path, location: str) -> None:
    open_store(tmp_path / "first", location).close()
    store = open_store(tmp_path / "second", location)  # nobody is known yet
    store.database.run_sync(lambda connection: directory.create_user(connection, User("alice")))
    store.close()
    for home in (tmp_path / "first", tmp_path / "second"):
        open_store(home, location).close()
    with pytest.raises(SettingsError, match=r"server-secret is missing, but the database .* has users"):
        open_store(tmp_path / "third", location)
    assert not (tmp_path / "third" / "server-secret").exists()


def test_the_home_stays_when_the_database_is_elsewhere(tmp_path: Path, postgres: Postgres) -> None:
    url, before = postgres.fresh_database(), ours()
    store = open_store(tmp_path / "home", url)
    assert sorted(path.name for path in store.home.path.iterdir()) == ["audit-head", "journal", "lock", "server-secret"]
    store.close()
    postgres.drop(url)
    with pytest.raises(StorageError, match="does not exist"):
        open_store(tmp_path / "home", url)
    assert ours() <= before


# Settings


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings as a file says them."""
    monkeypatch.setenv("TOLLHOUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("THE_URL", "postgresql://u:from-a-variable@db/tolls")
    secret = tmp_path / "secret"
    secret.write_text("postgresql://u:from-a-file@db/tolls\n")

    def read(line: str) -> Settings:
        path = tmp_path / "tollhouse.yaml"
        path.write_text(f"storage: {{database_url: '{line.format(secret=secret)}'}}\n")
        return load(path)

    return read


def test_a_url_comes_by_reference_or_as_a_variable(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert database_url(written("")) == ""
    assert database_url(written("env:THE_URL")) == "postgresql://u:from-a-variable@db/tolls"
    assert database_url(written("file:{secret}")) == "postgresql://u:from-a-file@db/tolls"
    assert database_url(written("postgresql://u@db/tolls?sslmode=verify-full")).endswith("verify-full")
    with pytest.raises(SettingsError, match=r"storage.database_url: the environment variable NOWHERE is not set"):
        database_url(written("env:NOWHERE"))
    monkeypatch.setenv(VARIABLE, "postgresql://u:itself@db/tolls")
    settings = written("env:THE_URL")
    assert database_url(settings) == "postgresql://u:itself@db/tolls"
    assert "itself" not in repr(settings)


@pytest.mark.parametrize("url", ["postgresql://u:s3cret@db/x", "postgresql://db/x?user=u&password=s3cret", "s3cret"])
def test_a_password_in_a_settings_file_is_refused_and_not_repeated(written: Any, url: str) -> None:
    with pytest.raises(SettingsError, match=r"database_url.*env:NAME") as caught:
        written(url)
    assert "s3cret" not in str(caught.value)


# What doctor sees


def found(home: Path, url: str) -> dict[str, tuple[Level, str]]:
    looked = local_findings(settings(home, url))
    return {one.check: (one.level, one.detail) for one in looked if one.check == "database"}


def test_doctor_looks_at_postgresql_beside_the_gateway_that_has_it(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.fresh_database()
    with_gateway = Database.open(url)
    seen = list(local_findings(settings(tmp_path, url)))
    named = {one.level: one.detail for one in seen if one.check == "database"}
    assert named[Level.OK].startswith("PostgreSQL ")
    assert "fsync" in named[Level.WARNING]  # the tests' own has it off
    assert postgres.password not in str(seen)
    with_gateway.close()
    postgres.drop(url)
    ((level, detail),) = found(tmp_path, url).values()
    assert (level, "does not exist" in detail) == (Level.PROBLEM, True)
    assert found(tmp_path, "env:NOWHERE")["database"][0] is Level.PROBLEM
    assert postgres.password not in str(list(local_findings(settings(tmp_path, url))))
