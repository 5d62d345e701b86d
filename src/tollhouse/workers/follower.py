"""Makes committed changes of the directory effective, also when that fails at first.

A change is committed, then its part of the directory is read again and adopted. When the database cannot be read at
that moment, whoever made the change is told; but what is committed must hold: a key that somebody revoked may not go on
working until the next change comes along. So what could not be read stays owed, and is read again until it can be.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tollhouse.terms.errors import StorageError
from tollhouse.workers.tending import tend

_log = logging.getLogger("tollhouse.follower")

RETRY_S = 1.0
EVERYBODY = None
MAX_OWED = 1_000
"""Users owed one by one; with more, everybody is."""


class Follower:
    """`adopt` reads one user's part (None: everybody's) and makes it effective. Raises StorageError."""

    def __init__(self, adopt: Callable[[str | None], Awaitable[None]], *, retry_s: float = RETRY_S) -> None:
        self._adopt = adopt
        self._retry_s = retry_s
        self._owed: set[str | None] = set()
        self._task: asyncio.Task[None] | None = None

    async def follow(self, user_id: str | None) -> None:
        """Make a committed change effective. Raises StorageError when that is only going to be tried again."""
        try:
            await self._adopt(user_id)
        except StorageError:
            self._owe(user_id)
            raise

    def _owe(self, user_id: str | None) -> None:
        self._owed.add(user_id)
        if len(self._owed) > MAX_OWED or EVERYBODY in self._owed:
            self._owed = {EVERYBODY}
        if self._task is None:
            # Not as whoever's change it was that could not be adopted: what is caught up is of others too.
            self._task = tend(self._catch_up, "follower")

    async def _catch_up(self) -> None:
        while self._owed:
            await asyncio.sleep(self._retry_s)
            for user_id in list(self._owed):
                try:
                    await self._adopt(user_id)
                except StorageError as error:
                    _log.warning("a committed change is not effective yet: %s", error)
                    break
                self._owed.discard(user_id)
        self._task = None

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
