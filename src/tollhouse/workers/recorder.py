"""Brings notices from the board into the database, with what is owed of them to webhooks: from then on they are told,
whatever happens to this process. While the database cannot be written they wait, in their order.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from tollhouse.events import Board
from tollhouse.storage.database import Database
from tollhouse.storage.notices import record
from tollhouse.terms.errors import StorageError
from tollhouse.terms.notices import Notice
from tollhouse.terms.webhooks import RecordedNotice, Webhook
from tollhouse.workers.tending import tend

BATCH = 500
"""Most notices of one transaction."""
RETRY_S = 1.0
STOP_S = 5.0
"""How long the end of the process waits for the last ones to be written."""

_log = logging.getLogger("tollhouse.notices")


def new_notice_id(at_ns: int) -> str:
    """Grows with time, to the millisecond; then by chance."""
    return f"ntc_{at_ns // 1_000_000:011x}{secrets.token_hex(8)}"


class Recorder:
    """One per process, in the event loop's thread. `recorded` is called after each commit that owes something.

    declared     webhooks of the settings
    max_pending  most deliveries that one webhook waits for; more are not owed
    """

    def __init__(
        self,
        board: Board,
        database: Database,
        declared: Iterable[Webhook],
        recorded: Callable[[], None],
        *,
        max_pending: int,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._board = board
        self._database = database
        self._declared = tuple(declared)
        self._recorded = recorded
        self._max_pending = max_pending
        self._now_ns = now_ns
        self._taken: list[RecordedNotice] = []
        """From the board, not yet in the database."""
        self._more: deque[Notice] = deque()
        self._again = False
        """The last commit failed, or only its answer was lost."""
        self._last_ms = 0
        self._some = asyncio.Event()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._board.told = self._some.set
        self._some.set()
        self._task = tend(self._run, "recorder")

    def add(self, notices: Iterable[Notice]) -> None:
        """What need not wait on the board, which is bounded; only such as are told once."""
        self._more.extend(notices)
        self._some.set()

    async def stop(self) -> None:
        """Write down what is on the board; what cannot be is lost with the process."""
        self._board.told = lambda: None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        try:
            async with asyncio.timeout(STOP_S):
                await self.flush()
        except (StorageError, TimeoutError) as error:
            why = str(error) or "the database does not answer"
            _log.error("%d notices could not be written down: %s", len(self._board) + len(self._taken), why)

    async def flush(self) -> None:
        """Write down what is on the board now. Raises StorageError."""
        async with self._turn:
            while self._taken or self._more or len(self._board):
                await self._write()

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            try:
                await self.flush()
            except StorageError as error:
                _log.warning("notices wait, the database does not take them: %s", error)
                self._again = True
                await asyncio.sleep(RETRY_S)
                self._some.set()

    async def _write(self) -> None:
        if not self._taken:
            some = self._board.take(BATCH)
            some += [self._dated(self._more.popleft()) for _ in range(min(BATCH - len(some), len(self._more)))]
            self._taken = [RecordedNotice(self._next_id(notice), notice) for notice in some]
        fresh: Sequence[RecordedNotice] = await self._database.run(
            lambda connection: record(connection, self._taken, self._declared, max_pending=self._max_pending)
        )
        again, self._again, self._taken = self._again, False, []
        for one in fresh:
            if one.notice.once:  # the board says the others
                _log.warning("%s: %s", one.notice.kind.value, one.notice.text)
        if fresh or again:
            self._recorded()

    def _dated(self, notice: Notice) -> Notice:
        return notice if notice.at_ns else msgspec.structs.replace(notice, at_ns=self._now_ns())

    def _next_id(self, notice: Notice) -> str:
        """Ids keep the order in which notices were taken."""
        self._last_ms = max(self._last_ms + 1, notice.at_ns // 1_000_000)
        return new_notice_id(self._last_ms * 1_000_000)
