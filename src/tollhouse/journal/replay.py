"""What the segments of earlier runs say, taken together."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tollhouse.journal.disk import Disk
from tollhouse.journal.frames import SegmentText, decode_segment
from tollhouse.terms.errors import JournalError
from tollhouse.terms.events import HoldRecord, Settlement, SettleRecord


class Damage(msgspec.Struct, frozen=True):
    """A segment that is not as it was written. It is kept under the name `….damaged` for a person to look at."""

    path: Path
    what: str


class Replay(msgspec.Struct, frozen=True):
    """All that recovery needs to know."""

    settlements: tuple[Settlement, ...] = ()
    """Holds with their settlement, shipped or not."""
    open_holds: tuple[HoldRecord, ...] = ()
    """Holds that were never settled: the process ended during the call."""
    orphans: tuple[SettleRecord, ...] = ()
    """Settlements without a hold. Normal when the hold's segment was shipped and deleted; only beside damage may one
    be news.
    """
    damage: tuple[Damage, ...] = ()
    torn_bytes: int = 0
    """Cut from the end of the last segment: a write that was never finished, hence never acknowledged."""
    segments: int = 0
    clean: bool = True
    """The last run ended in order (or there was none)."""


def replay_segments(paths: Sequence[Path], disk: Disk) -> Replay:
    """Read segments, oldest first. Only the last one may end in the middle of a frame; that tail is cut off.

    Of two records of one attempt the first counts: a failed fsync lets the journal write a record again. Raises
    JournalError when a segment cannot be read at all.
    """
    holds: dict[str, HoldRecord] = {}
    settles: dict[str, SettleRecord] = {}
    damage: list[Damage] = []
    torn_bytes = 0
    clean = True
    for path in paths:
        text = _text(path, disk)
        clean = text.clean
        what = list(text.bad_frames)
        if text.unfinished and path == paths[-1]:
            torn_bytes = text.tail_bytes
            _cut(path, text.good_bytes, disk)
        elif text.tail_bytes:
            what.append(f"{text.tail_bytes} unreadable bytes from byte {text.good_bytes}")
        if what:
            damage.append(Damage(path, "; ".join(what)))
        for record in text.records:
            if isinstance(record, HoldRecord):
                holds.setdefault(record.attempt_id, record)
            else:
                settles.setdefault(record.attempt_id, record)
    return Replay(
        settlements=tuple(Settlement(holds[name], settle) for name, settle in settles.items() if name in holds),
        open_holds=tuple(hold for name, hold in holds.items() if name not in settles),
        orphans=tuple(settle for name, settle in settles.items() if name not in holds),
        damage=tuple(damage),
        torn_bytes=torn_bytes,
        segments=len(paths),
        clean=clean,
    )


def _text(path: Path, disk: Disk) -> SegmentText:
    try:
        return decode_segment(disk.read(path))
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}; nothing was recovered or deleted") from error


def _cut(path: Path, size: int, disk: Disk) -> None:
    try:
        disk.cut(path, size)
    except OSError as error:
        raise JournalError(f"cannot cut the unfinished end off {path}: {error.strerror}") from error
