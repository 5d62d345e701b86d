"""The few calls the journal makes to the operating system, in one place, so that a test can let any of them fail."""

import os
from pathlib import Path


class Disk:
    """The real one. Every call may raise OSError; `write` may write less than it was given."""

    write = staticmethod(os.write)
    fdatasync = staticmethod(os.fdatasync)
    ftruncate = staticmethod(os.ftruncate)
    close = staticmethod(os.close)

    def create(self, path: Path) -> int:
        """A new file of mode 0600, open for appending; an existing one is an error."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def cut(self, path: Path, size: int) -> None:
        """Shorten a closed file, for good."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def rename(self, path: Path, to: Path) -> None:
        path.rename(to)

    def sync_directory(self, path: Path) -> None:
        """Make creations, removals and new names in a directory durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self, path: Path) -> int:
        """What an unprivileged writer may still fill."""
        standing = os.statvfs(path)
        return standing.f_bavail * standing.f_frsize
