"""The board on which notices are put up: never waits, never fails, and is bounded.

Whoever delivers them takes them down; what nobody takes is dropped, oldest first, and counted.
"""

import logging
import time
from collections import deque
from collections.abc import Callable

import msgspec

from tollhouse.terms.notices import Notice

MAX_WAITING = 10_000

_log = logging.getLogger("tollhouse.notices")


class Board:
    """Of one process; from the event loop's thread. `told` is called after each notice, to wake who delivers them."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns, max_waiting: int = MAX_WAITING) -> None:
        self._now_ns = now_ns
        self._waiting: deque[Notice] = deque(maxlen=max_waiting)
        self.dropped = 0
        self.told: Callable[[], None] = lambda: None

    def emit(self, notice: Notice) -> None:
        """Put it up. It is a line of the log, too; told once, only when it turns out to be new (`workers.recorder`)."""
        if not notice.at_ns:
            notice = msgspec.structs.replace(notice, at_ns=self._now_ns())
        if len(self._waiting) == self._waiting.maxlen:
            self.dropped += 1
        self._waiting.append(notice)
        if not notice.once:
            _log.warning("%s: %s", notice.kind.value, notice.text)
        self.told()

    def take(self, most: int) -> list[Notice]:
        """The oldest ones, which are no longer here then."""
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def __len__(self) -> int:
        return len(self._waiting)
