"""The relay of a call whose key has its content kept: a relay that remembers both sides as they pass.

Only calls of such keys are relayed by it, so nobody else pays for more than the look at their key. What was remembered
is handed on when the answer is over, and is never waited for; the answer's head tells the caller that it is kept.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tollhouse.dataplane.relay import Relay
from tollhouse.terms.captures import Content, Side

if TYPE_CHECKING:
    from tollhouse.dataplane.exchange import Exchange

HEADER = b"x-tollhouse-captured: %dd\r\n"
DAY_NS = 86_400 * 10**9


class CaptureOptions(msgspec.Struct, frozen=True):
    """Numbers of capturing; settings under `capture`."""

    max_days: int = 30
    """However long a key says."""
    max_request_bytes: int = 1024 * 1024
    max_answer_bytes: int = 1024 * 1024


class CapturedRelay(Relay):
    """`keep` takes what is remembered of a call whose caller was told so."""

    __slots__ = ("days", "keep", "kept", "request", "room", "told")

    def __init__(self, keep: Callable[[Content], None], options: CaptureOptions, exchange: "Exchange") -> None:
        Relay.__init__(self, exchange)
        assert exchange.principal is not None
        body = exchange.whole_body()
        self.keep = keep
        self.days = min(exchange.principal.capture_days, options.max_days)
        self.request = Side(body[: options.max_request_bytes], len(body))
        self.kept: list[bytes] = []
        self.room = options.max_answer_bytes
        self.told = False

    def forwarded(self) -> bytes:
        lines = Relay.forwarded(self)
        if not self.days:
            return lines
        self.told = True
        return lines + HEADER % self.days

    def write(self, data: bytes) -> None:
        self.remember(data)
        Relay.write(self, data)

    def whole(self) -> bytes:
        body = Relay.whole(self)
        self.remember(body)
        return body

    def remember(self, data: bytes) -> None:
        if self.room:
            some = data[: self.room]
            self.room -= len(some)
            self.kept.append(some)

    def over(self, error: Exception | None) -> None:
        Relay.over(self, error)
        # The last bytes of the answer are yet to be written: the story goes on behind this.
        self.exchange.edge.loop.call_soon(self.hand_on)

    def hand_on(self) -> None:
        """The answer is complete: what is remembered of it goes where it is kept. Once."""
        exchange = self.exchange
        principal = exchange.principal
        if principal is None or not self.told:
            return  # the answer was one of ours, which says nothing of being kept
        self.keep(
            Content(
                exchange.request_id,
                principal.user.org_id,
                principal.user.user_id,
                principal.key.key_id,
                exchange.at_ns,
                exchange.at_ns + self.days * DAY_NS,
                self.request,
                Side(b"".join(self.kept), self.relayed_bytes),
            )
        )
        self.kept = []
