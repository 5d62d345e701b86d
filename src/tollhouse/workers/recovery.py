"""Recovery at start: everything the journal of earlier runs says goes into the ledger, then those segments are deleted.

    HOLD and SETTLE   shipped as they are (most are in the ledger already; then nothing happens) HOLD alone        the
    process ended during the call, so the provider may have worked to the end: posted at the whole hold, kind `upper`,
                      code `crashed`
    SETTLE alone      its hold was shipped and deleted before: nothing to do

It may be interrupted anywhere and run again: an attempt is entered once, and segments are deleted only after the
commits.

Whether the machine was restarted (another boot id) makes no difference here. It matters for leases, where a node must
prove that it lost nothing before it gives unused money back; one process that is itself the authority has lent
nothing. After a power cut up to one sync interval of holds may be missing from the journal (durability `group`); no
mark could bring them back.
"""

import logging
import time
from collections.abc import Sequence

import msgspec

from tollhouse.journal import Damage, Journal
from tollhouse.ports import Ledger
from tollhouse.terms.events import HoldRecord, SettleKind, Settlement, SettleRecord
from tollhouse.terms.usage import Usage

CRASHED = "crashed"
"""The code of a call that was running when the process ended."""
BATCH_ROWS = 500

_log = logging.getLogger("tollhouse.recovery")


class RecoveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found and done."""

    segments: int
    settled: int
    """Settlements found, whether or not they were in the ledger already."""
    crashed: int
    """Holds without an end, posted at their whole amount."""
    crashed_nusd: int
    orphans: int
    damage: tuple[Damage, ...]
    torn_bytes: int
    clean: bool
    took_s: float


async def recover(journal: Journal, ledger: Ledger, *, now_ns: int) -> RecoveryReport:
    """Bring the ledger up to the journal of earlier runs. Before the first call is admitted.

    Raises StorageError or JournalError; then nothing is deleted and it can be run again.
    """
    began_s = time.monotonic()
    found = journal.replay()
    crashed = [crashed_settlement(hold, now_ns) for hold in found.open_holds]
    await _ship(ledger, found.settlements)
    await _ship(ledger, crashed)
    journal.forget()
    report = RecoveryReport(
        segments=found.segments,
        settled=len(found.settlements),
        crashed=len(crashed),
        crashed_nusd=sum(settlement.settle.amount_nusd for settlement in crashed),
        orphans=len(found.orphans),
        damage=found.damage,
        torn_bytes=found.torn_bytes,
        clean=found.clean,
        took_s=time.monotonic() - began_s,
    )
    _tell(report)
    return report


def crashed_settlement(hold: HoldRecord, now_ns: int) -> Settlement:
    """The end of a call nobody saw the end of: the whole hold."""
    settle = SettleRecord(
        attempt_id=hold.attempt_id,
        at_ns=now_ns,
        kind=SettleKind.UPPER,
        amount_nusd=hold.hold_nusd,
        usage=Usage(),
        served_model="",
        status=0,
        code=CRASHED,
        duration_us=0,
        first_byte_us=0,
        tokens=hold.hold_tokens,
    )
    return Settlement(hold, settle)


async def _ship(ledger: Ledger, settlements: Sequence[Settlement]) -> None:
    for start in range(0, len(settlements), BATCH_ROWS):
        await ledger.ship(settlements[start : start + BATCH_ROWS], ())


def _tell(report: RecoveryReport) -> None:
    for damage in report.damage:
        _log.error("the journal is damaged: %s: %s; the file is kept as *.damaged", damage.path, damage.what)
    if report.damage and report.orphans:
        _log.error("%d settlements have no hold; beside damage, some may be missing from the ledger", report.orphans)
    if report.crashed:
        _log.warning("%d calls were running when the last process ended; posted at their upper bound", report.crashed)
