"""How fast the gateways' core is from moment to moment: on a shared host somebody else's work on the same physical core
can make ours take 1.5 times as long, for seconds or for a tenth of one, and no clock of this machine shows it.

A small process on that core does the same two pieces of work every 20 ms, a hundredth of its time, and says what CPU
time they took: one that stays within the core, and one that goes through more memory than its own caches hold, since
a neighbour may take the shared cache and the memory and leave the core alone. The same for every gateway, they tell
which measurements were made in quiet moments: in those that were nearly as quick as the machine's quickest.

    python -m bench.pace CORE

writes triples of 64-bit numbers, when (CLOCK_MONOTONIC) and how long each piece took, in nanoseconds, until its
standard input is closed.
"""

import os
import select
import statistics
import struct
import subprocess
import sys
import time
from array import array
from collections import deque
from types import TracebackType

from bench.running import stop

LOOK_S = 0.02
ROUNDS = 2_000  # of the work within the core
STEPS = 250  # of the way through memory, each to a line that the one before names
CHAIN_BYTES = 16 << 20
KEPT = 50_000
"""Looks that are remembered; a measurement asks for its own at once."""
_LOOK = struct.Struct("<qqq")


class Pace:
    """The process, and what it has said."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._looks: deque[tuple[int, int, int]] = deque(maxlen=KEPT)
        self._torn = b""

    def __enter__(self) -> "Pace":
        command = [sys.executable, "-m", "bench.pace", str(self._core)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop(self._process)

    @property
    def pid(self) -> int:
        return self._process.pid

    def between(self, began_s: float, ended_s: float) -> tuple[float, float]:
        """The means of the looks in this time, in µs: within the core, through memory; 0 when there was none."""
        self._read()
        looks = [look for look in self._looks if began_s <= look[0] / 1e9 <= ended_s]
        if not looks:
            return 0.0, 0.0
        return statistics.fmean(look[1] for look in looks) / 1e3, statistics.fmean(look[2] for look in looks) / 1e3

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._pipe, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                return
            data = self._torn + data
            whole = len(data) - len(data) % _LOOK.size
            self._looks.extend(_LOOK.iter_unpack(data[:whole]))
            self._torn = data[whole:]


def look() -> int:
    """CPU time of the work within the core in ns, done twice: the first time brings its own code into the cache."""
    took = 0
    for _ in range(2):
        began, total = time.thread_time_ns(), 0
        for number in range(ROUNDS):
            total = (total + number * 3) & 1023
        took = time.thread_time_ns() - began
    return took


class Chain:
    """A way through memory that visits every word once before it comes round, in an order no prefetcher foresees: a
    linear congruential sequence of full period (Knuth, TAOCP 2, 3.2.1.2: odd increment, multiplier 1 modulo 4).
    """

    def __init__(self, size: int = CHAIN_BYTES) -> None:
        words = size // 8
        self._next = array("q", ((word * 1_664_525 + 1_013_904_223) & (words - 1) for word in range(words)))
        self._at = 0

    def look(self) -> int:
        """CPU time of the next STEPS, in ns."""
        chain, at, began = self._next, self._at, time.thread_time_ns()
        for _ in range(STEPS):
            at = chain[at]
        self._at = at
        return time.thread_time_ns() - began


def main() -> None:
    """The command line."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    chain = Chain()
    while not select.select([sys.stdin], [], [], LOOK_S)[0]:
        os.write(sys.stdout.fileno(), _LOOK.pack(time.monotonic_ns(), look(), chain.look()))


if __name__ == "__main__":
    main()
