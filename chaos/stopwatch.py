"""Time as a quiet machine would tell it: what was spent waiting for a processor that others had does not count.

Several may have waited at once, so only the longest of their waits is left out.
"""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path


class Stopwatch:
    """Runs from when it is made. `pids` says whose waits are left out, beside those of the thread that looks."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._began = time.monotonic()
        self._waits = self._waited_s()

    @property
    def seconds(self) -> float:
        """A process that began meanwhile waited only since then."""
        waited_s = max(waited_s - self._waits.get(pid, 0.0) for pid, waited_s in self._waited_s().items())
        return max(0.0, time.monotonic() - self._began - waited_s)

    def _waited_s(self) -> dict[int, float]:
        """Of each main thread, by /proc/PID/schedstat (its second figure, nanoseconds on the run queue)."""
        found = {}
        for pid in (threading.get_native_id(), *self._pids()):
            try:
                found[pid] = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
            except (OSError, IndexError):  # it ended, or this kernel does not count
                found[pid] = 0.0
        return found
