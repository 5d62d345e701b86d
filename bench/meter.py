"""The clocks around a measurement: the gateway's CPU, the wall's, and what anybody else took of our cores."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.machine import Cores, busy_ns, cpu_ns, waiting_ns
from bench.running import Running

LOOK_S = 0.2  # longer than a gateway is known to put off its bookkeeping
REST_SHARE = 0.1  # of a core: who neither used nor waited for more than this during a look is at rest
REST_LIMIT_S = 5.0


@dataclass(frozen=True)
class _Reading:
    cpu_ns: int
    waiting_ns: int
    load_ns: int
    busy_ns: int
    at_s: float


class Meter:
    """Holds the last measurement."""

    def __init__(self, cores: Cores, kit_pids: Sequence[int]) -> None:
        self._cores = cores
        self._kit_pids = kit_pids
        self._before = self._loaded = self._after = _Reading(0, 0, 0, 0, 0.0)

    @contextmanager
    def until_rest(self, gateway: Running) -> Iterator[None]:
        """Read before, at the end of the load, and when the gateway has come to rest after it."""
        self._before = self._read(gateway)
        yield
        self._loaded = self._read(gateway)
        deadline, early = self._loaded.at_s + REST_LIMIT_S, self._loaded
        while True:
            time.sleep(LOOK_S)
            late = self._read(gateway)
            wanted_ns = late.cpu_ns - early.cpu_ns + late.waiting_ns - early.waiting_ns
            if wanted_ns < REST_SHARE * LOOK_S * 1e9 or late.at_s > deadline:
                break
            early = late
        self._after = late

    @contextmanager
    def amid(self, gateway: Running) -> Iterator[None]:
        """Read before and after, in the midst of a load that goes on."""
        self._before = self._read(gateway)
        yield
        self._loaded = self._after = self._read(gateway)

    @property
    def cpu_ns(self) -> int:
        """The gateway's CPU time, its work after the load included."""
        return self._after.cpu_ns - self._before.cpu_ns

    @property
    def loaded_s(self) -> tuple[float, float]:
        """When the load began and ended, by the monotonic clock."""
        return self._before.at_s, self._loaded.at_s

    @property
    def wall_s(self) -> float:
        """How long the load lasted."""
        return self._loaded.at_s - self._before.at_s

    def used_share(self) -> float:
        """How much of its core the gateway used under load: near 1, it was the gateway that set the pace."""
        return (self._loaded.cpu_ns - self._before.cpu_ns) / 1e9 / self.wall_s

    def wanted_share(self) -> float:
        """How much it used or stood in the queue for (above 1 with several threads): on a disturbed machine this tells
        whether the load sufficed."""
        return self.used_share() + (self._loaded.waiting_ns - self._before.waiting_ns) / 1e9 / self.wall_s

    def foreign_share(self) -> float:
        """CPU of others on the two cores, as a share of one core."""
        before, after = self._before, self._after
        ours_ns = after.cpu_ns - before.cpu_ns + after.load_ns - before.load_ns
        return max(0, after.busy_ns - before.busy_ns - ours_ns) / 1e9 / (after.at_s - before.at_s)

    def _read(self, gateway: Running) -> _Reading:
        return _Reading(
            cpu_ns=gateway.cpu_ns(),
            waiting_ns=waiting_ns(gateway.pids()),
            load_ns=time.process_time_ns() + cpu_ns(self._kit_pids),
            busy_ns=busy_ns(self._cores.load) + busy_ns(self._cores.gateway),
            at_s=time.monotonic(),
        )
