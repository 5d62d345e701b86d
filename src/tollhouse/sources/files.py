"""`file:/path`: a file that may be replaced at any time, by a rename, by a symbolic link that is pointed elsewhere (as
Kubernetes does with mounted secrets), or by writing into it.

Each look reads the whole file: it is small, and dates can lie. What is new counts once two looks, `settle_s` apart,
found the same content in the same file, unchanged since: half of a key that is just being written is never taken for
one. The same holds for a file that is gone or empty: only when it still is at the next look, that is an error.
"""

import asyncio
import os
import stat
from pathlib import Path
from typing import Final

import msgspec

from tollhouse.ports import Reading
from tollhouse.terms.errors import SourceError

MAX_BYTES: Final = 65_536


class FileOptions(msgspec.Struct, frozen=True):
    """Settings under `key_sources.file`."""

    poll_s: float = 5.0
    """How often it is looked at."""
    settle_s: float = 1.0
    """How long something new must stay as it is."""
    timeout_s: float = 10.0
    """How long a look may take: the file may lie on a disk far away."""


DEFAULTS: Final = FileOptions()


class Look(msgspec.Struct, frozen=True):
    """What a look found: the content and which file it was (inode, size, time), or why there is none."""

    text: str = ""
    which: tuple[int, int, int, int] = (0, 0, 0, 0)
    error: str = ""


class File:
    """One file, watched."""

    def __init__(self, path: str, options: FileOptions = DEFAULTS) -> None:
        self.path = Path(path).expanduser()
        self.name = f"file:{path}"
        self._options = options
        self._last = ""
        self._unsettled: Look | None = None
        self._looking: asyncio.Future[Look] | None = None

    def now(self) -> str:
        """Raises SourceError."""
        look = self._look()
        if look.error:
            raise SourceError(look.error)
        return look.text

    async def read(self) -> Reading:
        look, before = await self._look_beside(), self._unsettled
        settled = look == before or bool(before is not None and before.error and look.error)
        if self._last and look.text != self._last and not settled:
            self._unsettled = look
            return Reading(self._last, again_s=self._options.settle_s)
        self._unsettled = look if look.error else None
        if look.error:
            raise SourceError(look.error)
        self._last = look.text
        return Reading(look.text, again_s=self._options.poll_s)

    async def _look_beside(self) -> Look:
        """In a thread, and never in a second one while the first hangs."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().run_in_executor(None, self._look)
            self._looking.add_done_callback(self._looked)
        try:
            return await asyncio.wait_for(asyncio.shield(self._looking), self._options.timeout_s)
        except TimeoutError:
            raise SourceError(f"{self.path} could not be read within {self._options.timeout_s:g} s") from None

    def _looked(self, _look: "asyncio.Future[Look]") -> None:
        self._looking = None

    def _look(self) -> Look:
        try:
            opened = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for a writer
            try:
                status = os.fstat(opened)
                if not stat.S_ISREG(status.st_mode):
                    return Look(error=f"{self.path} is not a file")
                data = os.read(opened, MAX_BYTES + 1)
            finally:
                os.close(opened)
            text = data.decode().strip()
        except OSError as error:
            return Look(error=f"cannot read {self.path}: {error.strerror}")
        except UnicodeDecodeError:
            return Look(error=f"{self.path} is not text")
        if len(data) > MAX_BYTES:
            return Look(error=f"{self.path} has more than {MAX_BYTES} bytes")
        if not text:
            return Look(error=f"{self.path} is empty")
        return Look(text, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
