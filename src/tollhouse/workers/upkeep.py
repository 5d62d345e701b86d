"""Upkeep: keeps the request log and captured content within their bounds, a little at a time. Ledger entries are never
deleted.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tollhouse.terms.errors import StorageError
from tollhouse.workers.tending import tend

_log = logging.getLogger("tollhouse.upkeep")

INTERVAL_S = 600.0
PAUSE_S = 1.0
"""Between two bites while there is more to delete, so that shipping goes on."""


class Upkeep:
    """One task a process. `prune` deletes some rows and says how many; 0 means that nothing is left to do."""

    def __init__(self, prune: Callable[[], Awaitable[int]], *, interval_s: float = INTERVAL_S) -> None:
        self._prune = prune
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = tend(self._run, "upkeep")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                while await self._prune():  # noqa: ASYNC110  nobody tells when rows are old
                    await asyncio.sleep(PAUSE_S)
            except StorageError as error:
                _log.warning("what is too old could not be deleted now: %s", error)
            await asyncio.sleep(self._interval_s)
