"""The shipper: takes settlements from the hot path and brings them into the ledger, in batches, until they are there.

A settlement leaves the queue only after the ledger's commit; then the journal is told. Shipping one again is
harmless, so any failure is answered by trying again, later and later. The queue is bounded by admission: while
`full`, no new hold may be taken (503), and what is running fits.

Rows of refused requests are worth less: they have a queue of their own, and beyond its bound they are counted and
dropped, so that a flood of bad keys cannot fill the database.

A row the ledger can never take (a defect) must not stop the others: after an unexpected error things are shipped one
by one, and what fails alone is set aside. Its records stay in the journal, so the next start tries again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

import msgspec

from tollhouse.ports import Ledger
from tollhouse.terms.errors import StorageError
from tollhouse.terms.events import Refused, Settlement

_log = logging.getLogger("tollhouse.shipper")


class Shippable(Protocol):
    """The journal, as far as the shipper knows it."""

    def shipped(self, settlements: Sequence[Settlement]) -> None: ...


class ShipperOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How soon, how many."""

    interval_s: float = 0.1
    """The first waiting row is shipped after this at the latest. Whoever wants to read flushes first, and the journal
    has it meanwhile. Fewer, larger transactions cost less a row, but on a gateway's one core calls wait while a batch
    is made: at 1,000 calls a second 4.5 ms with 0.25 s, more than one call in a hundred.
    """
    eager_rows: int = 2_000
    """So many waiting rows are shipped at once. A commit writes every page it touched, one for each user at least: of
    200 users, 2,000 rows at a time cost a third less than 500.
    """
    batch_rows: int = 2_000
    """Most rows of one transaction: it has the database for 20 to 50 ms."""
    max_backlog: int = 50_000
    """Settlements waiting at which admission stops."""
    max_refused: int = 10_000
    """Refused requests waiting; more are dropped."""
    first_retry_s: float = 0.05
    last_retry_s: float = 2.0
    """Waiting after failures: doubled from the first to the last. Who is turned away by a full backlog meanwhile is
    served again within 5 s after the database is there.
    """


class ShipperFacts(msgspec.Struct, frozen=True, kw_only=True):
    """For `doctor` and `/metrics`."""

    backlog: int
    refused_backlog: int
    shipped: int
    refused_dropped: int
    set_aside: int
    """Settlements the ledger would not take; they are still in the journal."""
    failures: int
    trouble: str
    """The last failure in words; empty once shipping works again."""


DEFAULTS = ShipperOptions()


