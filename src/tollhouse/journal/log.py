"""The journal: append-only, on the hot path, and the only thing that must be true after `kill -9`.

The rules:

1. `append` returns after one `write()`: the record is in the kernel's hands and survives the death of this process.
In durability `group` one
   background thread calls fdatasync at most every 5 ms or 64 records, so a power cut may lose that much; in `strict`
   the caller awaits `synced()`; in `process` nothing is synced.
2. A failed write leaves the file ending at its last good frame. The segment is given up; a new one is tried at most
once a second, and until
   one is there holds are refused (JournalError): a call that cannot be recorded is not made.
3. A settlement is never refused for good: one that cannot be written now is kept and written first when a segment is
there. 4. A failed fsync is fatal to its segment: Linux reports it once and may then forget. What was not acknowledged
is kept in memory until it is
   synced, and written again into a new segment.
5. A segment is deleted after the database's commit, in the background thread (`segments` says when).

`append` is called by one thread (the event loop); a lock parts it from the background thread, which never holds it
during fdatasync.
"""

import errno
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn, Self

from tollhouse.journal.disk import Disk
from tollhouse.journal.frames import MAX_FRAME_BYTES, CleanEnd, encode_record
from tollhouse.journal.options import JournalFacts, JournalOptions
from tollhouse.journal.replay import Replay, replay_segments
from tollhouse.journal.segments import DAMAGED, Segment, Shelf, find_segments
from tollhouse.journal.waiters import Waiters, tell
from tollhouse.terms.errors import JournalError
from tollhouse.terms.events import Record, Settlement, SettleRecord


