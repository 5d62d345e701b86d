"""What `doctor` looks at on this machine: the home and its file modes, secrets, the listener, disk, clock."""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tollhouse.client.http import is_loopback
from tollhouse.storage.home import DATABASE_NAME, JOURNAL_NAME, LOCK_NAME, MASTER_KEYS_NAME, SECRET_NAME, Home
from tollhouse.terms.errors import SettingsError, StorageError

if TYPE_CHECKING:
    from tollhouse.settings import Settings

MIN_MASTER_KEY_CHARS = 20
MIN_MASTER_KEY_KINDS = 8
"""Different characters: `aaaaaaaa…` is long, too."""
EXAMPLE_KEYS = ("sk-1234", "changeme", "change-me", "secret", "password", "master", "test", "example")
MIN_CLOCK_S = 1_790_000_000
"""September 2026, before this program was written."""
MAX_FILES = 1_000
"""Journal files looked at."""


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: how it is, and what to do about it."""

    check: str
    level: Level
    detail: str
    remedy: str = ""


def fine(check: str, detail: str) -> Finding:
    return Finding(check, Level.OK, detail)


def warning(check: str, detail: str, remedy: str) -> Finding:
    return Finding(check, Level.WARNING, detail, remedy)


def problem(check: str, detail: str, remedy: str) -> Finding:
    return Finding(check, Level.PROBLEM, detail, remedy)


def local_findings(settings: "Settings") -> Iterator[Finding]:
    """Everything that can be seen without asking the gateway. Touches nothing."""
    yield from _home(settings)
    yield from _database(settings)
    yield from _master_key(settings.master_key)
    yield from _listener(settings)
    yield from _own_endpoints(settings)
    yield from _disk(settings)
    if time.time() < MIN_CLOCK_S:
        yield problem("clock", f"This machine thinks it is {time.strftime('%Y-%m-%d')}.", "Set the clock (NTP).")


def _home(settings: "Settings") -> Iterator[Finding]:
    home = settings.home
    if not home.is_dir():
        yield warning("home", f"{home} does not exist yet.", "The first `tollhouse serve` makes it.")
        return
    open_to_others = list(_too_open(home))
    for path, mode in open_to_others:
        yield problem("home", f"{path} can be read or written by others (mode {mode:o}).", f"chmod go= '{path}'")
    if not open_to_others:
        yield fine("home", f"{home} is yours alone.")
    yield _secret(home)


def _too_open(home: Path) -> Iterator[tuple[Path, int]]:
    named = [home, *(home / name for name in (LOCK_NAME, SECRET_NAME, JOURNAL_NAME, MASTER_KEYS_NAME))]
    data = [*home.glob(f"{DATABASE_NAME}*"), *sorted((home / JOURNAL_NAME).glob("*"))[:MAX_FILES]]
    for path in [*named, *data]:
        try:
            status = path.stat()
        except OSError:
            continue  # not made yet, or gone since
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            yield path, mode


def _secret(home: Path) -> Finding:
    path = home / SECRET_NAME
    if not path.exists() and not (home / DATABASE_NAME).exists():
        return warning("server secret", "Not made yet.", "The first `tollhouse serve` makes it.")
    try:
        Home(home).server_secret(used_by=str(home / DATABASE_NAME))
    except SettingsError as error:
        return problem("server secret", str(error), f"Restore {path} from a backup.")
    return fine("server secret", f"{path} is there. Back it up: without it no key works.")


def _database(settings: "Settings") -> Iterator[Finding]:
    """PostgreSQL, as one more client sees it; a file is the home's and the gateway's matter."""
    from tollhouse.settings import database_url  # noqa: PLC0415  as where the settings are read

    try:
        url = database_url(settings)
        if not url.startswith("postgres"):
            return
        from tollhouse.storage.database import look  # noqa: PLC0415  a second of imports, for few

        seen = look(url)
    except SettingsError as error:
        yield problem("database", str(error), "Correct storage.database_url.")
        return
    except StorageError as error:
        yield problem("database", str(error), "Start PostgreSQL, or correct storage.database_url.")
        return
    yield fine("database", f"PostgreSQL {seen.version}, {seen.place}.")
    if not seen.encrypted:
        yield warning(
            "database",
            "The connection to PostgreSQL crosses the network in the clear.",
            "Add sslmode=verify-full to storage.database_url.",
        )
    if not seen.durable:
        yield warning(
            "database",
            "PostgreSQL runs with fsync or full_page_writes off: a power cut can damage the ledger.",
            "Set both to on in postgresql.conf.",
        )


def _master_key(key: str) -> Iterator[Finding]:
    if not key:
        yield fine("master key", "None is set: only the Unix socket of this machine is owner.")
        return
    guessable = len(key) < MIN_MASTER_KEY_CHARS or len(set(key)) < MIN_MASTER_KEY_KINDS
    if guessable or key.lower() in EXAMPLE_KEYS:
        yield problem(
            "master key",
            f"It can be guessed ({len(key)} characters).",
            "Make a new one, such as by `openssl rand -base64 32`, and set TOLLHOUSE_MASTER_KEY.",
        )
    else:
        yield fine("master key", f"Set, {len(key)} characters.")


def _listener(settings: "Settings") -> Iterator[Finding]:
    listen = settings.listen
    where = f"{listen.host}:{listen.port}"
    if listen.tls_cert is not None and listen.tls_key is not None:
        yield from _tls(listen.tls_cert, listen.tls_key, where)
    elif is_loopback(listen.host):
        yield fine("listener", f"http://{where}, this machine only.")
    elif listen.allow_plain_http:
        yield warning(
            "listener", f"http://{where} is open to the network, as allowed.", "A TLS proxy has to stand in front."
        )
    else:
        yield problem(
            "listener",
            f"http://{where} would carry keys in the clear; `serve` refuses it.",
            "Set listen.tls_cert and listen.tls_key, or listen.allow_plain_http where a TLS proxy stands in front.",
        )
    if settings.metrics_open and not is_loopback(listen.host):
        yield warning("metrics", "/metrics is open to the network.", "Set metrics_open: false.")
    if settings.upstream.allow_plain_http:
        yield warning(
            "upstream", "Provider keys may cross the network in the clear.", "Set upstream.allow_plain_http: false."
        )


def _own_endpoints(settings: "Settings") -> Iterator[Finding]:
    vault = settings.vault
    if vault.own_base_urls and vault.allowed_networks:
        yield warning(
            "own endpoints",
            f"Users may have the gateway call into {', '.join(vault.allowed_networks)}.",
            "Keep vault.allowed_networks to what users are meant to reach.",
        )
    elif vault.own_base_urls:
        yield fine("own endpoints", "Users may name endpoints of their own, at public addresses.")


def _tls(certificate: Path, key: Path, where: str) -> Iterator[Finding]:
    unreadable = [path for path in (certificate, key) if not os.access(path, os.R_OK)]
    for path in unreadable:
        yield problem("listener", f"{path} cannot be read.", "Correct listen.tls_cert and listen.tls_key.")
    if unreadable:
        return
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & 0o007:
        yield problem("listener", f"{key} can be read by everybody (mode {mode:o}).", f"chmod o= '{key}'")
    else:
        yield fine("listener", f"https://{where}")


def _disk(settings: "Settings") -> Iterator[Finding]:
    if not settings.home.is_dir():
        return
    free = shutil.disk_usage(settings.home).free
    least = settings.storage.min_free_bytes
    mib = 1024 * 1024
    if free < least:
        yield problem(
            "disk",
            f"{free // mib:,} MiB are free in {settings.home}, less than storage.min_free_bytes: nothing is admitted.",
            "Make room.",
        )
    elif free < 4 * least:
        yield warning("disk", f"Only {free // mib:,} MiB are free in {settings.home}.", "Make room soon.")
    else:
        yield fine("disk", f"{free // mib:,} MiB free.")
