"""Reads the heads of one connection, and knows a head it has just read when it comes again.

A client on a kept connection sends the same head time after time, but for Content-Length. Such a head is not parsed,
checked, sorted and identified anew: its bytes are compared with those of the last one, every one of them but the digits
of its length, and what was found then is true again. What was found includes who it is (`Proof`), as long as nobody
changed the directory since. The memory is the connection's own and ends with it.

Only a head is remembered that began where nothing of an earlier request was left, came in one piece, passed all checks,
keeps the connection and has a Content-Length: then equal bytes mean equal things, and where the body ends is certain.
"""

import re
from collections.abc import Container

from tollhouse.dataplane.head import RequestHead, read_head
from tollhouse.terms.names import Endpoint

MAX_DIGITS = 18
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,%d})(?=\r\n)" % MAX_DIGITS, re.IGNORECASE)


class HeadReader:
    """One per connection."""

    __slots__ = ("_after", "_before", "_before_bytes", "_closed", "_last", "_max_bytes", "body_at", "incoming")

    def __init__(self, max_bytes: int, closed: Container[Endpoint] = ()) -> None:
        """Paths of endpoints that are `closed` are not of the data plane."""
        self._max_bytes = max_bytes
        self._closed = closed
        self._last: RequestHead | None = None
        self._before = b""
        """The last head up to the digits of its length; `_after`: what follows them."""
        self._before_bytes = 0
        self._after = b""
        self.incoming = b""
        """What the parser is about to read, if that begins between two requests."""
        self.body_at = 0
        """Where the body of the head that was known begins."""

    def read(
        self, method: bytes, url: bytes, headers: list[tuple[bytes, bytes]], version: str, keep_alive: bool
    ) -> RequestHead:
        """The head, checked. `headers` have names in lower case. Raises MalformedHead."""
        head = read_head(method, url, headers, version, keep_alive, self._max_bytes)
        if head.route is not None and head.route.endpoint in self._closed:
            head.route = None
        incoming, self.incoming = self.incoming, b""
        self._before = b""
        lasting = head.route is not None and head.keep_alive and not head.expect_continue
        if lasting and incoming.startswith(b"%b %b HTTP/1.1\r\n" % (method, url)):
            self._remember(head, incoming)
        return head

    def _remember(self, head: RequestHead, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, end + 2)
        if end < 0 or length is None or int(length[1]) != head.content_length:
            return
        self._last = head
        self._before, self._after = data[: length.start(1)], data[length.end(1) : end + 4]
        self._before_bytes = len(self._before)

    def known(self, data: bytes) -> RequestHead | None:
        """The head that `data` begins with, if it is the last one but for its length; `body_at` is where it ends."""
        before = self._before
        if not before or not data.startswith(before):
            return None
        start = self._before_bytes
        end = data.find(b"\r", start, start + MAX_DIGITS + 1)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._after, end):
            return None
        self.body_at = end + len(self._after)
        assert self._last is not None
        head: RequestHead = self._last.__copy__()  # type: ignore[attr-defined]  # by msgspec; copy() costs twice that
        head.content_length = int(digits)
        return head
