"""What the kernel knows: cores, CPU time and memory of process trees, and who else was busy meanwhile."""

import os
import platform
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.problem import BenchProblem

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """The two cores of a run."""

    load: int
    gateway: int


def choose_cores() -> Cores:
    """Take the first allowed core for load and upstream (interrupts land there too) and the next for the gateway."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchProblem(
            f"this process may use {len(allowed)} core, the benchmark needs 2: one for the gateway, one for load and"
            " upstream. On one core the figures would measure the load generator; run it on a larger machine."
        )
    return Cores(load=allowed[0], gateway=allowed[1])


@contextmanager
def pinned_to(core: int) -> Iterator[None]:
    """Bind this process to one core for a while; a process started meanwhile inherits the binding for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def work_in_batches(pid: int = 0) -> None:
    """Let a process (0: this one) run on when another on its core wakes up (SCHED_BATCH); what it starts is not bound.

    Load and upstream share a core. Without this each sent byte would wake the other at once: a change of context per
    call instead of one per batch, and the load would be slower than nginx.
    """
    os.sched_setscheduler(pid, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def process_tree(root: int, without: Iterable[str] = ()) -> list[int]:
    """The process ids of `root` and its descendants, leaving out those whose command line holds a word of `without`."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat_fields(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    words = [word.encode() for word in without]
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        if pid != root and any(word in _command_line(pid) for word in words):
            continue
        found.append(pid)
        todo.extend(children.get(pid, ()))
    return found


def cpu_ns(pids: Iterable[int]) -> int:
    """User plus system time of the processes so far, all threads, in nanoseconds.

    This is the sum utime + stime of /proc/PID/stat, read through the process's CPU clock (clock_getcpuclockid(3)),
    which the kernel does not cut to ticks of 10 ms. A process that has gone counts as 0.
    """
    total = 0
    for pid in pids:
        try:
            total += time.clock_gettime_ns((~pid << 3) | 2)  # 2: CPUCLOCK_SCHED, for the whole thread group
        except OSError:
            continue
    return total


def waiting_ns(pids: Iterable[int]) -> int:
    """Time that threads of these processes stood in the queue for a core so far, in nanoseconds (0 if not recorded)."""
    total = 0
    for pid in pids:
        for record in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(record.read_text().split()[1])
            except (OSError, IndexError):
                continue
    return total


def rss_bytes(pids: Iterable[int]) -> int:
    """Resident memory of the processes, summed: pages that two of them share count twice."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        except OSError:
            continue
    return total


def busy_ns(core: int) -> int:
    """Time the core has spent for any process (user, nice, system) or was kept from us by the host (steal)."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            ticks = [int(field) for field in line.split()[1:]]
            return (ticks[0] + ticks[1] + ticks[2] + ticks[7]) * 1_000_000_000 // _TICKS_PER_S
    raise BenchProblem(f"/proc/stat has no line for core {core}; the benchmark needs Linux with /proc mounted")


def describe() -> dict[str, object]:
    """The machine, as the head of every report."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": {
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
            "compiler": platform.python_compiler(),
            "executable": sys.executable,
            "profile_guided": is_profile_guided(),
        },
    }


def is_profile_guided() -> bool:
    """Whether this interpreter was built with profile-guided optimisation. Without it, Python's own code takes up to
    1.7 times as long. Debian and its kin build with it and take the flags out of their records."""
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS"))
    return "--enable-optimizations" in arguments or "deb_system" in sysconfig.get_scheme_names()


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name (state, ppid, …); empty when the process has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
