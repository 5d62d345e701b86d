"""Who a request belongs to, for a proxy that asks before it lets one through: the same schemes as those of a call, and
nothing is taken.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tollhouse.dataplane.head import MalformedHead, read_head
from tollhouse.dataplane.identify import NotYet, identify
from tollhouse.ports import CallerStanding
from tollhouse.terms.errors import Refusal

if TYPE_CHECKING:
    from tollhouse.dataplane.plane import Plane

MAX_HEAD_BYTES = 1 << 20
"""The edge has bounded it already."""


async def who(plane: "Plane", method: str, headers: Sequence[tuple[bytes, bytes]]) -> CallerStanding:
    """`headers` have names in lower case. Raises Refusal: nobody, nobody any more, or a page of another origin."""
    try:
        head = read_head(method.encode("latin-1"), b"/", list(headers), "1.1", True, MAX_HEAD_BYTES)
        principal = identify(plane.schemes, head)
    except MalformedHead as error:
        raise Refusal(error.status, error.code, str(error)) from None
    except NotYet as not_yet:
        await asyncio.wait([not_yet.claim])
        principal = not_yet.claim.result()
    if principal.payers is not None:
        principal = principal.payers.with_room(plane.accounts)
    rooms = [room for holder in principal.holders for room in await plane.limiter.room(holder)]
    return CallerStanding(
        principal.user,
        principal.key.key_id,
        principal.team,
        principal.plan_id,
        tuple(plane.accounts.standing(budget) for budget in principal.budgets),
        tuple(rooms),
    )
