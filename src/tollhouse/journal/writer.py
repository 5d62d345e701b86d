"""The writing end of the journal: the segment in use, what waits for a sync, and what to do when the disk says no.

Nothing here knows of threads. The journal's lock is around every call, and `take_work` hands what is slow (syncing,
closing, deleting) to the background thread, in the order in which it must be done.
"""

import errno
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from tollhouse.journal.disk import Disk
from tollhouse.journal.frames import CleanEnd, encode_records
from tollhouse.journal.options import JournalOptions
from tollhouse.journal.segments import Segment, Shelf
from tollhouse.terms.errors import JournalError
from tollhouse.terms.events import HoldRecord, Record, Settlement, SettleRecord


class Work(msgspec.Struct, frozen=True):
    """For the background thread: sync these, then close the retired, then delete the doomed."""

    frames: list[bytes]
    """What was written since the last work was taken; in memory until it is synced."""
    retired: list[Segment]
    doomed: list[Segment]
    active: Segment | None
    new_names: bool
    upto: int
    """So many records are on the disk once this is synced."""

    def to_sync(self) -> list[Segment]:
        """Segments with something unsynced. Another fsync of one that failed would say nothing."""
        dirty = [segment for segment in self.retired if not segment.failed]
        if self.active is not None and self.frames:
            dirty.append(self.active)
        return dirty


