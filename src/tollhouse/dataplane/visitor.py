"""What the edge and whoever answers a request know of each other."""

import socket
import struct
from time import monotonic
from typing import TYPE_CHECKING

from tollhouse.dataplane import reply
from tollhouse.dataplane.head import RequestHead
from tollhouse.dataplane.telling import Teller

if TYPE_CHECKING:
    from tollhouse.dataplane.edge import Edge

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""A `linger` of no time at all."""


class Visitor(Teller):
    """One data-plane request as the edge sees it; `exchange.Exchange` is the real one. Also what uvicorn expects of a
    cycle.
    """

    __slots__ = (
        "body",
        "body_bytes",
        "body_done",
        "disconnected",
        "edge",
        "head",
        "keep_alive",
        "started_at",
    )

    def __init__(self, edge: "Edge", head: RequestHead) -> None:
        self.edge = edge
        self.head = head
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.body_done = False
        self.keep_alive = head.keep_alive
        self.response_complete = False
        self.story = None
        self.disconnected = False
        self.started_at = monotonic()  # the loop's own clock ticks in whole milliseconds

    @property
    def message_event(self) -> "Visitor":
        """uvicorn sets its cycle's event when the connection ends; ours is told by `departed`."""
        return self

    def set(self) -> None:
        """See message_event."""

    # How a visitor answers: `answer` alone, or `begin_stream`, `write_stream` …, and one of the two ends

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """A whole answer in one write. `headers` are lines with CRLF, without length and connection."""
        if self.disconnected:
            return
        if not self.body_done and self.body_pending:
            self.keep_alive = False
        edge = self.edge
        data = reply.whole(status, headers, body, method=self.head.method, keep_alive=self.keep_alive)
        if self.keep_alive:
            edge.gate.turn.answer(edge.transport, data)
        else:  # it is closed behind this
            edge.write(data)
        edge.finish(self)

    def begin_stream(self, status: int, headers: bytes) -> None:
        """The head of an answer whose length is not known. An HTTP/1.0 client gets it until the connection closes."""
        if self.disconnected:
            return
        chunked = self.head.version != "1.0"
        if not chunked:
            self.keep_alive = False
        self.edge.write(reply.stream_head(status, headers, chunked=chunked, keep_alive=self.keep_alive))

    def write_stream(self, data: bytes) -> None:
        if self.disconnected:
            return
        edge = self.edge
        chunk = data if self.head.version == "1.0" else reply.CHUNK % (len(data), data)
        edge.gate.turn.write(edge.transport, chunk)

    def end_stream(self) -> None:
        if self.disconnected:
            return
        if self.head.version != "1.0":
            self.edge.write(reply.LAST_CHUNK)
        self.edge.finish(self)

    def cut_stream(self) -> None:
        """The upstream broke off: end the connection without the last chunk, so that the client knows. One of HTTP/1.0
        has no last chunk to miss (nginx by default is one): its connection is reset.
        """
        self.keep_alive = False
        if not self.disconnected:
            if self.head.version == "1.0":
                sock = self.edge.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.edge.finish(self)

    def whole_body(self) -> bytes:
        """The body in one piece, kept until `forget_body`."""
        if len(self.body) != 1:
            self.body = [b"".join(self.body)]
        return self.body[0]

    def forget_body(self) -> None:
        """It is no longer needed, or never will be."""
        self.edge.gate.buffered_bytes -= self.body_bytes
        self.body_bytes = 0
        self.body = []

    @property
    def body_pending(self) -> bool:
        """Some of the body has still to come: what follows on the connection is not the next request."""
        return not self.body_done and self.head.has_body

    # What the edge tells a visitor

    def arrived(self) -> None:
        """The head is complete and it is this request's turn; the body may still be coming."""
        raise NotImplementedError

    def begin(self) -> None:
        """The body is complete too."""
        raise NotImplementedError

    def completed(self) -> None:
        """The body is complete, some time after its head."""
        self.begin()

    def departed(self) -> None:
        """The client is gone."""
        raise NotImplementedError

    def refuse(self, status: int, code: str, message: str) -> None:
        """The edge found something wrong: answer in the caller's dialect, then the connection closes."""
        raise NotImplementedError

    def pause(self) -> None:
        """The client reads too slowly."""

    def resume(self) -> None:
        """The client reads again."""

    def tick(self, now: float) -> None:
        """Called by the sweep while this request is being answered."""
