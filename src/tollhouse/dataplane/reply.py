"""What goes back to the client, as bytes: status line, framing, chunks (RFC 9112)."""

import re

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n"
"""Of a size and so many bytes."""
LAST_CHUNK = b"0\r\n\r\n"


def whole(status: int, headers: bytes, body: bytes, *, method: bytes, keep_alive: bool) -> bytes:
    """A complete answer. `headers` are lines with CRLF, without length and connection."""
    if not keep_alive:
        headers += b"connection: close\r\n"
    if status in (204, 304):
        return b"%b%b\r\n" % (STATUS_LINE[status], headers)
    sent = b"" if method == b"HEAD" else body
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (STATUS_LINE[status], headers, len(body), sent)


def stream_head(status: int, headers: bytes, *, chunked: bool, keep_alive: bool) -> bytes:
    """The head of an answer whose length is not known; unchunked it lasts until the connection closes."""
    framing = b"transfer-encoding: chunked\r\n" if chunked else b""
    connection = b"" if keep_alive else b"connection: close\r\n"
    return b"%b%b%b%b\r\n" % (STATUS_LINE[status], headers, framing, connection)


def plain(status: int, message: str) -> bytes:
    """For whoever has not got as far as a request, and so has no dialect."""
    text = re.sub(r"[^\x20-\x7e]", "?", message).encode("ascii") + b"\n"
    headers = b"content-type: text/plain\r\n"
    return whole(status, headers, text, method=b"GET", keep_alive=False)
