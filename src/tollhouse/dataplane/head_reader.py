"""Reads the heads of one connection, and knows a head it has just read when it comes again.

A client on a kept connection sends the same head time after time, but for Content-Length. Such a head is not checked,
sorted and identified anew: it is compared, all of it, with the last one, and what was found then is true again. What
was found includes who it is (`Proof`), as long as nobody changed the directory since. The memory is the connection's
own and ends with it.
"""

from tollhouse.dataplane.head import RequestHead, Route, read_head, route_of
from tollhouse.dataplane.snapshot import Proof

LENGTH = b"content-length"
MAX_DIGITS = 18


class HeadReader:
    """One per connection."""

    __slots__ = ("_headers", "_last", "_length_at", "_max_bytes", "_request_line", "_route")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._last: RequestHead | None = None
        self._route: Route | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._request_line: tuple[bytes, bytes, str, bool] | None = None
        self._length_at = -1

    def read(
        self, method: bytes, url: bytes, headers: list[tuple[bytes, bytes]], version: str, keep_alive: bool
    ) -> tuple[RequestHead, Route | None]:
        """The head and what its path means. `headers` have names in lower case. Raises MalformedHead."""
        request_line = (method, url, version, keep_alive)
        if request_line == self._request_line and len(headers) == len(self._headers):
            again = self._again(headers)
            if again is not None:
                return again, self._route
        head = read_head(method, url, headers, version, keep_alive, self._max_bytes)
        route = route_of(head)
        self._last = None
        if route is not None:
            head.proof = Proof()
            self._last, self._route, self._headers, self._request_line = head, route, headers, request_line
            self._length_at = next((place for place, pair in enumerate(headers) if pair[0] == LENGTH), -1)
        else:
            self._request_line = None
        return head, route

    def _again(self, headers: list[tuple[bytes, bytes]]) -> RequestHead | None:
        """The last head with another length, if this one differs in nothing else."""
        last, place = self._last, self._length_at
        if last is None:
            return None
        if place < 0:
            return last.again(0) if headers == self._headers else None
        pair = headers[place]
        name, digits = pair
        if name != LENGTH or not digits.isdigit() or len(digits) > MAX_DIGITS:
            return None
        headers[place] = self._headers[place]
        if headers == self._headers:
            return last.again(int(digits))
        headers[place] = pair
        return None
