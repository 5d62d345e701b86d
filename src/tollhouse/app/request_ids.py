"""The ids of requests."""

import itertools
import os

_MS_NS = 1_000_000
_COUNTED = 0x1000000
"""Keeps the zeros in front of a count below it, as a digit that is cut off."""


class RequestIds:
    """Unique over restarts and processes, sortable by time: `req_`, 11 hexadecimal digits of milliseconds, 10 of this
    process's random part, 6 of a count. All before the count is made once for a millisecond.
    """

    def __init__(self) -> None:
        self._boot = os.urandom(5).hex()
        self._numbers = itertools.count(1)
        self._since_ns = self._until_ns = 0
        self._before = ""

    def make(self, at_ns: int) -> str:
        """For a request of this time, in nanoseconds since 1970 UTC."""
        if not self._since_ns <= at_ns < self._until_ns:
            self._since_ns = at_ns - at_ns % _MS_NS
            self._until_ns = self._since_ns + _MS_NS
            self._before = f"req_{at_ns // _MS_NS:011x}{self._boot}"
        return self._before + hex(next(self._numbers) % _COUNTED + _COUNTED)[3:]
