"""Segment files of this run: their names, what is in them that still matters, and when they may go.

A segment goes when it is closed, every older one is gone, and all its records are shipped. *Every older one*, because
a hold may lie in an older segment than its settlement: if the newer went first, a crash would show the hold alone,
and recovery would charge a call that was free. So that one long call does not keep everything behind it, its hold is
written again into the newest segment once there are too many (`carry`).
"""

import errno
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from tollhouse.journal.disk import Disk
from tollhouse.journal.frames import FORMAT, SegmentHead, encode_head
from tollhouse.terms.events import HoldRecord, Record

SUFFIX = ".journal"
DAMAGED = ".damaged"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Segment:
    """One file. `size` is where its last good frame ends; `open` counts records of it that are not shipped."""

    __slots__ = ("descriptor", "failed", "mark", "open", "path", "size")

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = size
        self.open = 0
        self.failed = False
        """An fsync failed: another one would say nothing."""
        self.mark = 0
        """Size at which to look up from writing: to check the free space, or to begin a new segment."""


class Shelf:
    """All segments of this run, oldest first, and which attempt lies where. Not thread-safe; the journal's lock is
    around it.
    """

    def __init__(self, directory: Path, disk: Disk, first_number: int) -> None:
        self._directory = directory
        self._disk = disk
        self._next = first_number
        self._boot_id = _boot_id()
        self._segments: deque[Segment] = deque()
        self._holds: dict[str, tuple[Segment, HoldRecord]] = {}
        self._settles: dict[str, Segment] = {}

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def open_holds(self) -> int:
        return len(self._holds)

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self._segments)

    def create(self) -> Segment:
        """Begin a new segment file. Raises OSError and leaves nothing behind when it cannot."""
        path = self._directory / f"{self._next:016d}{SUFFIX}"
        self._next += 1
        descriptor = self._disk.create(path)
        try:
            head = encode_head(SegmentHead(FORMAT, self._boot_id, time.time_ns()))
            if self._disk.write(descriptor, head) != len(head):
                raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            self._disk.close(descriptor)
            self._disk.remove(path)
            raise
        segment = Segment(path, descriptor, len(head))
        self._segments.append(segment)
        return segment

    def written(self, records: Sequence[Record], segment: Segment) -> None:
        """These lie in this segment now."""
        holds, settles = self._holds, self._settles
        for record in records:
            if type(record) is HoldRecord:
                holds[record.attempt_id] = (segment, record)
            else:
                settles[record.attempt_id] = segment
        segment.open += len(records)

    def knows(self, attempt_id: str) -> bool:
        """Its hold is here and was not shipped yet."""
        return attempt_id in self._holds

    def shipped(self, attempt_ids: Iterable[str]) -> None:
        """These attempts are in the database: their records count no more."""
        holds, settles = self._holds, self._settles
        for attempt_id in attempt_ids:
            place = holds.pop(attempt_id, None)
            if place is not None:
                place[0].open -= 1
            segment = settles.pop(attempt_id, None)
            if segment is not None:
                segment.open -= 1

    def to_carry(self) -> list[HoldRecord]:
        """Holds in the oldest segment that wait for their settlement."""
        oldest = self._segments[0]
        return [
            record
            for attempt_id, (segment, record) in self._holds.items()
            if segment is oldest and attempt_id not in self._settles
        ]

    def left_behind(self, newest: Segment) -> list[HoldRecord]:
        """Holds in all segments but this one that wait for their settlement."""
        return [
            record
            for attempt_id, (segment, record) in self._holds.items()
            if segment is not newest and attempt_id not in self._settles
        ]

    def carried(self, record: HoldRecord, to: Segment) -> None:
        self._holds[record.attempt_id][0].open -= 1
        self.written((record,), to)

    def take_finished(self, active: Segment | None) -> list[Segment]:
        """Remove and return the oldest segments that may be deleted."""
        finished: list[Segment] = []
        while self._segments and self._segments[0] is not active and self._segments[0].open == 0:
            finished.append(self._segments.popleft())
        return finished


def find_segments(directory: Path) -> tuple[list[Path], int]:
    """Segments of earlier runs, oldest first, and the next free number."""
    numbers = [int(path.name[:16]) for path in directory.iterdir() if path.name[:16].isdecimal()]
    paths = sorted(path for path in directory.iterdir() if path.suffix == SUFFIX and path.stem.isdecimal())
    return paths, max(numbers, default=0) + 1


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
