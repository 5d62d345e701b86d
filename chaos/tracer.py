"""Lets system calls on storage files fail, by strace: in a gateway that runs, and only on these files.

What a fault hits is said by files (journal or database), system call, and its number `k` since the tracer came. The
kernel is not asked at all: the call returns the error. strace counts for each thread by itself; here nearly every kind
of call is made by one thread, and where two make it (the journal is synced once more by the main thread at the end)
the k-th of both fails.
"""

import re
import select
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Files = Literal["journal", "database"]

SEGMENTS = 60
"""So many journal files to come are watched, beside those that are there."""
TRACER_S = 30.0
FAILED = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+).*\(INJECTED\)$", re.MULTILINE)


@dataclass(frozen=True)
class Fault:
    """What fails, from the `first`-th such call on; one call, or all until it is over."""

    files: Files
    calls: str
    """Names of system calls, with commas."""
    error: str
    first: int = 1
    lasting: bool = True

    def __str__(self) -> str:
        return f"{self.files}.{self.calls}.{self.first}{'+' * self.lasting}.{self.error}"


class Tracer:
    """What has failed so far is counted by the name of the call."""

    def __init__(self, output: Path) -> None:
        self._output = output

    @property
    def failed(self) -> Counter[str]:
        return Counter(FAILED.findall(self._output.read_text()))


@contextmanager
def failing(fault: Fault, pid: int, home: Path) -> Iterator[Tracer]:
    """The fault holds in this process until the block ends. AssertionError where a process may not be traced."""
    output = home.parent / "strace.out"
    output.write_text("")
    when = f"{fault.first}+" if fault.lasting else str(fault.first)
    words = ["strace", "-f", "-I2", "-y", "-e", "signal=none", "-o", str(output), "-p", str(pid)]
    words += ["-e", f"trace={fault.calls}", "-e", f"inject={fault.calls}:error={fault.error}:when={when}"]
    words += [word for path in _paths(fault.files, home) for word in ("-P", str(path))]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    try:
        _wait_for(process)
        yield Tracer(output)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TRACER_S)


def _wait_for(process: "subprocess.Popen[bytes]") -> None:
    assert process.stderr is not None
    said, until = b"", time.monotonic() + TRACER_S
    while b" attached" not in said:
        readable, _, _ = select.select([process.stderr], [], [], until - time.monotonic())
        more = process.stderr.read1() if readable else b""  # type: ignore[attr-defined]
        said += more
        assert more, f"strace does not trace: {said.decode(errors='replace')}"


def _paths(files: Files, home: Path) -> list[Path]:
    if files == "database":
        return [home / f"tollhouse.db{end}" for end in ("", "-wal", "-shm", "-journal")]
    journal = home / "journal"
    newest = max((int(path.name[:16]) for path in journal.glob("*.journal")), default=0)
    return [journal, *(journal / f"{number:016d}.journal" for number in range(newest + SEGMENTS + 1) if number)]
