"""Where the journal lies, its bounds, and how it is."""

from pathlib import Path
from typing import Literal

import msgspec


class JournalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the journal lies, and its bounds."""

    directory: Path
    durability: Literal["process", "group", "strict"] = "group"
    sync_interval_s: float = 0.005
    sync_records: int = 64
    segment_bytes: int = 8 * 1024 * 1024
    max_segments: int = 8
    """More than this, and the oldest one's open holds are written again so that it can go."""
    min_free_bytes: int = 64 * 1024 * 1024
    """With less free space holds are refused; the rest is for settlements."""
    check_bytes: int = 1024 * 1024
    """Look at the free space after so many bytes."""
    retry_s: float = 1.0
    """After a failure, try again no sooner than this."""
    max_unsynced: int = 100_000
    """Records waiting for a disk that hangs in fsync; more holds are refused."""
    max_parked: int = 100_000
    """Settlements waiting for a journal that cannot be written."""


class JournalFacts(msgspec.Struct, frozen=True):
    """For `doctor` and `/metrics`."""

    healthy: bool
    trouble: str
    """The last failure in words; empty while all is well."""
    segments: int
    size_bytes: int
    open_holds: int
    """Attempts not shipped yet."""
    unsynced: int
    parked: int
    dropped: int
    """Settlements beyond `max_parked`: they are recovered at the hold's amount after a restart, unless shipped
    before.
    """
    damaged: int
