"""One connection to a provider, and one call on it. The rules are those of `pool`."""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, cast

import httptools

from tollhouse.terms.errors import UpstreamClosed, UpstreamError, UpstreamGarbled, UpstreamTimeout
from tollhouse.upstream.answer_form import AnswerForm, WholeAnswer

if TYPE_CHECKING:
    from tollhouse.upstream.slot import Slot


class Call:
    """One request on its way: what to send, what to do with its answer, when to give up.

    `head`, `body` and at last `over` are called from the event loop, as the answer comes; they must not raise and must
    not block.
    """

    __slots__ = ("connection", "deadline", "ended", "ended_by_close", "first_byte_at", "message", "sent_at")

    def __init__(self) -> None:
        self.message: tuple[bytes, ...] = ()
        """The whole request, in pieces."""
        self.ended = False
        self.connection: Connection | None = None
        self.sent_at = 0.0
        self.first_byte_at = 0.0
        self.deadline = 0.0
        self.ended_by_close = False
        """The answer had no other end than the connection's, so it may have been cut."""

    def head(self, status: int, names: tuple[bytes, ...], values: tuple[bytes, ...]) -> None:
        """The final status (never 1xx) and the headers in their order, names in lower case."""
        raise NotImplementedError

    def body(self, data: bytes) -> None:
        """Some bytes of the body."""
        raise NotImplementedError

    def over(self, error: Exception | None) -> None:
        """Nothing comes any more: the answer was whole, or this ended it. Called once."""
        raise NotImplementedError

    def end(self, error: Exception | None = None) -> None:
        """It is over; only the first reason counts."""
        if not self.ended:
            self.ended = True
            self.over(error)

    def pause(self) -> None:
        """The client reads too slowly: stop reading from the provider."""
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        if self.connection is not None:
            self.connection.resume()

    def transmit(self) -> None:
        """Its turn has come: send it, unless it was given up meanwhile, or lost its connection and gets another."""
        if self.connection is not None:
            self.connection.transmit(self)

    def abort(self, error: UpstreamError) -> None:
        """Give up now: the connection is cut, and this error is how it ended."""
        error.sent = self.sent_at > 0
        self.refuse(error)

    def refuse(self, error: Exception) -> None:
        """As `abort`, for a reason that is not the provider's."""
        if self.connection is not None:
            self.connection.fail(error)
        else:
            self.end(error)


