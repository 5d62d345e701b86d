"""The tests' own PostgreSQL: its databases are empty, apart from each other, and gone with the tests."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.postgres import Postgres

WAIT_S = 60.0


def test_each_database_is_empty_and_its_own(postgres: Postgres) -> None:
    first, second = postgres.fresh_database(), postgres.fresh_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE things (name text)")
        connection.execute("INSERT INTO things VALUES ('Zoë')")
    with psycopg.connect(second) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        encoding = connection.execute("SHOW server_encoding").fetchone()
    assert tables == (0,)
    assert encoding == ("UTF8",)

    copy = postgres.fresh_database(like=first)
    with psycopg.connect(copy) as connection:
        assert connection.execute("SELECT name FROM things").fetchall() == [("Zoë",)]


def test_a_wrong_password_is_refused(postgres: Postgres) -> None:
    url = postgres.fresh_database()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace(postgres.password, "wrong"))


def test_a_database_can_go_away_and_come_back(postgres: Postgres) -> None:
    url = postgres.fresh_database()
    with psycopg.connect(url, autocommit=True) as connection:
        postgres.close_door(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(url)
    postgres.open_door(url)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_nothing_of_it_outlives_tests_that_are_killed() -> None:
    """Here `SIGKILL` is `os._exit`: neither runs anything more."""
    program = (
        "import os; from tests.postgres import Postgres; server = Postgres().start();"
        "print(server._directory, (server._directory / 'data/postmaster.pid').open().readline(), flush=True);"
        "os._exit(9)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, timeout=WAIT_S)
    directory, pid = ended.stdout.split()
    until = time.monotonic() + WAIT_S
    while (Path(directory).exists() or Path(f"/proc/{pid}").exists()) and time.monotonic() < until:
        time.sleep(0.05)
    assert ended.returncode == 9
    assert not Path(directory).exists()
    assert not Path(f"/proc/{pid}").exists()
