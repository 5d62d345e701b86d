"""Gateways forked from a process that has imported the house: a start costs a quarter of the processor's time.

Each is `tollhouse serve` from there on, in a process of its own, with two things more: it waits until it is let go, so
that a fault can be there from the first call of its start, and its wall clock can be set.

The file that is its clock holds eight bytes, a signed number of nanoseconds that is added to the wall clock. It stands
in for `time.time` and `time.time_ns` before anything of the house is imported; the monotonic clock stays the system's.

    python -m chaos.nursery        its standard input is the socket over which it is asked
"""

import ctypes
import json
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.serving import SOURCE, environment

ROOT = Path(__file__).resolve().parents[1]
OFFSET = struct.Struct("<q")
PR_SET_PDEATHSIG, PR_SET_PTRACER, ANY = 1, 0x59616D61, ctypes.c_ulong(-1)
MAX_BYTES = 65_536
TRUE_NS = time.time_ns


def set_clock(path: Path, offset_ns: int) -> None:
    """Have the wall clock of who looks at this file show what the system's does and so much more."""
    with path.open("r+b" if path.exists() else "xb", buffering=0) as file:  # never cut short: it is mapped
        file.write(OFFSET.pack(offset_ns))


# --- on this side


class Nursery:
    """The process that gateways are forked from. Any thread may ask it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        env = environment(Path(os.devnull), PYTHONPATH=f"{SOURCE}:{ROOT}")
        command = [sys.executable, "-m", "chaos.nursery"]
        with theirs:
            self._process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=theirs.fileno())
        self._socket = ours
        self._lock = threading.Lock()

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_error: object) -> None:
        """End it, and with it whoever of its gateways still lives."""
        self._socket.close()
        self._process.wait()

    def ask(self, question: dict[str, Any], *files: int) -> Any:
        """Its answer. `files` are descriptors that go with the question."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(question).encode()], files)
            return json.loads(self._socket.recv(MAX_BYTES))

    def start(self, words: tuple[str, ...], env: dict[str, str], clock: Path, log: int) -> "Child":
        """A gateway that waits to be let go; its errors go to `log`, a descriptor."""
        begin, go = os.pipe()
        said, say = os.pipe()
        try:
            pid = self.ask({"words": words, "env": env, "clock": str(clock)}, begin, say, log)
        finally:
            os.close(begin)
            os.close(say)
        return Child(self, pid, go, said)


class Child:
    """A gateway; what `subprocess.Popen` has, as far as it is needed. `go` lets it begin."""

    def __init__(self, nursery: Nursery, pid: int, go: int, said: int) -> None:
        self.pid = pid
        self.stdin = None
        self.stdout = open(said, "rb")  # noqa: SIM115  closed by who waits for its end
        self._nursery = nursery
        self._go = go
        self._end = os.pidfd_open(pid)
        self._code: int | None = None

    def go(self) -> None:
        with suppress(OSError):
            os.write(self._go, b"\n")

    def send_signal(self, number: int) -> None:
        if self._code is None:
            signal.pidfd_send_signal(self._end, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal."""
        if self._code is None:
            if not select.select([self._end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("tollhouse serve", timeout or 0.0)
            code: int = self._nursery.ask({"ended": self.pid})
            self._code = code
            os.close(self._go)
            os.close(self._end)
        return self._code


# --- on the other side


def main() -> int:
    """Fork a gateway for each that is asked for, until nobody asks."""
    offset = _steer()
    for needed in ("tollhouse.app", "tollhouse.cli.serve", "tollhouse.settings", "uvloop", "typer.main"):
        import_module(needed)  # with the clock that is steered
    from tollhouse import cli  # noqa: PLC0415  as above

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = socket.socket(fileno=0)
    while True:
        question, files, _, _ = socket.recv_fds(asked, MAX_BYTES, 3)
        if not question:
            return 0
        wanted = json.loads(question)
        if "ended" in wanted:
            _, status = os.waitpid(wanted["ended"], 0)
            asked.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if not pid:
            asked.close()
            _become(wanted, files, offset)
            return cli.main()
        for file in files:
            os.close(file)
        asked.send(json.dumps(pid).encode())


def _steer() -> list[Any]:
    """From now on the wall clock is off by what the mapped file says, once there is one."""
    offset: list[Any] = [bytes(OFFSET.size)]

    def time_ns() -> int:
        shift: int = OFFSET.unpack_from(offset[0])[0]
        return TRUE_NS() + shift

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
    return offset


def _become(wanted: dict[str, Any], files: list[int], offset: list[Any]) -> None:
    """In the child: take its place, and wait."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(PR_SET_PTRACER, ANY, 0, 0, 0)  # where only ancestors may trace, we let others
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for file, place in zip(files, (0, 1, 2), strict=True):
        os.dup2(file, place)
        os.close(file)
    os.environ.clear()
    os.environ.update(wanted["env"])
    time.tzset()
    with open(wanted["clock"], "rb") as clock:
        offset[0] = mmap.mmap(clock.fileno(), OFFSET.size, access=mmap.ACCESS_READ)
    sys.argv = ["tollhouse", *wanted["words"]]
    os.read(0, 1)


if __name__ == "__main__":
    sys.exit(main())