class Connection(asyncio.Protocol):
    """One TCP or TLS connection; carries one call at a time."""

    __slots__ = (
        "bytes_in",
        "call",
        "ended",
        "fresh",
        "head_done",
        "idle_since",
        "keep",
        "message_done",
        "names",
        "parser",
        "paused",
        "pieces",
        "pool",
        "reused",
        "slot",
        "status",
        "transport",
        "until_close",
        "values",
    )

    def __init__(self, slot: "Slot") -> None:
        self.slot = slot
        self.pool = slot.pool
        self.call: Call | None = None
        self.transport: asyncio.Transport | None = None
        self.ended = False
        self.reused = False
        self.idle_since = 0.0
        self.pieces: list[bytes] = []
        self.parser = httptools.HttpResponseParser(self)
        self.names: list[bytes] = []
        self.values: list[bytes] = []
        self.status = 0
        self.bytes_in = 0
        self.fresh = False
        self.head_done = False
        self.message_done = False
        self.until_close = False
        self.keep = False
        self.paused = False

    # --- sending

    def transmit(self, call: Call) -> None:
        """Its turn has come: send it now."""
        assert self.transport is not None
        if self.ended:
            return  # `connection_lost` is on its way, and sends it again elsewhere
        call.sent_at = monotonic()
        self.pool.busy.add(self)
        self.transport.writelines(call.message)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        call = self.call
        if call is None or not call.sent_at:
            self.close()  # bytes nobody asked for: the connection cannot be trusted
            return
        if not self.bytes_in:
            call.first_byte_at = monotonic()
            call.message = ()  # can no longer be needed; a long stream must not hold a large body
            form = self.slot.form
            if form is not None and (answer := form.read(data)) is not None:
                self.answered(call, form, answer)
                return
        self.fresh = True
        self.bytes_in += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail(UpstreamGarbled("the provider switched protocols", sent=True))
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(cause, UpstreamGarbled):
                raise  # a bug of ours: let the event loop report it and close the connection
            self.deliver(call)
            if self.message_done:  # what came behind the answer is nobody's
                self.keep = False
                self.complete(call)
            elif isinstance(cause, UpstreamGarbled):
                self.fail(cause)
            else:
                self.fail(UpstreamGarbled(f"the provider's answer is not HTTP: {error}", sent=True))
            return
        if self.pieces:
            self.deliver(call)
        if self.message_done:
            if self.bytes_in == len(data) and self.keep and not self.until_close:
                self.slot.learn(data, self.status, tuple(self.names), self.values)
            self.complete(call)
        elif not self.head_done and self.bytes_in > self.pool.options.max_head_bytes:
            self.fail(UpstreamGarbled(f"the answer's head exceeds {self.pool.options.max_head_bytes} bytes", sent=True))

    def eof_received(self) -> None:
        return None  # the transport closes; connection_lost decides what it meant

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        call = self.call
        if call is not None:
            self.detach(call)
            if self.reused and not call.first_byte_at and not call.ended and self.slot.may_send_again(call):
                self.slot.send_again(self, call)
                return
        self.slot.forget(self)
        if call is None:
            return
        if self.head_done and self.until_close and error is None:
            call.ended_by_close = True
            call.end()
        else:
            reason = f"the provider closed the connection ({error or 'end of stream'})"
            call.end(UpstreamClosed(reason, sent=call.sent_at > 0))

    # --- httptools callbacks

    def on_message_begin(self) -> None:
        if self.message_done:
            raise UpstreamGarbled("there is more behind the answer", sent=True)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_done:
            self.names.append(name.lower())
            self.values.append(value)

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:
            return  # an interim answer; on_message_complete clears it
        if status > 599:
            raise UpstreamGarbled(f"the provider answered with the status {status}", sent=True)
        fields = dict(zip(self.names, self.values, strict=True))
        coding = fields.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise UpstreamGarbled(f"the provider used the transfer coding {coding.decode('latin-1')}", sent=True)
        self.status = status
        self.head_done = True
        self.keep = self.parser.should_keep_alive()
        self.until_close = coding is None and b"content-length" not in fields and status not in (204, 304)
        assert self.call is not None
        self.call.head(status, tuple(self.names), tuple(self.values))

    def on_body(self, data: bytes) -> None:
        self.pieces.append(data)

    def on_message_complete(self) -> None:
        if self.head_done:
            self.message_done = True
        else:
            self.names, self.values = [], []

    # --- ends

    def answered(self, call: Call, form: AnswerForm, answer: WholeAnswer) -> None:
        """A whole answer at once, read without the parser: what its callbacks come to."""
        values, body = answer
        call.head(form.status, form.names, values)
        if body and call.connection is self:  # else it was given up meanwhile
            call.body(body)
        self.detach(call)
        if not self.ended:
            self.give_back()
        call.end()

    def deliver(self, call: Call) -> None:
        pieces = self.pieces
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if call.connection is self:  # else it was given up meanwhile
                call.body(data)

    def complete(self, call: Call) -> None:
        """The answer is whole: the connection goes back to its slot or is closed."""
        keep = self.keep and not self.until_close and not self.ended
        self.detach(call)
        if keep:
            self.reset_for_reuse()
            self.give_back()
        else:
            self.close()
        call.end()

    def give_back(self) -> None:
        if self.paused:
            self.resume()
        self.reused = True
        self.slot.give_back(self)

    def reset_for_reuse(self) -> None:
        self.names, self.values = [], []
        self.bytes_in = 0
        self.fresh = self.head_done = self.message_done = self.until_close = self.keep = False

    def detach(self, call: Call) -> None:
        self.call = None
        call.connection = None
        self.pool.busy.discard(self)

    def fail(self, error: Exception) -> None:
        call = self.call
        if call is not None:
            self.detach(call)
        self.close()
        if call is not None:
            call.end(error)

    def close(self) -> None:
        """Cut the connection. Abort, not close: a graceful close waits for unsent bytes nobody wants."""
        if not self.ended:
            self.ended = True
            self.slot.forget(self)
            if self.transport is not None:
                self.transport.abort()

    # --- back-pressure

    def pause(self) -> None:
        if not self.paused and self.transport is not None and not self.ended:
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.paused and self.transport is not None:
            self.paused = False
            if not self.ended:
                self.transport.resume_reading()

    # --- time

    def overdue(self, now: float) -> UpstreamTimeout | None:
        """Called by the sweep. A call has one deadline at a time: first byte, then idle, and the total above both."""
        call, options = self.call, self.pool.options
        if call is None:
            return None
        if now - call.sent_at > options.total_timeout_s:
            return UpstreamTimeout(f"the answer was not whole within {options.total_timeout_s:g} s", phase="total")
        if self.fresh or self.paused or not call.deadline:
            self.fresh = False
            call.deadline = now + (options.idle_timeout_s if self.bytes_in else options.first_byte_timeout_s)
        elif now > call.deadline:
            phase = "idle" if self.bytes_in else "first_byte"
            limit_s = options.idle_timeout_s if self.bytes_in else options.first_byte_timeout_s
            return UpstreamTimeout(f"the provider was silent for {limit_s:g} s", phase=phase)
        return None
