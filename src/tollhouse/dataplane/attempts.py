"""Walks the plan: sends one attempt upstream and waits for its end, while the bytes flow past by callbacks.

Another attempt may follow only while no byte of the answer has reached the client; each has its own hold.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tollhouse.dataplane.head import RequestHead
from tollhouse.dataplane.holds import MoneyHold
from tollhouse.dataplane.plan import Attempt
from tollhouse.dataplane.relay import Relay
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import Refusal, UpstreamClosed
from tollhouse.upstream.providers import Lane

if TYPE_CHECKING:
    from tollhouse.dataplane.exchange import Exchange

REFUSED = frozenset((401, 403))
"""How a provider says that it does not take this credential (or not for this)."""
RETRY_AFTER_S = 15
"""When to ask again for a provider whose credential cannot be read."""
COPIED_BYTES = 16 * 1024
"""A body up to this size is joined with its head; for a larger one a second piece to write costs less than a copy."""


def send(exchange: "Exchange", hold: MoneyHold, relay: Relay, attempt: Attempt, ask: Ask) -> Awaitable[None]:
    """Send one attempt; what is returned is to be awaited, until it is over. How it ended, `ended` says.

    Both raise UpstreamError; `sent` says whether the provider may have begun to work.
    """
    assert attempt.lane is not None
    exchange.provider_name = attempt.provider.name
    cap, add_usage = hold.cap, ask.stream and not ask.include_usage
    body = exchange.body[0]  # whole, since it was read
    if cap.edit or add_usage or attempt.upstream_model != ask.model:
        body = exchange.dialect.edit(
            body,
            ask,
            model=attempt.upstream_model if attempt.upstream_model != ask.model else None,
            max_output_tokens=cap.max_output_tokens if cap.edit else None,
            include_usage=add_usage,
        )
    relay.message = request_bytes(exchange.head, attempt.lane, body)
    del body  # a long stream must not hold a large body
    if exchange.disconnected:
        raise UpstreamClosed("the client is gone", sent=False)
    starting = exchange.plane.pool.start(hold, attempt.provider.origin, relay)
    return relay if starting is None else both(starting, relay)


async def both(starting: Awaitable[None], relay: Relay) -> None:
    """The end of an attempt that had to wait for a connection."""
    await starting
    await relay


def ended(exchange: "Exchange", relay: Relay, attempt: Attempt) -> None:
    """An attempt is over: raise what ended it early, and tell of a credential that the provider does not take."""
    if relay.status in REFUSED:
        exchange.plane.credential_refused(attempt.provider, attempt.credential_id, relay.status)
    if relay.failure is not None:
        relay.check()


def request_bytes(head: RequestHead, lane: Lane, body: bytes) -> tuple[bytes, ...]:
    """The request for the provider, in pieces: our credential and framing, the client's other headers, its body. Raises
    Refusal when there is no credential to send it with.
    """
    if lane.unavailable:
        raise Refusal(503, "credential_unavailable", lane.unavailable, scope="upstream", retry_after_s=RETRY_AFTER_S)
    target = lane.path + b"?" + head.query if head.query else lane.path
    size = len(body)
    large = size > COPIED_BYTES
    lines = b"POST %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
        target,
        lane.fixed_headers,
        head.forwarded,
        size,
        b"" if large else body,
    )
    return (lines, body) if large else (lines,)
