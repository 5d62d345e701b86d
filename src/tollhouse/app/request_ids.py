"""The ids of requests."""

import itertools
import os


class RequestIds:
    """Unique over restarts and processes, sortable by time: `req_`, 11 hexadecimal digits of milliseconds, 10 of this
    process's random part, 6 of a count; written as one number, whose first digit (a 1) keeps the zeros in front.
    """

    def __init__(self) -> None:
        self._boot = int.from_bytes(os.urandom(5)) << 24
        self._numbers = itertools.count(1)

    def make(self, at_ns: int) -> str:
        """For a request of this time, in nanoseconds since 1970 UTC."""
        number = 1 << 108 | at_ns // 1_000_000 << 64 | self._boot | next(self._numbers) & 0xFFFFFF
        return "req_" + hex(number)[3:]
