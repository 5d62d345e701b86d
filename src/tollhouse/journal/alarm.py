"""How the journal's thread sleeps and is woken."""

import threading


class Alarm:
    """One thread sleeps, any other rings. A ring is remembered until the next sleep, and two are one.

    A bare lock: an Event makes a new lock for every wait and takes three to set, at the cost of the thread that rings.
    """

    def __init__(self) -> None:
        self._bell = threading.Lock()
        self._bell.acquire()

    def sleep(self, timeout_s: float | None) -> None:
        """Return when it rings, or after `timeout_s`."""
        self._bell.acquire(timeout=-1 if timeout_s is None else timeout_s)

    def ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:  # it has rung already
            return
