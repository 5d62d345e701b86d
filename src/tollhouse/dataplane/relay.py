"""An answer on its way: bytes come from the upstream connection by callback and go to the client's, metered as they
pass.

Three ways, decided by the head of the answer:

    stream   `text/event-stream`: the head goes out at once, each piece as it comes; the closing event waits for SETTLE
    whole    anything else: kept until complete, so that its cost can stand in a header, then sent in one write
    large    a whole answer that outgrows the buffer: turned into a stream of bytes without cost header

A slow client pauses the upstream (and only then the upstream's idle clock stands still). A silent upstream gets the
client a `ping` of its dialect, at an event boundary only. When the client is gone and the provider bills on, the rest
is read and metered but goes nowhere ("drained").
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from tollhouse.dataplane import answer_headers
from tollhouse.dataplane.head_shape import EVENT_STREAM, NO_HEADERS, shape_of
from tollhouse.dialects.dialect import StreamMeter
from tollhouse.rules.metering import COMPLETE
from tollhouse.terms.seen import Seen
from tollhouse.upstream.connection import Call

if TYPE_CHECKING:
    from tollhouse.dataplane.exchange import Exchange

NOTHING_SEEN = Seen()
"""Shared: of an attempt that has had no answer yet."""


class Relay(Call):
    """One attempt, and what becomes of its answer."""

    __slots__ = (
        "_asyncio_future_blocking",
        "begun",
        "buffer",
        "buffered_bytes",
        "exchange",
        "failure",
        "last_at",
        "meter",
        "relayed_bytes",
        "seen",
        "shape",
        "status",
        "streaming",
        "unreadable",
        "upstream_request_id",
        "values",
        "waiter",
    )

    def __init__(self, exchange: "Exchange") -> None:
        Call.__init__(self)
        self.exchange = exchange
        self.meter: StreamMeter | None = None
        self.seen = NOTHING_SEEN
        self.status = 0
        self.shape = NO_HEADERS
        self.values: tuple[bytes, ...] = ()
        self.streaming = False
        self.begun = False
        self.unreadable = False
        self.buffer: list[bytes] = []
        self.buffered_bytes = 0
        self.relayed_bytes = 0
        self.last_at = 0.0
        self.upstream_request_id = ""
        self.failure: Exception | None = None
        self.waiter: Callable[[], None] | None = None

    # --- its end, which the story waits for

    def __await__(self) -> "Generator[Relay, None, None]":
        """Return when it is over; `check` says how it ended. For a story alone (see `telling`), not for a Task: the
        story of a whole answer goes on at once, inside the callback that brought its last byte, without a Future's turn
        through the loop.
        """
        return iter(() if self.ended else (self,))  # type: ignore[return-value]  # a generator would cost twice that

    def add_done_callback(self, go_on: Callable[[], None]) -> None:
        self.waiter = go_on

    def over(self, error: Exception | None) -> None:
        self.failure = error
        go_on, self.waiter = self.waiter, None
        if go_on is None:
            return
        if error is None:
            go_on()
        else:  # whoever gave it up has things to do first
            self.exchange.edge.loop.call_soon(go_on)

    def check(self) -> None:
        """Raises what ended it early."""
        failure, self.failure = self.failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # which knows this frame by its traceback

    # --- as it comes

    def head(self, status: int, names: tuple[bytes, ...], values: tuple[bytes, ...]) -> None:
        self.status = status
        self.values = values
        shape = self.shape = shape_of(names)
        if shape.encoding_at is not None and values[shape.encoding_at].lower() != b"identity":
            self.unreadable = True  # compressed although identity was asked for: relayed, and settled at the bound
        if shape.request_id_at is not None:
            self.upstream_request_id = values[shape.request_id_at].decode("latin-1")[:128]
        at = shape.type_at
        if at is not None and values[at][:17].lower() == EVENT_STREAM and status < 300 and status != 204:
            self.streaming = True
            if not self.unreadable:
                ask = self.exchange.ask
                ours_alone = ask is not None and ask.stream and not ask.include_usage
                self.meter = self.exchange.dialect.stream_meter(swallow_usage=ours_alone)
                self.seen = self.meter.seen
            self.begin()

    def body(self, data: bytes) -> None:
        if self.streaming:
            meter = self.meter
            if meter is not None:
                data = meter.feed(data)
                if self.seen.complete:
                    self.exchange.settle(COMPLETE, self.seen.failed)
            if data:
                self.write(data)
            return
        if self.begun:
            self.write(data)
            return
        self.buffer.append(data)
        self.buffered_bytes += len(data)
        if self.buffered_bytes > self.exchange.plane.options.answer_buffer_bytes:
            self.unreadable = True
            self.begin()
            self.write(b"".join(self.buffer))
            self.buffer = []

    # --- to the client

    def begin(self) -> None:
        """Send the head of an answer whose end is not known yet. From here on there is no other attempt."""
        exchange = self.exchange
        self.begun = True
        self.last_at = exchange.edge.loop.time()
        exchange.begin_stream(self.status, self.forwarded() + answer_headers.own(exchange))
        exchange.forget_body()
        self.shape, self.values = NO_HEADERS, ()

    def forwarded(self) -> bytes:
        """The provider's header lines that travel on."""
        return self.shape.forwarded % self.values

    def write(self, data: bytes) -> None:
        self.last_at = 0.0
        self.relayed_bytes += len(data)
        self.exchange.write_stream(data)

    def whole(self) -> bytes:
        """The complete answer that was kept; metered when it is an answer and not an error."""
        body = b"".join(self.buffer)
        self.buffer = []
        self.relayed_bytes = len(body)
        if not self.unreadable and self.status < 300:
            self.seen = self.exchange.dialect.read_answer(body)
        return body

    def close(self) -> None:
        """The upstream is done: what the meter held back goes out."""
        if self.meter is not None:
            rest = self.meter.close()
            if rest:
                self.write(rest)

    def broke_off(self) -> bool:
        """Whether the provider's connection, the only end this answer has, ended before the stream told its own."""
        if self.meter is None or not self.ended_by_close:
            return False
        at_boundary = self.at_boundary
        rest = self.meter.close()
        told = self.seen.complete or self.seen.final or self.seen.failed != ""
        if rest and (told or not at_boundary):
            self.write(rest)
        if not told and not at_boundary:
            self.meter = None  # an event of ours would be read as the rest of theirs
        return not told

    @property
    def at_boundary(self) -> bool:
        """Whether an event of ours may stand here; never among bytes that are not understood."""
        return self.meter is not None and self.meter.between_events

    def tick(self, now: float) -> None:
        """Four times a second: a ping when the provider has been silent too long."""
        if not self.streaming or not self.begun:
            return
        if not self.last_at:
            self.last_at = now
        elif now - self.last_at >= self.exchange.plane.options.ping_after_s and self.at_boundary:
            self.last_at = now
            self.exchange.write_stream(self.exchange.dialect.ping)
