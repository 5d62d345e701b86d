"""The edge: uvicorn's httptools protocol, with data-plane paths answered by callbacks and everything else handed to
ASGI.

Theory. A connection is in one *phase*, and one sweep over all connections (no timer per request) ends what takes too
long:

    IDLE    nothing of a request has come        → closed after keep_alive_s (head_timeout_s before the first request)
    HEAD    a request line or header is coming   → 408 after head_timeout_s
    BODY    a body is coming                     → 408 after body_timeout_s without its end
    WORK    a whole request waits for its answer → no deadline here
    LINGER  answered before all was read         → the rest is thrown away for a moment, then closed

In every phase a client that does not take what is written to it ends after stall_timeout_s (see `Gate.stalled`).

Requests that come while an earlier one is unanswered are pipelined: they wait in order; with many, reading pauses.

What llhttp lets pass and a gateway must not is refused here, before routing: missing or double Host, a
Transfer-Encoding other than `chunked` or any in HTTP/1.0, trailers, absolute-form, versions other than 1.0 and 1.1.
After such a request the connection is closed: where one ends and the next begins is not certain (RFC 9112 §11.2).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httptools

from tollhouse.dataplane import reply
from tollhouse.dataplane.farewell import Farewell
from tollhouse.dataplane.gate import BODY, HEAD, IDLE, LINGER, WORK, Gate
from tollhouse.dataplane.head import NO_TRAILERS, MalformedHead, RequestHead, check_asgi_body
from tollhouse.dataplane.head_reader import HeadReader
from tollhouse.dataplane.reframe import body_parser
from tollhouse.dataplane.visitor import Visitor

log = logging.getLogger("tollhouse.edge")

LINGER_BYTES = 1024 * 1024
MAX_WAITING = 16
"""Pipelined requests of a connection; with more, reading pauses (and that its client has left is seen only later)."""


def protocol_class(gate: Gate) -> Callable[..., "Edge"]:
    """What uvicorn's Config takes as `http`: it builds protocols itself, so the gate comes in by this closure."""

    class BoundEdge(Edge):
        __slots__ = ()

        def __init__(self, **uvicorn_arguments: Any) -> None:
            super().__init__(gate, **uvicorn_arguments)

    return BoundEdge


