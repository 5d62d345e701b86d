"""How fast the gateways' core is from moment to moment: on a shared host somebody else's work on the same physical core
can make ours take 1.5 times as long, for seconds or for a tenth of one, and no clock of this machine shows it.

A small process on that core does the same piece of work every 20 ms, under a hundredth of its time, and says what CPU
time it took. The same for every gateway, it tells which measurements were made in quiet moments.

    python -m bench.pace CORE

writes pairs of 64-bit numbers, when (CLOCK_MONOTONIC) and how long, in nanoseconds, until its standard input is closed.
"""

import os
import select
import statistics
import struct
import subprocess
import sys
import time
from collections import deque
from types import TracebackType

from bench.running import stop

LOOK_S = 0.02
ROUNDS = 2_000
KEPT = 50_000
"""Looks that are remembered; a measurement asks for its own at once."""
_LOOK = struct.Struct("<qq")


class Pace:
    """The process, and what it has said."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._looks: deque[tuple[int, int]] = deque(maxlen=KEPT)
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

    def between(self, began_s: float, ended_s: float) -> float:
        """The mean of the looks in this time, in µs; 0 when there was none."""
        self._read()
        took = [took_ns for at_ns, took_ns in self._looks if began_s <= at_ns / 1e9 <= ended_s]
        return statistics.fmean(took) / 1e3 if took else 0.0

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
    """CPU time of the piece of work in ns, done twice: the first time brings its own code into the cache."""
    took = 0
    for _ in range(2):
        began, total = time.thread_time_ns(), 0
        for number in range(ROUNDS):
            total = (total + number * 3) & 1023
        took = time.thread_time_ns() - began
    return took


def main() -> None:
    """The command line."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    while not select.select([sys.stdin], [], [], LOOK_S)[0]:
        os.write(sys.stdout.fileno(), _LOOK.pack(time.monotonic_ns(), look()))


if __name__ == "__main__":
    main()
