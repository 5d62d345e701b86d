"""The body of a request that asks to switch protocols, which is answered as if it had not asked (RFC 9110 §7.8).

llhttp stops reading at the end of such a head, so the body would be lost; and Java's HttpClient asks for `h2c` with the
first request of every connection in clear. A second parser, shown only how the body is framed, reads on.
"""

from typing import TYPE_CHECKING

import httptools

from tollhouse.dataplane.head import NO_TRAILERS, MalformedHead, RequestHead

if TYPE_CHECKING:
    from tollhouse.dataplane.edge import Edge


class BodyReader:
    """What a parser is to tell of: the pieces of one body and its end. What follows is not read: the connection
    closes.
    """

    def __init__(self, edge: "Edge") -> None:
        self.edge = edge
        self.reading = False
        """Before that the parser is shown the framing."""

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.reading:
            raise MalformedHead(400, "trailers_refused", NO_TRAILERS)

    def on_body(self, data: bytes) -> None:
        if not self.edge.deaf:
            self.edge.on_body(data)

    def on_message_complete(self) -> None:
        if not self.edge.deaf:
            self.edge.deaf = True
            self.edge.on_message_complete()


def body_parser(edge: "Edge", head: RequestHead) -> "httptools.HttpRequestParser":
    """A parser that stands at the first byte of the body of `head`."""
    reader = BodyReader(edge)
    parser = httptools.HttpRequestParser(reader)
    length = b"content-length: %d" % head.content_length
    framing = b"transfer-encoding: chunked" if b"transfer-encoding" in head.read else length
    parser.feed_data(b"POST / HTTP/1.1\r\nhost: body\r\n" + framing + b"\r\n\r\n")
    reader.reading = True
    return parser
