"""The head of the audit trail, kept in a file beside the database: what is cut off the trail's end is missed there.

It is written after the commit, whole or not at all. So after a crash it may be some records behind, never ahead.
"""

import contextlib
import os
from pathlib import Path

from tollhouse.rules.audit import parse_head
from tollhouse.terms.audit import Head

MAX_BYTES = 1_000


class Anchor:
    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Head | None:
        """None when there is none. Raises ValueError for a file that says no head, OSError."""
        try:
            with self.path.open("rb") as file:
                text = file.read(MAX_BYTES)
        except FileNotFoundError:
            return None
        return parse_head(text.decode("ascii", "replace"))

    def write(self, head: Head) -> None:
        """Raises OSError."""
        aside = self.path.with_suffix(".new")
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, f"{head}\n".encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        aside.rename(self.path)
