"""A gateway is charged with all that a load made it do, also with what it does afterwards."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bench.calls import Endpoint
from bench.machine import Cores
from bench.meter import Meter
from bench.pace import STEPS, Chain, Pace
from bench.running import Running

WORK_S = 0.4
WORKER = f"""
import sys, time
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
end = time.process_time() + {WORK_S}
while time.process_time() < end:
    pass
sys.stdin.readline()
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """A process that works for WORK_S once it is told to, and then rests."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
        process.kill()


def test_work_after_the_load_is_counted(worker: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.meter.REST_LIMIT_S", 60.0)  # a busy machine takes its time for the work
    core = min(os.sched_getaffinity(0))
    meter = Meter(Cores(core, core), (os.getpid(),))
    gateway = Running("worker", Endpoint(1, "none", "/"), worker, (), 0.0)  # type: ignore[arg-type]
    with meter.until_rest(gateway):
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    assert meter.cpu_ns >= WORK_S * 0.95e9
    assert meter.foreign_share() >= 0


def test_the_pace_of_a_core_is_looked_at_all_the_time() -> None:
    core, began_s = min(os.sched_getaffinity(0)), time.monotonic()
    with Pace(core) as pace:
        deadline = began_s + 60.0
        while not all(looks := pace.between(began_s, time.monotonic())) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert all(1.0 < us < 100_000.0 for us in looks)
        assert os.sched_getaffinity(pace.pid) == {core}
        assert pace.between(began_s - 2.0, began_s - 1.0) == (0.0, 0.0)
    with pytest.raises(ProcessLookupError):
        os.kill(pace.pid, 0)


def test_the_way_through_memory_visits_every_word() -> None:
    words = 4 * STEPS // 8 * 8
    size = 1 << (words - 1).bit_length()
    chain, seen = Chain(8 * size), set()
    for _ in range(size):
        seen.add(chain._at)
        chain._at = chain._next[chain._at]
    assert len(seen) == size
    assert chain.look() > 0
