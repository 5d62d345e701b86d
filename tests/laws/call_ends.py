"""Ways in which a call ends: what is seen of each, what must be entered for it, and what the provider may bill."""

from dataclasses import replace
from typing import NamedTuple

import msgspec

from tests.laws.budget_model import (
    CACHED_PUSD,
    INPUT_PUSD,
    NOTHING,
    OUTPUT_PUSD,
    OVERHEAD,
    SLACK,
    WRITTEN_PUSD,
    Amount,
    Call,
    Wish,
    nusd,
)
from tollhouse.rules.metering import CLIENT_GONE, COMPLETE, CUT_BY_UPSTREAM, NOT_SENT, Ending, error_status
from tollhouse.terms.seen import Seen
from tollhouse.terms.usage import Usage


class Finish(NamedTuple):
    """A way in which a call ends, and what must be entered then."""

    ending: Ending
    kind: str
    known: bool = False
    """The provider told the input."""
    over: bool = False
    """It used more than it could."""


VOIDED = Finish(error_status(429), "voided")
ENDS = (
    Finish(COMPLETE, "exact", known=True),
    Finish(COMPLETE, "exact", known=True),
    Finish(CUT_BY_UPSTREAM, "exact", known=True),
    Finish(CLIENT_GONE, "exact", known=True),
    Finish(COMPLETE, "exact", known=True, over=True),
    Finish(CLIENT_GONE, "estimated", known=True),
    Finish(CLIENT_GONE, "estimated"),
    Finish(CLIENT_GONE, "upper"),
    Finish(COMPLETE, "upper"),
    Finish(CUT_BY_UPSTREAM, "upper"),
    Finish(error_status(529), "upper"),
    *[VOIDED, Finish(NOT_SENT, "voided")] * 2,
)


def ended(call: Call, finish: Finish, inputs: int, outputs: int, cache: int) -> tuple[Seen, Amount, Amount]:
    """What is seen of an end; what must be entered for it; what the provider may bill."""
    wish = call.wish
    if finish.kind == "voided":
        return Seen(), NOTHING, NOTHING
    if finish.kind == "upper":
        return Seen(output_bound_tokens=outputs), call.hold, call.bill
    at_most = wish.body_bytes + OVERHEAD
    read = at_most * inputs // 2 * (3 if finish.over else 1)
    wrote = call.cap * outputs // 2
    price = (INPUT_PUSD, CACHED_PUSD, WRITTEN_PUSD)[cache]
    field = ("input_tokens", "cache_read_tokens", "cache_write_1h_tokens")[cache]
    used = Usage(**{field: read})  # type: ignore[arg-type]
    if finish.kind == "exact":
        amount = Amount(nusd(read * price + wrote * OUTPUT_PUSD), read + wrote)
        seen = Seen(usage=msgspec.structs.replace(used, output_tokens=wrote), input_known=True, final=True)
        return seen, free(amount, wish), free(amount, wish)
    if not finish.known:
        used, read, price = Usage(), at_most, WRITTEN_PUSD
    seen = Seen(usage=used, input_known=finish.known, output_bound_tokens=wrote)
    told = Amount(nusd(read * price + (wrote + SLACK) * OUTPUT_PUSD), read + wrote + SLACK)
    amount = Amount(min(told.nusd, call.hold.nusd), min(told.tokens, call.hold.tokens))
    may_write = min(wrote + SLACK, call.cap)
    bill = Amount(nusd(read * price + may_write * OUTPUT_PUSD), read + may_write)
    return seen, free(amount, wish), free(bill, wish)


def free(amount: Amount, wish: Wish) -> Amount:
    """Without a price nothing can be computed."""
    return amount if wish.priced else replace(amount, nusd=0)
