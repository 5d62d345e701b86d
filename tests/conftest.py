"""For all tests: hypothesis without a deadline, because a busy machine is not a bug, and with the same examples in
every run, because a test that fails by the luck of its numbers is of no use to whoever changed something else. New
examples are for the long runs (`make soak`, `make chaos`) and for `make test ARGS=--hypothesis-profile=new`.
"""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.postgres import Postgres

settings.register_profile("new", deadline=None)
settings.register_profile("tollhouse", deadline=None, derandomize=True, database=None)
settings.load_profile("tollhouse")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One cluster for the whole run; each test takes a `fresh_database()` of it."""
    with Postgres() as server:
        yield server
