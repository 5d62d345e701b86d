"""The door to the schema, on both engines: new databases, old ones, and those that are not ours."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, String, inspect, text

from tests.planes import frozen
from tests.postgres import Postgres
from tollhouse.storage import database as door
from tollhouse.storage import migrations
from tollhouse.storage.columns import Word
from tollhouse.storage.database import Database
from tollhouse.storage.engines import DEFAULTS
from tollhouse.storage.tables import metadata
from tollhouse.terms.errors import StorageError

Empty = Callable[[], str]
RELEASED = migrations.RELEASED


def unlocked(location: str, act: Callable[[Connection], Any]) -> Any:
    """What `act` finds or does in one transaction, on a database that `Database.open` has not brought up to date."""
    engines = door._open(location, DEFAULTS)
    try:
        with engines.writer.begin() as connection:
            return act(connection)
    finally:
        engines.close()


def schema(connection: Connection) -> dict[str, Any]:
    seen = inspect(connection)
    tables = {
        name: (
            sorted(
                (
                    column["name"],
                    str(column["type"]),
                    getattr(column["type"], "collation", None),
                    column["nullable"],
                    re.sub(r"\w+\.", "", str(column["default"])),  # a dump names the schema
                )
                for column in seen.get_columns(name)
            ),
            seen.get_pk_constraint(name),
            sorted(map(str, seen.get_foreign_keys(name))),
            sorted((str(index["name"]), index["column_names"]) for index in seen.get_indexes(name)),
            sorted(map(str, seen.get_unique_constraints(name))),
        )
        for name in seen.get_table_names()
    }
    options = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    if connection.dialect.name == "sqlite":
        options = "SELECT name, sql FROM sqlite_master"
    # WHERE of an index, WITHOUT ROWID of a table
    tails = {name: sql.rpartition(") ")[2].strip("() \n") for name, sql in connection.execute(text(options)) if sql}
    return {"tables": tables, "options": {name: tail for name, tail in tails.items() if "CREATE" not in tail}}


def test_a_new_database_has_the_schema_that_the_migrations_make(empty: Empty) -> None:
    new, migrated = empty(), empty()
    Database.open(new).close()
    unlocked(migrated, migrations.upgrade)
    assert unlocked(new, schema) == unlocked(migrated, schema)
    assert unlocked(new, migrations.stored_revision) == migrations.HEAD


def test_words_are_compared_byte_by_byte() -> None:
    """A name or id of SQLAlchemy's plain String would follow the language of the database: see `columns.Word`."""
    words = [column for table in metadata.sorted_tables for column in table.columns if type(column.type) is String]
    assert [str(column) for column in words if column.type is not Word] == []


def test_the_constants_name_the_revisions_there_are() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert script.get_current_head() == migrations.HEAD
    assert tuple(reversed([revision.revision for revision in script.walk_revisions()])) == migrations.REVISIONS


def test_every_released_revision_has_its_frozen_databases() -> None:
    assert [revision for revision in migrations.REVISIONS if revision in RELEASED] == list(RELEASED)
    wanted = {frozen.dump_of(revision, engine).name for revision in RELEASED for engine in ("sqlite", "postgresql")}
    assert {path.name for path in frozen.SCHEMAS.iterdir()} == wanted, "python -m tests.planes.frozen makes them"


@pytest.mark.parametrize("revision", RELEASED)
def test_a_database_of_every_release_is_migrated_and_read(empty: Empty, engine: str, revision: str) -> None:
    old, new = empty(), empty()
    frozen.load(old, frozen.dump_of(revision, engine).read_text("utf-8"))
    Database.open(new).close()
    with closing(Database.open(old)) as database:
        assert database.run_sync(migrations.stored_revision) == migrations.HEAD
        assert database.run_sync(schema) == unlocked(new, schema)
        for chapter in frozen.chapters(revision):
            database.run_sync(chapter.check)


@pytest.mark.parametrize("revision", RELEASED)
def test_a_released_revision_is_never_changed(empty: Empty, engine: str, revision: str) -> None:
    """Whoever has it already would never get the change."""
    old, made = empty(), empty()
    frozen.load(old, frozen.dump_of(revision, engine).read_text("utf-8"))
    unlocked(made, lambda connection: migrations.upgrade(connection, revision))
    assert unlocked(old, schema) == unlocked(made, schema)


def test_two_that_start_at_once_migrate_once(empty: Empty, engine: str) -> None:
    old, failed = empty(), []
    frozen.load(old, frozen.dump_of(RELEASED[0], engine).read_text("utf-8"))

    def start() -> None:
        try:
            Database.open(old).close()
        except StorageError as error:
            failed.append(error)

    starters = [threading.Thread(target=start) for _ in range(3)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(60)
    assert failed == []
    assert unlocked(old, lambda one: one.execute(text("SELECT version_num FROM alembic_version")).all()) == [
        (migrations.HEAD,)
    ]


def test_a_migration_that_fails_leaves_the_old_schema(empty: Empty, engine: str, monkeypatch: Any) -> None:
    old, real = empty(), migrations.upgrade
    frozen.load(old, frozen.dump_of(RELEASED[0], engine).read_text("utf-8"))
    before = unlocked(old, schema)

    def breaks(connection: Connection) -> None:
        real(connection)
        connection.execute(text("CREATE TABLE half (id INTEGER)"))
        connection.execute(text("SELECT * FROM nowhere"))

    monkeypatch.setattr(migrations, "upgrade", breaks)
    monkeypatch.setattr(migrations, "HEAD", "9999")
    with pytest.raises(StorageError, match="nowhere"):
        Database.open(old)
    assert unlocked(old, schema) == before
    assert unlocked(old, migrations.stored_revision) == RELEASED[0]


def test_a_newer_schema_is_refused_by_name(empty: Empty) -> None:
    location = empty()
    opened = Database.open(location)
    opened.run_sync(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    opened.close()
    with pytest.raises(StorageError, match=r"'9999'.*newer Tollhouse"):
        Database.open(location)


def test_somebody_elses_database_is_refused(empty: Empty) -> None:
    location = empty()
    unlocked(location, lambda connection: connection.execute(text("CREATE TABLE songs (id INTEGER)")))
    with pytest.raises(StorageError, match="not Tollhouse's"):
        Database.open(location)


def test_two_schemas_of_one_database_are_two_gateways(postgres: Postgres) -> None:
    location = postgres.fresh_database()
    urls = []
    for name in ("one", "two"):
        unlocked(location, lambda connection, name=name: connection.execute(text(f"CREATE SCHEMA {name}")))
        urls.append(f"{location}&options=-csearch_path%3D{name}")
    with closing(Database.open(urls[0])), closing(Database.open(urls[1])) as second:
        assert second.run_sync(migrations.stored_revision) == migrations.HEAD
    postgres.drop(location)


def test_a_current_database_is_opened_without_what_only_others_need(tmp_path: Path) -> None:
    code = (
        "import sys; from tollhouse.storage.database import Database; "
        "Database.open(sys.argv[1]).close(); Database.open(sys.argv[1]).close(); "
        "sys.exit(', '.join({'alembic', 'psycopg'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "x.db"], check=True, env={"PYTHONPATH": ":".join(sys.path)})
