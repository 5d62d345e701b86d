"""Both engines: what a test of the storage says, it says of SQLite and of PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.postgres import Postgres
from tollhouse.storage.database import Database

ENGINES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres_schema(postgres: Postgres) -> str:
    """A database with today's tables, of which copies are made: ten times as fast as making them."""
    url = postgres.fresh_database()
    Database.open(url).close()
    return url


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def location(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a database without rows is, for `Database.open` and the settings."""
    if engine == "sqlite":
        yield str(tmp_path / "tollhouse.db")
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.fresh_database(like=request.getfixturevalue("postgres_schema"))
    yield url
    server.drop(url)


@pytest.fixture
def database(location: str) -> Iterator[Database]:
    """Open, with the newest schema and nothing in it."""
    opened = Database.open(location)
    yield opened
    opened.close()


@pytest.fixture
def empty(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes places for databases without even a table."""
    if engine == "sqlite":
        numbers = iter(range(100))
        yield lambda: str(tmp_path / f"{next(numbers)}.db")
        return
    server: Postgres = request.getfixturevalue("postgres")
    with ExitStack() as made:

        def one() -> str:
            url = server.fresh_database()
            made.callback(server.drop, url)
            return url

        yield one
