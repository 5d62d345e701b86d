"""Processes the run has started: begun on their core, watched, and ended in any case."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import certificates
from bench.calls import Endpoint
from bench.gateways import Gateway, Upstream, surroundings
from bench.machine import Cores, cpu_ns, pinned_to, process_tree, rss_bytes, work_in_batches
from bench.problem import BenchProblem

READY_LIMIT_S = 120.0
STOP_LIMIT_S = 15.0
_POLL_S = 0.002


@dataclass
class Running:
    """A started gateway. Without a process (direct), its CPU time and memory are 0."""

    name: str
    endpoint: Endpoint
    process: subprocess.Popen[bytes] | None
    not_counted: tuple[str, ...]
    started_s: float

    def pids(self) -> list[int]:
        """Its processes at this moment, without those that are not the gateway's own work."""
        if self.process is None:
            return []
        if self.process.poll() is not None:
            raise BenchProblem(f"{self.name} ended by itself with code {self.process.returncode} within the run")
        return process_tree(self.process.pid, self.not_counted)

    def cpu_ns(self) -> int:
        """CPU time of its processes so far."""
        return cpu_ns(self.pids())

    def rss_bytes(self) -> int:
        """Memory of its processes now."""
        return rss_bytes(self.pids())


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary directory for configurations, keys, journals and logs."""
    path = Path(tempfile.mkdtemp(prefix="tollhouse-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def mock_upstream(place: Path, cores: Cores) -> Iterator[tuple[Upstream, subprocess.Popen[bytes]]]:
    """The mock provider on the load's core, with and without TLS."""
    papers = certificates.issue(place)
    command = [sys.executable, "-m", "bench.mock_upstream"]
    command += ["--certificate", str(papers.server), "--key", str(papers.key)]
    with pinned_to(cores.load):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=surroundings({}), start_new_session=True
        )
        work_in_batches(process.pid)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise BenchProblem("the mock upstream did not start; its own message stands above")
        ports = json.loads(line)
        yield Upstream(port=ports["port"], tls_port=ports["tls_port"], authority=papers.authority), process
    finally:
        stop(process)


@contextmanager
def running(gateway: Gateway, upstream: Upstream, cores: Cores, place: Path, *, tls: bool = False) -> Iterator[Running]:
    """A gateway that is ready, on its own core."""
    own_place = Path(tempfile.mkdtemp(prefix=f"{gateway.name}-", dir=place))
    launch = gateway.prepare(own_place, upstream, tls)
    if not launch.command:
        yield Running(gateway.name, launch.endpoint, None, (), 0.0)
        return
    log = own_place / "bench.log"
    with ExitStack() as stack:
        sink = stack.enter_context(log.open("wb"))
        began = time.perf_counter()
        with pinned_to(cores.gateway):
            process = subprocess.Popen(
                launch.command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=surroundings(launch.environment),
                cwd=own_place,
                start_new_session=True,  # Ctrl-C reaches only this program, which then ends the others in order
            )
        stack.callback(stop, process)
        _wait_until_ready(gateway.name, launch.endpoint, process, log)
        yield Running(gateway.name, launch.endpoint, process, launch.not_counted, time.perf_counter() - began)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that this run started: ask, wait, and only then kill its group."""
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)  # its own session, so the group holds nothing of anybody else
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _wait_until_ready(name: str, endpoint: Endpoint, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_LIMIT_S
    while not _is_ready(endpoint):
        why = ""
        if process.poll() is not None:
            why = f"ended at start with code {process.returncode}"
        elif time.monotonic() > deadline:
            why = f"did not answer 200 at {endpoint.ready_path} within {READY_LIMIT_S:.0f} s"
        if why:
            last_words = log.read_text(errors="replace")[-2000:]
            raise BenchProblem(f"{name} {why}. The end of its output:\n{last_words}")
        time.sleep(_POLL_S)


def _is_ready(endpoint: Endpoint) -> bool:
    ask = f"GET {endpoint.ready_path} HTTP/1.1\r\nhost: 127.0.0.1:{endpoint.port}\r\nconnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", endpoint.port), 1.0) as sock:
            sock.sendall(ask.encode())
            return sock.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