class Writer:
    """`ring` wakes the background thread: from its rest when there is work again, from gathering when there is enough
    for a sync at once.
    """

    def __init__(
        self,
        options: JournalOptions,
        disk: Disk,
        clock: Callable[[], float],
        first_number: int,
        ring: Callable[[], None],
    ) -> None:
        self._options = options
        self._disk = disk
        self._clock = clock
        self._ring = ring
        self._write = disk.write
        self._enough = options.sync_records if options.durability != "process" else 0
        """Records for a sync at once; 0 when nothing is synced."""
        self._max_unsynced = options.max_unsynced
        self.shelf = Shelf(options.directory, disk, first_number)
        self.active: Segment | None = None
        self.trouble = ""
        self.low_space = False
        self._taken = 0
        self.dropped = 0
        self.parked: dict[str, SettleRecord] = {}
        self.unsynced: list[bytes] = []
        self.unsynced_records = 0
        self.rewrite: list[bytes] = []
        """Frames whose fsync failed."""
        self._retired: list[Segment] = []
        self._doomed: list[Segment] = []
        self._new_names = False
        self._resting = False
        """The background thread sleeps until it is woken."""
        self._retry_at = float("-inf")
        self._check_at = float("-inf")

    @property
    def appended(self) -> int:
        """So many records were ever on their way to the disk."""
        return self._taken + self.unsynced_records

    @property
    def well(self) -> bool:
        """May holds be written: is there a segment, and room on the disk and in the queue before fsync?"""
        return self.active is not None and not self.low_space and self.unsynced_records < self._max_unsynced

    def write(self, records: Sequence[Record]) -> None:
        """All of these in one write, or none: then settlements are parked, and JournalError names the lost holds."""
        segment = self.active
        if segment is None:
            self.revive()
            segment = self.active
            if segment is None:
                self._refuse(records)
        try:
            self._put(segment, encode_records(records), len(records))
        except OSError as error:
            self._give_up(segment, error)
            self._refuse(records)
        except JournalError:  # one does not fit: none of them was written
            self._refuse(records)
        self.shelf.written(records, segment)
        if segment.size >= segment.mark:
            self._look_up(segment)

    def _put(self, segment: Segment, frames: bytes, records: int = 1) -> None:
        size = len(frames)
        if self._write(segment.descriptor, frames) != size:
            raise OSError(errno.ENOSPC, "the disk is full: a write was cut short")
        segment.size += size
        if self._enough:
            self.unsynced.append(frames)
            waited = self.unsynced_records
            self.unsynced_records = waited + records
            if self._resting:
                self._wake()
            elif waited < self._enough <= waited + records:
                self._ring()

    def _wake(self) -> None:
        if self._resting:
            self._resting = False
            self._ring()

    def _look_up(self, segment: Segment) -> None:
        """Every `check_bytes`: is there space, is the segment full."""
        self.look_at_space()
        if segment.size < self._options.segment_bytes:
            segment.mark = self._mark(segment)
            return
        self.retire()
        begun = self._begin()
        if begun is not None and len(self.shelf) > self._options.max_segments:
            self._carry(begun, self.shelf.to_carry())

    def renew(self) -> Path:
        """Begin a new segment and write all holds that wait into it: what lies in older ones goes once it is shipped.
        Raises JournalError.
        """
        self.retire()
        begun = self._begin()
        if begun is None:
            self._refuse(())
        self._carry(begun, self.shelf.left_behind(begun))
        return begun.path

    def _carry(self, segment: Segment, holds: Sequence[HoldRecord]) -> None:
        for hold in holds:
            try:
                self._put(segment, encode_records((hold,)))
            except OSError as error:
                self._give_up(segment, error)
                return  # the old segment stays; the next full one tries again
            self.shelf.carried(hold, segment)
        self._doom()

    def shipped(self, settlements: Iterable[Settlement]) -> None:
        self.shelf.shipped([settlement.hold.attempt_id for settlement in settlements])
        self._doom()

    def _doom(self) -> None:
        finished = self.shelf.take_finished(self.active)
        if finished:
            self._doomed.extend(finished)
            self._wake()

    # When it goes wrong

    def _give_up(self, segment: Segment, error: OSError) -> None:
        self.trouble = _words(error)
        self._retry_at = self._clock() + self._options.retry_s
        try:
            self._disk.ftruncate(segment.descriptor, segment.size)
        except OSError as worse:
            self.trouble += f"; and its unfinished end could not be cut off: {_words(worse)}"
        self.retire()

    def _refuse(self, records: Sequence[Record]) -> NoReturn:
        lost: list[str] = []
        for record in records:
            if isinstance(record, HoldRecord):
                lost.append(record.attempt_id)
            elif len(self.parked) < self._options.max_parked:
                self.parked[record.attempt_id] = record
            else:
                self.dropped += 1
        raise JournalError(f"the journal cannot be written: {self.trouble or 'the disk does not keep up'}", lost)

    def require_room(self, hold: HoldRecord) -> None:
        """After trouble: may a hold be written again? Looks at most every `retry_s`. Raises JournalError."""
        self.revive()
        if not self.well:
            self._refuse((hold,))

    def revive(self) -> None:
        """At most every `retry_s`: look at the free space again; begin a segment and write what waits."""
        now = self._clock()
        if self.low_space and now >= self._check_at:
            self.look_at_space()
        if self.active is not None or now < self._retry_at:
            return
        self._retry_at = now + self._options.retry_s
        segment = self._begin()
        if segment is not None:
            try:
                self._write_waiting(segment)
            except OSError as error:
                self._give_up(segment, error)

    def _write_waiting(self, segment: Segment) -> None:
        written = 0
        try:
            for frame in self.rewrite:
                self._put(segment, frame)
                written += 1
        finally:
            del self.rewrite[:written]
        for attempt_id, record in list(self.parked.items()):
            self._put(segment, encode_records((record,)))
            del self.parked[attempt_id]
            if self.shelf.knows(attempt_id):  # else it was shipped meanwhile
                self.shelf.written((record,), segment)

    def _begin(self) -> Segment | None:
        try:
            segment = self.shelf.create()
        except OSError as error:
            self.trouble = _words(error)
            self._retry_at = self._clock() + self._options.retry_s
            self._wake()
            return None
        segment.mark = self._mark(segment)
        self._new_names = True
        if not self.low_space:
            self.trouble = ""
        self.active = segment
        return segment

    def _mark(self, segment: Segment) -> int:
        return min(segment.size + self._options.check_bytes, self._options.segment_bytes)

    def retire(self) -> None:
        """Write no more to the segment in use."""
        if self.active is not None:
            self._retired.append(self.active)
            self.active = None
            self._wake()

    def look_at_space(self) -> None:
        self._check_at = self._clock() + self._options.retry_s
        was_low = self.low_space
        try:
            free = self._disk.free_bytes(self._options.directory)
        except OSError as error:
            self.low_space, self.trouble = True, _words(error)
        else:
            self.low_space = free < self._options.min_free_bytes
            if self.low_space:
                self.trouble = f"{free} bytes free, {self._options.min_free_bytes} wanted (journal.min_free_bytes)"
            elif was_low and self.active is not None:
                self.trouble = ""
        if self.low_space and not was_low:
            self._wake()

    # For the background thread

    def rest(self) -> bool:
        """Is there nothing to do? Then the thread may sleep: it is woken as soon as there is. Names and deletions wait
        for a segment to write to: while the directory fails there is no point in trying them more often.
        """
        well = self.active is not None
        self._resting = not (self.unsynced or self._retired or (well and (self._doomed or self._new_names)))
        return self._resting

    def take_work(self) -> Work:
        """Everything slow that is to be done now."""
        self._taken += self.unsynced_records
        work = Work(self.unsynced, self._retired, self._doomed, self.active, self._new_names, self._taken)
        self.unsynced, self._retired, self._doomed, self._new_names = [], [], [], False
        self.unsynced_records = 0
        return work

    def sync_failed(self, work: Work, error: OSError) -> None:
        """Trust nothing that was not acknowledged: it all goes into a new segment, now if that can be."""
        self.retire()
        for segment in self._retired:
            segment.failed = True
        self.rewrite = [*self.rewrite, *work.frames, *self.unsynced]
        self.unsynced = []
        self.unsynced_records = 0
        self._doomed = [*work.doomed, *self._doomed]  # not before what was carried out of them is synced
        self._new_names = True
        self.trouble = f"fsync failed: {_words(error)}"
        self.revive()

    def end(self, at_ns: int) -> None:
        """Write what waits and the mark of an orderly end, if that can be, and begin no more segments."""
        self.revive()
        if self.active is not None:
            try:
                self._put(self.active, encode_records((CleanEnd(at_ns),)))
            except OSError as error:
                self._give_up(self.active, error)
        self._retry_at = float("inf")


def _words(error: OSError) -> str:
    return error.strerror or str(error)
