"""Settled calls counted by what they have in common, once for everybody who wants to know of them.

The calls of a batch are of few kinds: to look at each of them once costs a tenth of what it costs when everybody looks
for himself.
"""

from collections.abc import Iterable

from tollhouse.terms.events import HoldRecord, SettleKind, Settlement

_VOIDED = SettleKind.VOIDED


class Tally:
    """Calls by one key with one client, in one conversation, answered alike."""

    __slots__ = ("at_ns", "calls", "hold", "nusd", "status")

    def __init__(self, hold: HoldRecord, status: int) -> None:
        self.hold = hold
        """Of one of them: key, user, client, session, end user and credential are those of all."""
        self.status = status
        self.calls = 0
        self.nusd = 0
        """What they cost together; a voided call costs nothing."""
        self.at_ns = 0
        """When the last of them was settled."""


def tallied(settlements: Iterable[Settlement]) -> list[Tally]:
    """In the order of the first call of each kind."""
    found: dict[tuple[object, ...], Tally] = {}
    last: tuple[object, ...] = ()
    tally: Tally | None = None
    for one in settlements:
        hold, settle = one.hold, one.settle
        status = settle.status
        kind = (hold.key_id, hold.user_id, hold.client, hold.session, hold.end_user, hold.credential_id, status)
        if kind != last or tally is None:  # or as before: not even its hash is asked for
            last = kind
            tally = found.get(kind)
            if tally is None:
                tally = found[kind] = Tally(hold, status)
        tally.calls += 1
        tally.at_ns = settle.at_ns
        if settle.kind is not _VOIDED:
            tally.nusd += settle.amount_nusd
    return list(found.values())
