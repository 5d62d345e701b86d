"""The journal: append-only, on the hot path, and the only thing that must be true after `kill -9`.

The rules:

1. `flush` returns after one `write()` of all records entered since the last one: they are in the kernel's hands and
   survive the death of this process; `append` is both for a single record. In durability `group` one background thread
   calls fdatasync at most every 5 ms or 64 records, so a power cut may lose that much; in `strict` the caller awaits
   `synced()`; in `process` nothing is synced.
2. A failed write leaves the file ending at its last good frame. The segment is given up; a new one is tried at most
   once a second, and until one is there holds are refused: a call that cannot be recorded is not made.
3. A settlement is never refused for good: one that cannot be written now is kept, and written first when it can be.
4. A failed fsync is fatal to its segment: Linux reports it once and may then forget. What was not acknowledged is
   kept in memory until it is synced, and written again into a new segment.
5. A segment is deleted after the database's commit, in the background thread (`segments` says when).

Records are entered and flushed by one thread (the event loop). A lock parts it from the background thread, which never
holds it while it syncs.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from tollhouse.journal.alarm import Alarm
from tollhouse.journal.disk import Disk
from tollhouse.journal.options import JournalFacts, JournalOptions
from tollhouse.journal.replay import Replay, replay_segments
from tollhouse.journal.segments import DAMAGED, Segment, find_segments
from tollhouse.journal.waiters import Waiters, tell
from tollhouse.journal.writer import Work, Writer
from tollhouse.terms.errors import JournalError
from tollhouse.terms.events import HoldRecord, Record, Settlement


class Journal:
    """This process's journal. Only the owner of the home directory's lock may open it."""

    def __init__(
        self,
        options: JournalOptions,
        disk: Disk,
        clock: Callable[[], float],
        old: list[Path],
        found: Replay,
        first_number: int,
    ) -> None:
        self._options = options
        self._disk = disk
        self._old = old
        self._found = found
        self._damaged = len(found.damage)
        self._retain = options.durability != "process"
        self._alarm = Alarm()
        self._lock = threading.Lock()
        self._writer = Writer(options, disk, clock, first_number, self._alarm.ring)
        self.entered: list[Record] = []
        """Not written yet: what the next `flush` writes."""
        self.well = False
        """The last write left room for more: until the next one, holds may be entered without `enter`."""
        self._synced = 0
        self._waiters = Waiters()
        self._cycle_lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="tollhouse-journal", daemon=True)

    @classmethod
    def open(
        cls, options: JournalOptions, *, disk: Disk | None = None, clock: Callable[[], float] = time.monotonic
    ) -> Self:
        """Create the directory (0700) if need be, read what earlier runs left, begin a segment, start the thread.

        Raises JournalError.
        """
        try:
            options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            old, first_number = find_segments(options.directory)
        except OSError as error:
            raise JournalError(f"cannot open the journal in {options.directory}: {error.strerror}") from error
        disk = disk or Disk()
        found = replay_segments(old, disk)  # before there is a newer segment: only the last may end in a torn tail
        journal = cls(options, disk, clock, old, found, first_number)
        writer = journal._writer
        writer.look_at_space()
        writer.revive()
        if writer.active is None:
            raise JournalError(f"cannot open the journal in {options.directory}: {writer.trouble}")
        journal._thread.start()
        return journal

    def append(self, record: Record) -> None:
        """Write one record. It survives the death of the process when this returns.

        Raises JournalError when it could not be written. A hold is then as if it had never been; a settlement is kept
        and written as soon as possible, so the caller goes on and hands it to the shipper as always.
        """
        self.enter(record)
        self.flush()

    def enter(self, record: Record) -> None:
        """Take a record that the next `flush` writes. Raises JournalError for a hold when none can be written now."""
        if type(record) is HoldRecord and not self.well:
            with self._lock:
                self._writer.require_room(record)
            self.well = True
        self.entered.append(record)

    def flush(self) -> None:
        """Write what was entered, in one write. It survives the death of the process when this returns.

        Raises JournalError when it could not be written; `lost` names the holds among it, which are as if they had
        never been. Settlements are kept and written as soon as possible, so the caller goes on.
        """
        records = self.entered
        if records:
            self.entered = []
            with self._lock:
                try:
                    self._writer.write(records)
                finally:
                    self.well = self._writer.well

    async def synced(self) -> None:
        """In durability `strict`: wait until everything entered so far is on the disk. Else return at once.

        Raises JournalError when the disk refused; the records are then written again elsewhere as soon as possible.
        """
        if self._options.durability != "strict":
            return
        self.flush()
        with self._lock:
            if self._writer.rewrite:
                raise JournalError(f"the journal could not be synced: {self._writer.trouble}")
            if self._synced >= self._writer.appended:
                return
            synced = self._waiters.add(self._writer.appended)
        self._alarm.ring()
        await synced

    def shipped(self, settlements: Iterable[Settlement]) -> None:
        """These are committed in the database: their records are needed no more."""
        with self._lock:
            self._writer.shipped(settlements)

    @property
    def healthy(self) -> bool:
        """May holds be taken? Asking also tries to get well again, at most every `retry_s`."""
        writer = self._writer
        if writer.active is None or writer.low_space:
            with self._lock:
                writer.revive()
        return writer.well

    @property
    def facts(self) -> JournalFacts:
        """How it is, for people."""
        healthy = self.healthy
        with self._lock:
            writer = self._writer
            return JournalFacts(
                healthy=healthy,
                trouble=writer.trouble,
                segments=len(writer.shelf) + len(self._old),
                size_bytes=writer.shelf.size_bytes,
                open_holds=writer.shelf.open_holds,
                unsynced=writer.unsynced_records,
                parked=len(writer.parked),
                dropped=writer.dropped,
                damaged=self._damaged,
            )

    def renew(self) -> Path:
        """Begin a new segment, so that those before it go as soon as all that is settled is shipped. Raises
        JournalError.
        """
        self.flush()
        with self._lock:
            return self._writer.renew()

    # Earlier runs

    def replay(self) -> Replay:
        """What earlier runs left; empty after `forget`. It stays on the disk until then, so a crash changes nothing."""
        return self._found

    def forget(self) -> None:
        """All that `replay` said is in the database: delete the segments of earlier runs, rename and keep damaged ones.

        Raises JournalError.
        """
        damaged = {damage.path for damage in self._found.damage}
        try:
            for path in self._old:
                if path in damaged:
                    self._disk.rename(path, path.with_name(path.name + DAMAGED))
                else:
                    self._disk.remove(path)
            self._disk.sync_directory(self._options.directory)
        except OSError as error:
            raise JournalError(f"cannot delete old segments in {self._options.directory}: {error.strerror}") from error
        self._old = []
        self._damaged = len(damaged)
        self._found = Replay()

    # The background thread

    def sync(self) -> None:
        """Block until what was flushed is synced and what may be deleted is. For shutdown and tests."""
        self._cycle()

    def _run(self) -> None:
        """Records gather for `sync_interval_s` between two cycles; `append` wakes nobody meanwhile, unless there are
        enough. Only after an interval without any does the thread sleep until it is woken.
        """
        while not self._closing:
            self._gather()
            with self._lock:
                idle = self._writer.rest()
            if idle:
                self._alarm.sleep(None if self.healthy else self._options.retry_s)
                self._gather()
            self._cycle()

    def _gather(self) -> None:
        enough = self._writer.unsynced_records >= self._options.sync_records
        if self._retain and not (self._closing or self._waiters or enough):
            self._alarm.sleep(self._options.sync_interval_s)

    def _cycle(self) -> None:
        """Get well if need be; sync what is dirty; close what is retired; delete what is doomed."""
        with self._cycle_lock:
            with self._lock:
                self._writer.revive()
                work = self._writer.take_work()
            try:
                self._sync(work)
            except OSError as error:
                with self._lock:
                    self._writer.sync_failed(work, error)
                    waiting = self._waiters.take_all()
                tell(waiting, JournalError(f"the journal could not be synced: {error.strerror}"))
            else:
                self._acknowledge(work)
                if work.doomed:
                    self._delete(work.doomed)
            if work.retired:
                self._close(work.retired)

    def _sync(self, work: Work) -> None:
        if not self._retain:
            return
        for segment in work.to_sync():
            self._disk.fdatasync(segment.descriptor)
        if work.new_names:
            self._disk.sync_directory(self._options.directory)

    def _acknowledge(self, work: Work) -> None:
        with self._lock:
            self._synced = work.upto
            ready = self._waiters.take(self._synced)
        if ready:
            tell(ready)

    def _close(self, segments: list[Segment]) -> None:
        for segment in segments:
            try:
                self._disk.close(segment.descriptor)
            except OSError as error:  # Linux has freed the descriptor all the same
                self._writer.trouble = error.strerror or str(error)

    def _delete(self, segments: list[Segment]) -> None:
        try:
            for segment in segments:
                self._disk.remove(segment.path)
            if self._retain:
                self._disk.sync_directory(self._options.directory)
        except OSError as error:  # harmless: replayed at the next start, and known to the ledger
            self._writer.trouble = error.strerror or str(error)

    def close(self) -> None:
        """Mark the end as orderly, sync, stop the thread. Harmless when repeated."""
        if self._closing:
            return
        with contextlib.suppress(JournalError):  # settlements are parked, and written by the end if that can be
            self.flush()
        with self._lock:
            self._writer.end(time.time_ns())
        self._closing = True
        self._alarm.ring()
        self._thread.join()
        with self._lock:
            self._writer.retire()
        self._cycle()
