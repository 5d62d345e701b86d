"""The right to call a provider. Nothing goes upstream without one of these two in hand."""

from tollhouse.terms.events import HoldRecord


class Hold:
    """Money set aside for one attempt, journalled before the attempt is sent; settled exactly once by who made it."""

    __slots__ = ("record", "unrecorded")

    def __init__(self, record: HoldRecord) -> None:
        self.record = record
        self.unrecorded = False
        """The journal could not write it: nothing may be sent."""


class ZeroHold:
    """A call that costs nothing by the provider's own word: counting tokens, listing models, probing health."""

    __slots__ = ("purpose",)
    unrecorded = False

    def __init__(self, purpose: str) -> None:
        self.purpose = purpose


Permit = Hold | ZeroHold
