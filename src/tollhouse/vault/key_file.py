"""The file of master keys: one a line, `VERSION:BASE64`, for its owner's eyes only (0600).

It is changed whole or not at all: written aside, synced, put in its place, and the directory synced, before anybody
uses what is new in it. A master key that sealed something and was lost in a crash would be lost for good. Who changes
it holds the directory's lock meanwhile.
"""

import contextlib
import fcntl
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from tollhouse.terms.errors import SettingsError
from tollhouse.vault.master_keys import MasterKeys, new_line, parse_master_keys

MAX_BYTES = 65_536
HEAD = """\
# Master keys of Tollhouse: they open every secret that is stored in its database.
# Back this file up, apart from the database: without it those secrets are lost for good.
"""


def make(path: Path, version: int = 1) -> None:
    """A new file with one key of this version. Raises SettingsError when there is one already."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path.parent):
        aside = _written_aside(path, HEAD + new_line(version) + "\n")
        try:
            os.link(aside, path)
        except FileExistsError:
            raise SettingsError(f"{path} is there already; `tollhouse vault rotate` adds a new master key") from None
        finally:
            aside.unlink()
        _sync_directory(path.parent)


def append(path: Path, version: int) -> None:
    """One more key, of this version, which is the next. Raises SettingsError."""
    path = path.resolve()
    with _locked(path.parent):
        text, keys = _read(path)
        if keys.current != version - 1:
            raise SettingsError(f"{path} was changed meanwhile: its newest master key is {keys.current}; try again")
        _put(path, text.rstrip("\n") + "\n" + new_line(version) + "\n")


def forget(path: Path, versions: Collection[int]) -> None:
    """Without these versions; the newest one is never taken away. Raises SettingsError."""
    path = path.resolve()
    with _locked(path.parent):
        text, keys = _read(path)
        if keys.current in versions:
            raise SettingsError(f"{path}: master key {keys.current} is the newest, and stays")
        gone = {f"{version}:" for version in versions}
        kept = [line for line in text.splitlines() if f"{line.strip().partition(':')[0]}:" not in gone]
        left = parse_master_keys("\n".join(kept), where=str(path))
        if set(left.versions) != set(keys.versions) - set(versions):
            raise SettingsError(f"{path}: holds more than one master key in a line; take the old ones out yourself")
        _put(path, "\n".join(kept) + "\n")


def _read(path: Path) -> tuple[str, MasterKeys]:
    try:
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the master keys in {path}: {error}") from error
    if len(text) > MAX_BYTES:  # to write back what was read of it would lose the rest
        raise SettingsError(f"{path}: has more than {MAX_BYTES:,} bytes; take out what is no master key in use")
    return text, parse_master_keys(text, where=str(path))


def _put(path: Path, text: str) -> None:
    _written_aside(path, text).replace(path)
    _sync_directory(path.parent)


def _written_aside(path: Path, text: str) -> Path:
    aside = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()  # left by a crash
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(f"cannot write {aside}: {error.strerror}; the master keys stay as they are") from error
    with os.fdopen(fd, "w", encoding="ascii") as file:
        if os.geteuid() == 0:  # the gateway may run as somebody else: whose directory it is
            owner = path.parent.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)
        file.write(text)
        file.flush()
        os.fsync(fd)
    return aside


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
