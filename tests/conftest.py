"""For all tests: hypothesis without a deadline, because a busy machine is not a bug, and with the same examples in
every run, because a test that fails by the luck of its numbers is of no use to whoever changed something else. New
examples are for the long runs (`make soak`, `make chaos`) and for `make test ARGS=--hypothesis-profile=new`.

And the services that several folders' tests need, each started by the first test that asks for it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.browser import Visit
    from tollhouse.storage.database import Database

settings.register_profile("new", deadline=None)
settings.register_profile("tollhouse", deadline=None, derandomize=True, database=None)
settings.load_profile("tollhouse")

ENGINES = ("sqlite", "postgresql")
"""A test with one of the fixtures `engine`, `location`, `database`, `empty` is played once on each."""
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets a fixture see, when it is torn down, whether its test failed."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """What a worker tells of a test may hold lone surrogates, sent on purpose, which the pipe cannot take."""
    return _encodable((yield))


def _encodable(tree: object) -> object:
    if isinstance(tree, str):
        return tree.encode("utf-8", "backslashreplace").decode()
    if isinstance(tree, dict):
        return {_encodable(name): _encodable(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(map(_encodable, tree))
    return tree


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One cluster for the whole run; each test takes a `fresh_database()` of it."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_schema(postgres: Postgres) -> str:
    """A database with today's tables, which tests use one after the other: making one takes ten times as long as
    emptying it.
    """
    from tollhouse.storage.database import Database  # noqa: PLC0415  for the tests that need it

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
    url: str = request.getfixturevalue("postgres_schema")
    server: Postgres = request.getfixturevalue("postgres")
    yield url
    server.wipe(url, keep="alembic_version")


@pytest.fixture
def database(location: str) -> Iterator[Database]:
    """Open, with the newest schema and nothing in it."""
    from tollhouse.storage.database import Database  # noqa: PLC0415  as above

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for one file of tests, in which nothing may call `asyncio.run` (see `tests.browser`)."""
    from tests.browser import chromium  # noqa: PLC0415  Playwright is slow to import, and few runs need it

    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Visit]:
    """A visitor with an empty cookie jar; when the test fails, what it saw is shown and kept."""
    from tests.browser import Visit  # noqa: PLC0415  as above

    visitor = Visit(browser)
    try:
        yield visitor
        if request.node.stash.get(FAILED, False):
            print(visitor.tell(tmp_path))
    finally:
        visitor.end()