class Edge(Farewell):
    """One client connection."""

    __slots__ = ()

    def __init__(self, gate: Gate, **uvicorn_arguments: Any) -> None:
        super().__init__(**uvicorn_arguments)
        self.gate = gate
        self.phase = IDLE
        self.phase_tick = gate.ticks
        self.rests_until = 0
        self.heads = HeadReader(gate.options.max_head_bytes, gate.options.closed)
        self.served = False
        self.head_bytes = 0
        self.lacking_bytes = 0
        """Of the body that is read without the parser."""
        self.deaf = False
        self.lingered_bytes = 0
        self.running = None
        self.turning = False
        self.half_read: RequestHead | None = None
        """The parser stopped behind this head, though a body follows."""
        self.stalled_tick = 0
        self.unsent_bytes = 0
        self.asgi_body_bytes = 0

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.gate.edges.add(self)
        self.phase_tick = self.gate.ticks
        if len(self.gate.edges) > self.gate.options.max_connections:
            self.gate.refused_connections += 1
            self.deaf = True
            self.transport.write(reply.plain(503, "too many connections"))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gate.edges.discard(self)
        waiting = [cycle for cycle, _ in self.pipeline]
        self.pipeline.clear()
        running, self.running = self.running, None
        super().connection_lost(exc)
        for cycle in dict.fromkeys((running, self.cycle, *waiting)):
            if cycle is None or cycle.response_complete:
                continue
            cycle.disconnected = True
            if isinstance(cycle, Visitor):
                cycle.forget_body()
                cycle.departed()
            else:
                cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self.phase is LINGER:
            self.lingered_bytes += len(data)
            if self.lingered_bytes > LINGER_BYTES:
                self.transport.close()
                return
        if self.deaf:
            return
        if self.phase is IDLE:
            heads = self.heads
            head = heads.known(data)
            if head is not None:
                data = data[heads.body_at :]
                size, gate = len(data), self.gate
                options = gate.options
                if (
                    size == head.content_length
                    and size <= options.max_body_bytes
                    and gate.buffered_bytes + size <= options.max_buffered_bytes
                ):
                    self.whole(head, data)
                    return
                self.lacking_bytes = head.content_length
                self.head_complete(head)
                data = self.take_body(data)
        elif self.lacking_bytes:
            data = self.take_body(data)
        if data:
            self.parse(data)

    def whole(self, head: RequestHead, body: bytes) -> None:
        """A whole request in one piece on an idle connection: what `head_complete` and `take_body` come to."""
        gate, size = self.gate, len(body)
        make_visitor = gate.make_visitor
        visitor = self.cycle = self.running = make_visitor(self, head)
        visitor.body.append(body)
        visitor.body_bytes = size
        gate.buffered_bytes += size
        visitor.body_done = True
        self.phase = WORK
        self.phase_tick = gate.ticks
        self.rests_until = 0
        visitor.arrived()
        if not visitor.response_complete:
            visitor.begin()

    def take_body(self, data: bytes) -> bytes:
        """Pieces of a body whose head was known, told of as the parser does; the answer is what lies behind it."""
        lacking_bytes = self.lacking_bytes
        size = len(data)
        if size < lacking_bytes:
            self.lacking_bytes = lacking_bytes - size
            self.on_body(data)
            return b""
        self.lacking_bytes = 0
        rest = b""
        if size > lacking_bytes:
            data, rest = data[:lacking_bytes], data[lacking_bytes:]
        self.on_body(data)
        self.on_message_complete()
        return b"" if self.deaf else rest

    def parse(self, data: bytes) -> None:
        """What is not known is read by the parser, which tells of it by the callbacks below."""
        idle = self.phase is IDLE
        self.heads.incoming = data if idle else b""
        if idle or self.phase is HEAD:
            self.head_bytes += len(data)
        behind: bytes | None = None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            # We do not switch protocols: this request is answered, what follows it is not HTTP.
            behind = data[stop.args[0] :]
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, MalformedHead):
                self.deaf = True
                raise
            self.broken(cause.status, cause.code, str(cause))
        except httptools.HttpParserError as error:
            self.broken(400, "malformed_request", f"This is not a valid HTTP/1.1 request: {error}")
        else:
            if self.phase is HEAD and self.head_bytes > self.gate.options.max_head_bytes:
                limit = self.gate.options.max_head_bytes
                self.broken(
                    431, "head_too_large", f"The request line and headers exceed {limit} bytes (listen.max_head_bytes)."
                )
            return
        if behind is not None:  # not within `except`: an error raised there would forget its own cause
            head, self.half_read = self.half_read, None
            if head is None:
                self.deaf = True
            else:
                self.parser = body_parser(self, head)
                self.data_received(behind)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.unsent_bytes = 0
        if isinstance(self.running, Visitor):
            self.running.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if isinstance(self.running, Visitor):
            self.running.resume()

    # --- parser callbacks, in the order of a request

    def on_message_begin(self) -> None:
        # Here uvicorn builds an ASGI scope; we only once the path needs one.
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        if self.phase is not LINGER:
            self.set_phase(HEAD)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase is not HEAD:
            if self.phase is LINGER:
                return
            raise MalformedHead(400, "trailers_refused", NO_TRAILERS)
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.phase is LINGER:
            return
        parser = self.parser
        upgrade = parser.should_upgrade()
        head = self.heads.read(
            parser.get_method(),
            self.url,
            self.headers,
            parser.get_http_version(),
            parser.should_keep_alive() and not upgrade,
        )
        if self.client is not None:
            head.peer = self.client[0]
        self.head_bytes = 0
        if upgrade and head.has_body:
            self.half_read = head
        if head.route is None:
            check_asgi_body(head.content_length)
            self.set_phase(BODY)
            self.hand_to_asgi(head)
        else:
            self.head_complete(head)

    def head_complete(self, head: RequestHead) -> None:
        """A data-plane request: its turn now, or after those before it."""
        gate = self.gate
        self.phase = BODY
        self.phase_tick = gate.ticks
        self.rests_until = 0
        visitor = self.cycle = gate.make_visitor(self, head)
        running = self.running
        if running is None or running.response_complete:
            self.take_turn(visitor)
        else:
            self.pipeline.appendleft((visitor, self.app))  # type: ignore[arg-type]
            if len(self.pipeline) >= MAX_WAITING:
                self.flow.pause_reading()

    def on_body(self, data: bytes) -> None:
        cycle = self.cycle
        if isinstance(cycle, Visitor):
            if cycle.response_complete or self.phase is LINGER:
                return
            gate = self.gate
            size = len(data)
            cycle.body.append(data)
            cycle.body_bytes += size
            gate.buffered_bytes += size
            options = gate.options
            if cycle.body_bytes > options.max_body_bytes or gate.buffered_bytes > options.max_buffered_bytes:
                self.too_much(cycle)
            return
        if self.phase is LINGER or cycle is None or cycle.response_complete:
            return
        self.asgi_body_bytes += len(data)
        check_asgi_body(self.asgi_body_bytes)
        super().on_body(data)

    def on_message_complete(self) -> None:
        if self.half_read is not None:
            return
        cycle = self.cycle
        if self.phase is LINGER:
            self.transport.close()
            return
        self.set_phase(WORK)
        if isinstance(cycle, Visitor):
            cycle.body_done = True
            if cycle is self.running and not cycle.response_complete:
                cycle.completed()
        elif cycle is not None:
            super().on_message_complete()

    # --- turns

    def take_turn(self, visitor: Visitor) -> None:
        self.running = visitor
        self.phase_tick = self.gate.ticks  # a body that had to wait is not late
        most = self.gate.options.max_body_bytes
        if visitor.head.content_length > most or visitor.body_bytes > most:
            self.too_large(visitor)
            return
        visitor.arrived()
        if visitor.response_complete:
            return
        if visitor.body_done:
            visitor.begin()
        elif visitor.head.expect_continue and not visitor.body_bytes:
            self.write(reply.CONTINUE)

    def too_much(self, visitor: Visitor) -> None:
        """This body, or all bodies together, outgrew what may be kept."""
        if visitor is not self.running:
            self.flow.pause_reading()  # its turn to be refused has not come
        elif visitor.body_bytes > self.gate.options.max_body_bytes:
            self.too_large(visitor)
        else:
            visitor.refuse(503, "overloaded", "Too many request bodies are being received at once; try again shortly.")

    def too_large(self, visitor: Visitor) -> None:
        limit = self.gate.options.max_body_bytes
        visitor.refuse(413, "request_too_large", f"The request body exceeds {limit} bytes (listen.max_body_bytes).")

    def hand_to_asgi(self, head: RequestHead) -> None:
        """Give the request to uvicorn as if it had parsed the head itself."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = head.expect_continue
        self.asgi_body_bytes = 0
        super().on_headers_complete()
        self.cycle.keep_alive = head.keep_alive

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """uvicorn's name for: it is this request's turn."""
        self.running = cycle
        if isinstance(cycle, Visitor):
            self.take_turn(cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """An answer is out: next in the pipeline, or idle. Replaces uvicorn's, whose keep-alive timer the sweep makes
        needless.
        """
        self.server_state.total_requests += 1
        self.served = True
        if not self.pipeline and self.phase is WORK and self.running.response_complete:
            self.phase = IDLE  # nearly always
            self.phase_tick = self.gate.ticks
            self.cycle = self.running = None  # freed now, not when the next request comes and its memory is cold
            if self.flow.read_paused:
                self.flow.resume_reading()
            return
        if self.turning:
            return  # answered at once, inside the loop below
        self.turning = True
        try:
            while self.pipeline and self.running.response_complete and not self.transport.is_closing():
                cycle, app = self.pipeline.pop()
                if len(self.pipeline) < MAX_WAITING:
                    self.flow.resume_reading()
                self._start_asgi_task(cycle, app)
        finally:
            self.turning = False
        if not self.working:
            if self.phase is WORK:
                self.set_phase(IDLE)
            self.flow.resume_reading()
