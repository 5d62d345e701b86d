"""Rows of the request log about callers nobody knows: some a second are kept, so that a flood of bad keys is seen but
does not fill the database.
"""

from collections.abc import Callable

from tollhouse.terms.events import Refused


class StrangerGate:
    """Lets rows of known callers through, and `rows_per_s` a second of the others; counts what it keeps back."""

    def __init__(self, put: Callable[[Refused], None], rows_per_s: int, monotonic: Callable[[], float]) -> None:
        self._put = put
        self._rows_per_s = rows_per_s
        self._monotonic = monotonic
        self._second = -1
        self._rows = 0
        self.dropped = 0

    def put(self, refused: Refused) -> None:
        """Take a row for the request log, or count it."""
        if not refused.user_id:
            second = int(self._monotonic())
            if second != self._second:
                self._second = second
                self._rows = 0
            if self._rows >= self._rows_per_s:
                self.dropped += 1
                return
            self._rows += 1
        self._put(refused)
