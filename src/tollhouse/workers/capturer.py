"""The capturer: seals what was asked and answered under keys that have their content kept, and stores it.

Calls hand their content over and go on. It waits here in memory, bounded by number and by bytes; when the database or
the master key cannot keep up, what comes is dropped and counted. It is sealed before it leaves this process's memory.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from tollhouse.storage.captures import Capture, row_of
from tollhouse.terms.captures import Content
from tollhouse.terms.errors import StorageError, VaultError
from tollhouse.vault import Vault, seal_content
from tollhouse.vault.envelope import read
from tollhouse.workers.tending import tend

_log = logging.getLogger("tollhouse.capturer")

BATCH_ROWS = 50
RETRY_S = 1.0


class CapturerOptions(msgspec.Struct, frozen=True):
    """Settings under `capture`."""

    max_waiting: int = 1_000
    max_waiting_bytes: int = 64 * 1024 * 1024


class Capturer:
    """One a process. `put` belongs to the event loop's thread; `write` stores rows, or raises StorageError."""

    def __init__(
        self, vault: Vault, write: Callable[[Sequence[Capture]], Awaitable[None]], options: CapturerOptions
    ) -> None:
        self._vault = vault
        self._write = write
        self._options = options
        self._waiting: deque[Content] = deque()
        self._waiting_bytes = 0
        self.kept = 0
        self.dropped = 0
        self._some = asyncio.Event()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def put(self, content: Content) -> None:
        """Take the content of a call, or drop and count it."""
        options = self._options
        size = content.size_bytes
        if len(self._waiting) >= options.max_waiting or self._waiting_bytes + size > options.max_waiting_bytes:
            self._drop(1, "the database does not keep up")
            return
        self._waiting.append(content)
        self._waiting_bytes += size
        self._some.set()

    def start(self) -> None:
        self._task = tend(self._run, "capturer")

    async def stop(self, timeout_s: float) -> None:
        """Store what waits, then end; what cannot be stored in time is lost, and counted."""
        await self.flush(timeout_s)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._waiting:
            self._drop(len(self._waiting), "the gateway ends")
            self._waiting.clear()
            self._waiting_bytes = 0

    async def flush(self, timeout_s: float) -> bool:
        """Store all that waits now; False when that did not work in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._waiting:
                    if not await self._store_some():
                        await asyncio.sleep(RETRY_S / 10)
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        while True:
            self._some.clear()
            if not self._waiting:
                await self._some.wait()
            if not await self._store_some():
                await asyncio.sleep(RETRY_S)

    async def _store_some(self) -> bool:
        """One transaction; False when the database did not take it, and it waits on."""
        async with self._turn:
            some = [self._waiting[at] for at in range(min(BATCH_ROWS, len(self._waiting)))]
            if not some:
                return True
            try:
                rows = await asyncio.to_thread(self._seal, some)
                await self._write(rows)
            except StorageError as error:
                _log.warning("captured content waits, the database does not take it: %s", error)
                return False
            except VaultError as error:
                self._forget(some)
                self._drop(len(some), str(error))
                return True
            self._forget(some)
            self.kept += len(some)
            return True

    def _seal(self, some: Sequence[Content]) -> list[Capture]:
        rows = []
        for content in some:
            sealed = seal_content(self._vault, content)
            rows.append(row_of(content, sealed, read(sealed).version))
        return rows

    def _forget(self, some: Sequence[Content]) -> None:
        for content in some:
            self._waiting.popleft()
            self._waiting_bytes -= content.size_bytes

    def _drop(self, number: int, why: str) -> None:
        if not self.dropped:
            _log.warning("captured content is dropped: %s", why)
        self.dropped += number
