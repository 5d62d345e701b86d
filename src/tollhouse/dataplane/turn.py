"""What leaves in a turn of the event loop: the records first, in one write, then the bytes.

Under load a turn has many calls, and each one's record must be in the journal before its bytes leave: a hold before the
request goes to the provider, a settlement before the last byte of its answer goes to the client. Written one by one
that is a system call a record, each letting other threads take the interpreter's lock in between; and a peer that fell
asleep is woken by every single byte. So records and bytes gather here, and leave when all that was ready has been told:
at most one more turn later.

`write` is for bytes that cannot wait, such as an event of a stream: what gathered goes first.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Protocol

from tollhouse.dataplane.refusals import unrecorded
from tollhouse.terms.errors import JournalError
from tollhouse.terms.events import Record
from tollhouse.terms.holds import Permit
from tollhouse.upstream.connection import Call

log = logging.getLogger("tollhouse.dataplane")


class Grouping(Protocol):
    """What a turn needs of the journal."""

    entered: list[Record]
    """What the next `flush` writes."""
    well: bool
    """Records may be added to `entered` without `enter`."""

    def enter(self, record: Record) -> None:
        """Take a record. Raises JournalError for a hold that cannot be written now."""

    def flush(self) -> None:
        """Write what was entered. Raises JournalError, which names the holds that are lost."""

    async def synced(self) -> None:
        """Returns when all flushed so far is on the disk. Raises JournalError."""


class Turn:
    """One per process. `lost` is told the attempts whose holds could not be written."""

    __slots__ = ("_answers", "_calls", "_journal", "_loop", "lost", "open")

    def __init__(self, journal: Grouping, loop: asyncio.AbstractEventLoop) -> None:
        self._journal = journal
        self._loop = loop
        self._calls: list[tuple[Permit, Call]] = []
        self._answers: list[tuple[asyncio.Transport, bytes]] = []
        self.open = False
        """Something waits for the end of this turn."""
        self.lost: Callable[[Collection[str]], None] = _nobody

    def _begin(self) -> None:
        self.open = True
        self._loop.call_soon(self.end)

    # --- what gathers

    def append(self, record: Record) -> None:
        """A record, in the journal by the end of this turn. Raises JournalError for a hold that cannot be written."""
        journal = self._journal
        if journal.well:
            journal.entered.append(record)
        else:
            journal.enter(record)
        if not self.open:
            self._begin()

    def call(self, permit: Permit, call: Call) -> None:
        """A request that has its connection, to be sent once its hold is in the journal."""
        self._calls.append((permit, call))
        if not self.open:
            self._begin()

    def answer(self, transport: asyncio.Transport, data: bytes) -> None:
        """The end of an answer, to be written once its settlement is in the journal."""
        if self.open:
            self._answers.append((transport, data))
        else:
            transport.write(data)

    # --- the end of it

    def end(self) -> None:
        """Write the records, then the bytes."""
        if not self.open:
            return  # ended before its time
        self.open = False
        try:
            self._journal.flush()
        except JournalError as error:
            if error.lost:
                log.error("%s; %d calls are refused", error, len(error.lost))
                self.lost(error.lost)
        calls, self._calls = self._calls, []
        for permit, call in calls:
            if permit.unrecorded:
                call.refuse(unrecorded())
            else:
                connection = call.connection
                if connection is not None:  # else given up meanwhile, or about to get another
                    connection.transmit(call)
        answers, self._answers = self._answers, []
        for transport, data in answers:
            if not transport.is_closing():
                transport.write(data)

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Bytes that leave now, after what waits."""
        if self.open:
            self.end()
        transport.write(data)

    async def synced(self) -> None:
        """Returns when every record so far is on the disk. Raises JournalError."""
        self.end()
        await self._journal.synced()


def _nobody(lost: Collection[str]) -> None:
    """Nobody holds anything yet."""