class Shipper:
    """One per process. `put` and `put_refused` belong to the event loop's thread."""

    def __init__(self, ledger: Ledger, journal: Shippable, options: ShipperOptions = DEFAULTS) -> None:
        self._ledger = ledger
        self._journal = journal
        self._options = options
        self._settlements: deque[Settlement] = deque()
        self._refused: deque[Refused] = deque()
        self._set_aside: list[Settlement] = []
        self.told: Callable[[Sequence[Settlement], Sequence[Refused]], None] = lambda settlements, refused: None
        """Called after each commit with what it brought into the ledger."""
        self._one_by_one = 0
        self._shipped = 0
        self._refused_dropped = 0
        self._failures = 0
        self._trouble = ""
        self.full = False
        """The ledger does not keep up: take no new holds."""
        self._room = options.max_backlog
        """Settlements waiting at which that is so."""
        self._wake_at = frozenset((1, options.eager_rows))
        """How many rows waiting the worker is told of: the first one, and enough of them."""
        self._some = asyncio.Event()
        self._many = asyncio.Event()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def put(self, settlement: Settlement) -> None:
        """Take a settlement that was journalled. Never refuses: its hold was admitted while there was room."""
        settlements = self._settlements
        settlements.append(settlement)
        waiting = len(settlements)
        if waiting >= self._room:
            self.full = True
        waiting += len(self._refused)
        if waiting in self._wake_at:
            self._wake(waiting)

    def put_refused(self, refused: Refused) -> None:
        """Take a row for the request log only, or drop and count it."""
        if len(self._refused) >= self._options.max_refused:
            self._refused_dropped += 1
            return
        self._refused.append(refused)
        waiting = len(self._settlements) + len(self._refused)
        if waiting in self._wake_at:
            self._wake(waiting)

    @property
    def facts(self) -> ShipperFacts:
        return ShipperFacts(
            backlog=len(self._settlements),
            refused_backlog=len(self._refused),
            shipped=self._shipped,
            refused_dropped=self._refused_dropped,
            set_aside=len(self._set_aside),
            failures=self._failures,
            trouble=self._trouble,
        )

    def start(self) -> None:
        """Begin shipping in the running loop."""
        self._task = asyncio.create_task(self._run(), name="tollhouse-shipper")

    async def stop(self, timeout_s: float) -> bool:
        """Ship what waits, then end; False when not all of it could be shipped in time (the journal still has it)."""
        done = await self.flush(timeout_s)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        return done

    async def flush(self, timeout_s: float) -> bool:
        """Ship all that waits now; False when that did not work in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._settlements or self._refused:
                    if not await self._ship_some():
                        await asyncio.sleep(self._options.first_retry_s)
        except TimeoutError:
            return False
        return not self._set_aside

    def _wake(self, waiting: int) -> None:
        (self._some if waiting == 1 else self._many).set()

    async def _run(self) -> None:
        pause_s = self._options.first_retry_s
        while True:
            await self._something()
            if await self._ship_some():
                pause_s = self._options.first_retry_s
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._options.last_retry_s)

    async def _something(self) -> None:
        """Return when `eager_rows` wait, or `interval_s` after the first."""
        if len(self._settlements) + len(self._refused) >= self._options.eager_rows:
            return
        self._some.clear()
        self._many.clear()
        if not (self._settlements or self._refused):
            await self._some.wait()
        try:
            async with asyncio.timeout(self._options.interval_s):
                await self._many.wait()
        except TimeoutError:
            return

    async def _ship_some(self) -> bool:
        """One transaction. False when it failed and it is better to wait before trying again."""
        async with self._turn:
            settlements, refused = self._next()
            if not (settlements or refused):
                return True
            try:
                await self._ledger.ship(settlements, refused)
            except StorageError as error:
                self._failed(str(error))
                return False
            except Exception as error:  # noqa: BLE001 - the worker loop's door: a defect must not stop all the others
                self._defect(settlements, refused, error)
                return True
            self._done(settlements, refused)
            return True

    def _next(self) -> tuple[list[Settlement], list[Refused]]:
        if self._one_by_one:
            settlements = list(islice(self._settlements, 1))
            return settlements, [] if settlements else list(islice(self._refused, 1))
        rows = self._options.batch_rows
        settlements = list(islice(self._settlements, rows))
        return settlements, list(islice(self._refused, rows - len(settlements)))

    def _done(self, settlements: Sequence[Settlement], refused: Sequence[Refused]) -> None:
        self._drop(settlements, refused)
        self._shipped += len(settlements)
        self._one_by_one = max(0, self._one_by_one - 1)
        self._trouble = ""
        if settlements:
            self._journal.shipped(settlements)
        try:
            self.told(settlements, refused)
        except Exception:  # noqa: BLE001 - the same door: money goes on
            _log.exception("what was shipped could not be looked at")

    def _drop(self, settlements: Sequence[Settlement], refused: Sequence[Refused]) -> None:
        for _ in settlements:
            self._settlements.popleft()
        for _ in refused:
            self._refused.popleft()
        self._room = self._options.max_backlog - len(self._set_aside)
        self.full = len(self._settlements) >= self._room

    def _failed(self, why: str) -> None:
        self._failures += 1
        if not self._trouble:
            _log.warning("settlements wait, the database does not take them: %s", why)
        self._trouble = why

    def _defect(self, settlements: Sequence[Settlement], refused: Sequence[Refused], error: Exception) -> None:
        self._failures += 1
        self._trouble = f"{type(error).__name__} while shipping"
        if len(settlements) + len(refused) > 1:
            self._one_by_one = len(settlements) + len(refused)
            return
        self._set_aside.extend(settlements)
        self._drop(settlements, refused)
        self._refused_dropped += len(refused)
        self._one_by_one = max(0, self._one_by_one - 1)
        for settlement in settlements:
            _log.error("the ledger cannot take %s (%s); set aside", settlement.hold.attempt_id, type(error).__name__)
