"""TOLLHOUSE_HOME: one directory, one owner at a time, one secret that must never be lost."""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from pathlib import Path

from tollhouse.terms.errors import SettingsError

LOCK_NAME = "lock"
SECRET_NAME = "server-secret"  # noqa: S105  the file's name
MASTER_KEYS_NAME = "master-keys"
DATABASE_NAME = "tollhouse.db"
JOURNAL_NAME = "journal"
AUDIT_HEAD_NAME = "audit-head"
SOCKET_NAME = "admin.sock"
SECRET_VERSION = "v1"  # noqa: S105  its format
SECRET_BYTES = 32
MAX_SOCKET_PATH = 100
"""A Unix socket's path has 108 bytes at most (sun_path)."""


class Home:
    """The directory, made (0700) if it is not there and locked for as long as this object is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd = -1
        self._directory_fd = -1

    @property
    def database(self) -> Path:
        return self.path / DATABASE_NAME

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL_NAME

    @property
    def audit_head(self) -> Path:
        return self.path / AUDIT_HEAD_NAME

    def open(self) -> None:
        """Make and lock. Raises SettingsError when it cannot be used, or another process owns it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = stat.S_IMODE(self.path.stat().st_mode)
            if mode & 0o077:
                self.path.chmod(0o700)
            self._lock_fd = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES) and self.owner():
                raise SettingsError(
                    f"{self.path} is in use by process {self.owner()}, which does not answer on its socket (is it "
                    "starting or stopping?). Wait for it, stop it, or set TOLLHOUSE_HOME to another directory."
                ) from error
            raise SettingsError(f"cannot use {self.path} as TOLLHOUSE_HOME: {error.strerror or error}") from error
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, str(os.getpid()).encode(), 0)

    def owner(self) -> str:
        """The process id that last took the lock, for messages."""
        try:
            return (self.path / LOCK_NAME).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def close(self) -> None:
        for fd in (self._lock_fd, self._directory_fd):
            if fd >= 0:
                os.close(fd)
        self._lock_fd = self._directory_fd = -1

    def server_secret(self, *, used_by: str = "") -> bytes:
        """The secret under which keys are hashed; made once, on first use of a home.

        used_by   the database that has users already, wherever it is; empty when there is none

        Never made anew beside such a database: that would make every key invalid without anybody having decided it.
        Raises SettingsError when it is missing there, or damaged.
        """
        path = self.path / SECRET_NAME
        if not path.exists():
            if used_by:
                raise SettingsError(
                    f"{path} is missing, but the database {used_by} has users: without it no key can be checked. "
                    "Restore it from a backup; if it is lost, every key must be made anew: take another database to "
                    "start afresh."
                )
            self._write_secret(path)
        try:
            version, _, text = path.read_text("ascii").strip().partition(":")
            secret = bytes.fromhex(text)
        except (OSError, ValueError) as error:
            raise SettingsError(f"cannot read the server secret {path}: {error}") from error
        if version != SECRET_VERSION or len(secret) != SECRET_BYTES:
            raise SettingsError(f"{path} is not a server secret of version {SECRET_VERSION}; restore it from a backup")
        return secret

    def _write_secret(self, path: Path) -> None:
        """Whole or not at all: written aside, synced, renamed, and the directory synced."""
        aside = path.with_suffix(".new")
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, f"{SECRET_VERSION}:{secrets.token_hex(SECRET_BYTES)}\n".encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        aside.rename(path)
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def socket_path(self) -> str:
        """A path of the admin socket that fits; a long home is reached through its open directory (Linux)."""
        path = str(self.path / SOCKET_NAME)
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        if self._directory_fd < 0:
            self._directory_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._directory_fd}/{SOCKET_NAME}"
