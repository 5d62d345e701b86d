"""What a running plane's books must say behind whatever was done to it: every hold settled, once, and nothing held."""

from collections import Counter, defaultdict

from tests.planes.plane import BUDGET, Running
from tollhouse.terms.events import HoldRecord, Settlement, SettleRecord


def by_session(running: Running) -> dict[str, list[Settlement]]:
    """Settlements on their way to the ledger, by the mark of the call."""
    found: dict[str, list[Settlement]] = defaultdict(list)
    for settlement in running.settlements:
        found[settlement.hold.session].append(settlement)
    return found


def holds_left(running: Running) -> int:
    return len(running.accounts.holds)


def double_settlements(running: Running) -> int:
    """How many times anything was settled again: in the journal, or on the way to the ledger."""
    journalled = Counter(one.attempt_id for one in running.journal.records if isinstance(one, SettleRecord))
    posted = Counter(one.hold.attempt_id for one in running.settlements)
    return sum(journalled.values()) - len(journalled) + sum(posted.values()) - len(posted)


def breaches_of(running: Running) -> list[str]:
    """What is wrong in the books when every call has ended."""
    running.gate.turn.end()  # the last one's settlement may still wait for the end of its turn
    held = {one.attempt_id for one in running.journal.records if isinstance(one, HoldRecord)}
    settled = {one.attempt_id for one in running.journal.records if isinstance(one, SettleRecord)}
    posted = sum(one.settle.amount_nusd for one in running.settlements)
    standing = running.accounts.standing(BUDGET)
    found = {
        "holds are left": holds_left(running),
        "money is held": standing.held,
        "settled twice": double_settlements(running),
        "held, never settled": len(held - settled),
        "settled, never held": len(settled - held),
        "settled, not on its way to the ledger": len(settled) - len(running.settlements),
        "nano-USD between budget and settlements": standing.posted - posted,
        "bytes of bodies are kept": running.gate.buffered_bytes,
    }
    return [f"{what}: {amount}" for what, amount in found.items() if amount]