class Journal:
    """This process's journal. Only the owner of the home directory's lock may open it."""

    def __init__(
        self, options: JournalOptions, disk: Disk, clock: Callable[[], float], old: list[Path], first_number: int
    ) -> None:
        self._options = options
        self._disk = disk
        self._clock = clock
        self._old = old
        self._replay: Replay | None = None
        self._write = disk.write
        self._retain = options.durability != "process"

        self._lock = threading.Lock()
        self._shelf = Shelf(options.directory, disk, first_number)
        self._active: Segment | None = None
        self._retired: list[Segment] = []  # full or broken: to be synced and closed by the background thread
        self._doomed: list[Segment] = []  # shipped: to be deleted by the background thread
        self._unsynced: list[bytes] = []  # frames written since the last fsync began
        self._rewrite: list[bytes] = []  # frames whose fsync failed
        self._parked: dict[str, SettleRecord] = {}
        self._dropped = 0
        self._appended = 0
        self._synced = 0
        self._waiters = Waiters()
        self._low_space = False
        self._trouble = ""
        self._retry_at = float("-inf")
        self._check_at = float("-inf")
        self._new_names = False

        self._cycle_lock = threading.Lock()
        self._wake = threading.Event()
        self._full = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="tollhouse-journal", daemon=True)

    @classmethod
    def open(
        cls, options: JournalOptions, *, disk: Disk | None = None, clock: Callable[[], float] = time.monotonic
    ) -> Self:
        """Create the directory (0700) if need be, begin a new segment, start the background thread. Raises
        JournalError.
        """
        try:
            options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            old, first_number = find_segments(options.directory)
        except OSError as error:
            raise JournalError(f"cannot open the journal in {options.directory}: {error.strerror}") from error
        journal = cls(options, disk or Disk(), clock, old, first_number)
        with journal._lock:
            journal._look_at_space()
            journal._revive()
        if journal._active is None:
            raise JournalError(f"cannot open the journal in {options.directory}: {journal._trouble}")
        journal._thread.start()
        return journal

    # The hot path

    def append(self, record: Record) -> None:
        """Write one record. It survives the death of the process when this returns.

        Raises JournalError when it could not be written: a hold is then as if it had never been; a settlement is kept
        and written as soon as possible, so the caller goes on and hands it to the shipper as always.
        """
        frame = encode_record(record)
        if len(frame) > MAX_FRAME_BYTES:
            raise JournalError(f"a record of {len(frame)} bytes does not fit the journal")
        settles = type(record) is SettleRecord
        with self._lock:
            segment = self._active
            if segment is None or not (settles or self._roomy()):
                segment = self._insist(record)
            self._put(segment, frame, record)
            if settles:
                self._shelf.settled(record.attempt_id, segment)
            else:
                self._shelf.held(record, segment)  # type: ignore[arg-type]
            if segment.size >= segment.mark:
                self._pause(segment)

    def _roomy(self) -> bool:
        return not self._low_space and len(self._unsynced) < self._options.max_unsynced

    def _put(self, segment: Segment, frame: bytes, record: Record) -> None:
        """One write; on failure the segment is given up and `record` refused or parked."""
        try:
            written = self._write(segment.descriptor, frame)
        except OSError as error:
            self._give_up(segment, error.strerror or str(error))
            self._refuse(record)
        if written != len(frame):
            self._give_up(segment, "the disk is full: a write was cut short")
            self._refuse(record)
        segment.size += written
        self._count(frame)

    def _count(self, frame: bytes) -> None:
        self._appended += 1
        if self._retain:
            unsynced = self._unsynced
            unsynced.append(frame)
            if len(unsynced) == 1:
                self._wake.set()
            elif len(unsynced) == self._options.sync_records:
                self._full.set()

    def _pause(self, segment: Segment) -> None:
        """Every `check_bytes`: is there space, is the segment full."""
        self._look_at_space()
        if segment.size < self._options.segment_bytes:
            segment.mark = self._mark(segment)
            return
        self._retire(segment)
        begun = self._begin()
        if begun is not None and len(self._shelf) > self._options.max_segments:
            self._carry(begun)

    def _carry(self, segment: Segment) -> None:
        for hold in self._shelf.to_carry():
            frame = encode_record(hold)
            try:
                self._put(segment, frame, hold)
            except JournalError:
                return  # the old segment stays; the next full one tries again
            self._shelf.carried(hold, segment)
        self._doom()

    # When it goes wrong

    def _give_up(self, segment: Segment, why: str) -> None:
        self._trouble = why
        self._retry_at = self._clock() + self._options.retry_s
        try:
            self._disk.ftruncate(segment.descriptor, segment.size)
        except OSError as error:
            self._trouble = f"{why}; and its unfinished end could not be cut off: {error.strerror}"
        self._retire(segment)
        self._wake.set()

    def _refuse(self, record: Record) -> NoReturn:
        if isinstance(record, SettleRecord):
            if len(self._parked) < self._options.max_parked:
                self._parked[record.attempt_id] = record
            else:
                self._dropped += 1
        raise JournalError(f"the journal cannot be written: {self._trouble or 'the disk does not keep up'}")

    def _insist(self, record: Record) -> Segment:
        """The segment to write to after trouble, or the refusal."""
        self._revive()
        if self._active is None or not (isinstance(record, SettleRecord) or self._roomy()):
            self._refuse(record)
        return self._active

    def _revive(self) -> None:
        """At most every `retry_s`: look at the free space again, begin a segment, write what waits."""
        now = self._clock()
        if self._low_space and now >= self._check_at:
            self._look_at_space()
        if self._active is not None or now < self._retry_at:
            return
        self._retry_at = now + self._options.retry_s
        segment = self._begin()
        if segment is not None:
            try:
                self._write_waiting(segment)
            except OSError as error:
                self._give_up(segment, error.strerror or str(error))

    def _write_waiting(self, segment: Segment) -> None:
        while self._rewrite:
            self._put_waiting(segment, self._rewrite[0])
            del self._rewrite[0]
        while self._parked:
            attempt_id, record = next(iter(self._parked.items()))
            self._put_waiting(segment, encode_record(record))
            del self._parked[attempt_id]
            if self._shelf.knows(attempt_id):
                self._shelf.settled(attempt_id, segment)

    def _put_waiting(self, segment: Segment, frame: bytes) -> None:
        written = self._write(segment.descriptor, frame)
        if written != len(frame):
            raise OSError(errno.ENOSPC, "No space left on device")
        segment.size += written
        self._count(frame)

    def _begin(self) -> Segment | None:
        try:
            segment = self._shelf.create()
        except OSError as error:
            self._trouble = error.strerror or str(error)
            self._retry_at = self._clock() + self._options.retry_s
            self._wake.set()
            return None
        segment.mark = self._mark(segment)
        self._new_names = True
        if not self._low_space:
            self._trouble = ""
        self._active = segment
        return segment

    def _mark(self, segment: Segment) -> int:
        return min(segment.size + self._options.check_bytes, self._options.segment_bytes)

    def _retire(self, segment: Segment) -> None:
        self._active = None
        self._retired.append(segment)
        self._wake.set()

    def _look_at_space(self) -> None:
        self._check_at = self._clock() + self._options.retry_s
        try:
            free = self._disk.free_bytes(self._options.directory)
        except OSError as error:
            free, self._trouble = 0, error.strerror or str(error)
        was_low, self._low_space = self._low_space, free < self._options.min_free_bytes
        if self._low_space:
            self._trouble = f"{free} bytes free, {self._options.min_free_bytes} wanted (journal.min_free_bytes)"
            self._wake.set()
        elif was_low and self._active is not None:
            self._trouble = ""

    # For the planes

    @property
    def healthy(self) -> bool:
        """May holds be taken? Asking also tries to get well again, at most every `retry_s`."""
        if self._active is None or self._low_space:
            with self._lock:
                self._revive()
        return self._active is not None and self._roomy()

    @property
    def facts(self) -> JournalFacts:
        healthy = self.healthy
        with self._lock:
            return JournalFacts(
                healthy=healthy,
                trouble=self._trouble,
                segments=len(self._shelf) + len(self._old),
                size_bytes=self._shelf.size_bytes,
                open_holds=self._shelf.open_holds,
                unsynced=len(self._unsynced),
                parked=len(self._parked),
                dropped=self._dropped,
                damaged=len(self._replay.damage) if self._replay else 0,
            )

    async def synced(self) -> None:
        """In durability `strict`: wait until everything appended so far is on the disk. Otherwise return at once.
        Raises JournalError.
        """
        if self._options.durability != "strict":
            return
        with self._lock:
            if self._synced >= self._appended:
                return
            synced = self._waiters.add(self._appended)
        self._wake.set()
        self._full.set()
        await synced

    def sync(self) -> None:
        """Block until what was appended is synced and what may be deleted is. For shutdown and tests."""
        self._cycle()

    def shipped(self, settlements: Iterable[Settlement]) -> None:
        """These are committed in the database: their records are needed no more."""
        with self._lock:
            for settlement in settlements:
                self._shelf.shipped(settlement.hold.attempt_id)
            self._doom()

    def _doom(self) -> None:
        finished = self._shelf.take_finished(self._active)
        if finished:
            self._doomed.extend(finished)
            self._wake.set()

    # Earlier runs

    def replay(self) -> Replay:
        """What earlier runs left. Reading it again gives the same until `forget` is called. Raises JournalError."""
        self._replay = replay_segments(self._old, self._disk)
        return self._replay

    def forget(self) -> None:
        """Everything `replay` said is in the database: delete the segments of earlier runs; damaged ones are renamed
        and kept.
        """
        if self._replay is None:
            raise JournalError("the journal's old segments were not read yet: replay them first")
        damaged = {damage.path for damage in self._replay.damage}
        try:
            for path in self._old:
                if path in damaged:
                    self._disk.rename(path, path.with_name(path.name + DAMAGED))
                else:
                    self._disk.remove(path)
            self._disk.sync_directory(self._options.directory)
        except OSError as error:
            raise JournalError(f"cannot delete {self._options.directory}'s old segments: {error.strerror}") from error
        self._old = []

    # The background thread

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(None if self._active is not None and not self._low_space else self._options.retry_s)
            self._wake.clear()
            if self._retain and not self._closing:
                self._full.wait(self._options.sync_interval_s)
                self._full.clear()
            self._cycle()

    def _cycle(self) -> None:
        """Get well if need be; sync what is dirty; close what is retired; delete what is doomed."""
        with self._cycle_lock:
            with self._lock:
                self._revive()
                frames, self._unsynced = self._unsynced, []
                retired, self._retired = self._retired, []
                doomed, self._doomed = self._doomed, []
                new_names, self._new_names = self._new_names, False
                active, upto = self._active, self._appended
            try:
                if self._retain:
                    self._sync([*retired, active] if active is not None and frames else retired, new_names)
            except OSError as error:
                self._sync_failed(frames, doomed, error)
            else:
                self._acknowledge(upto)
                self._delete(doomed)
            for segment in retired:
                self._close(segment)

    def _sync(self, segments: list[Segment], new_names: bool) -> None:
        for segment in segments:
            if not segment.failed:
                self._disk.fdatasync(segment.descriptor)
        if new_names:
            self._disk.sync_directory(self._options.directory)

    def _acknowledge(self, upto: int) -> None:
        with self._lock:
            if not self._rewrite:
                self._synced = upto
            ready = self._waiters.take(self._synced)
        tell(ready)

    def _sync_failed(self, frames: list[bytes], doomed: list[Segment], error: OSError) -> None:
        """Trust nothing that was not acknowledged: it all goes into a new segment, now if that can be."""
        with self._lock:
            self._trouble = f"fsync failed: {error.strerror}"
            self._rewrite = [*self._rewrite, *frames, *self._unsynced]
            self._unsynced = []
            self._doomed = [*doomed, *self._doomed]  # not before what was carried out of them is synced
            self._new_names = True
            for segment in self._retired:
                segment.failed = True
            if self._active is not None:
                self._active.failed = True
                self._retire(self._active)
            waiting = self._waiters.take_all()
            self._revive()
        tell(waiting, JournalError(f"the journal could not be synced: {error.strerror}"))

    def _close(self, segment: Segment) -> None:
        try:
            self._disk.close(segment.descriptor)
        except OSError as error:
            self._trouble = error.strerror or str(error)

    def _delete(self, doomed: list[Segment]) -> None:
        try:
            for segment in doomed:
                self._disk.remove(segment.path)
            if doomed and self._retain:
                self._disk.sync_directory(self._options.directory)
        except OSError as error:  # harmless: replayed at the next start, and known to the ledger
            self._trouble = error.strerror or str(error)

    def close(self) -> None:
        """Mark the end as orderly, sync, stop the thread. Harmless when repeated."""
        if self._closing:
            return
        with self._lock:
            self._revive()
            if self._active is not None:
                try:
                    self._put_waiting(self._active, encode_record(CleanEnd(time.time_ns())))
                except OSError as error:
                    self._give_up(self._active, error.strerror or str(error))
        self._closing = True
        self._wake.set()
        self._full.set()
        self._thread.join()
        with self._lock:
            if self._active is not None:
                self._retire(self._active)
            self._retry_at = float("inf")
        self._cycle()
