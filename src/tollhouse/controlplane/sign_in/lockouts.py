"""Tells of lock-outs: somebody tries on, and is not looked at. Once for each lock, and no flood of them."""

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from tollhouse.rules.lockout import NS_PER_S
from tollhouse.rules.networks import network_of
from tollhouse.terms.notices import Notice, NoticeKind

MOST_AN_HOUR: Final = 60
"""Notices; of what comes beyond, the log has a line each."""
REMEMBERED: Final = 1_000
_HOUR_NS: Final = 3_600 * NS_PER_S


class Lockouts:
    def __init__(self, notify: Callable[[Notice], None]) -> None:
        self._notify = notify
        self._told: OrderedDict[tuple[bytes, int], None] = OrderedDict()
        """Locks, by whose and until when."""
        self._latest: deque[int] = deque(maxlen=MOST_AN_HOUR)

    def met(self, subject: bytes, until_ns: int, *, user_id: str | None, address: str, now_ns: int) -> None:
        """Somebody met a lock. `user_id` is who would sign in: empty for nobody we know, None where it is the address
        that is locked.
        """
        lock = (subject, until_ns)
        busy = len(self._latest) == MOST_AN_HOUR and now_ns - self._latest[0] < _HOUR_NS
        if lock in self._told or busy:
            return
        self._told[lock] = None
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self._latest.append(now_ns)
        network = network_of(address)
        wait_s = math.ceil((until_ns - now_ns) / NS_PER_S)
        if user_id is None:
            whom, what = f"network {network}", f"{network} may not sign in"
        elif user_id:
            whom, what = f"user {user_id}", f"Nobody may sign in as {user_id}"
        else:
            whom, what = "account unknown", "Nobody may sign in to an account that is not here"
        text = f"{what} for {wait_s} s: there were too many wrong passwords, the last from {network}."
        data = {"user_id": user_id or "", "network": network, "wait_s": wait_s}
        self._notify(Notice(NoticeKind.LOCKED_OUT, whom, text, data))
