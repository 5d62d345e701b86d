"""Very many connections that do nothing, or nearly, and what they cost a gateway and its honest users."""

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from tests.planes.plane import MESSAGE
from tests.scripted import ScriptedUpstream, reply
from tests.serving import Gateway

BODY = json.dumps({"model": "claude-sonnet-4-6", "max_tokens": 10, "messages": []}).encode()
OPENING_S = 300.0
SPARE_FILES = 500
CALL_S = 60.0


def settings(upstream: ScriptedUpstream, **listen: Any) -> dict[str, Any]:
    """A gateway before a scripted provider."""
    upstream.script = lambda received: [reply(200, MESSAGE)]
    row = {"name": "mock", "kind": "anthropic", "base_url": upstream.url, "api_key": "env:MOCK_KEY"}
    return {"local": {"enabled": False}, "listen": listen, "providers": [{**row, "models": ["claude-*"]}]}


def gateway(place: Path, upstream: ScriptedUpstream, **listen: Any) -> Gateway:
    return Gateway(place, settings(upstream, **listen), MOCK_KEY="sk-ant-api03-the-operators-own")


def allow_files(connections: int) -> int:
    """Raise this process's limit of open files, which the gateway inherits; how many connections it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < connections + SPARE_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(connections + SPARE_FILES, hard), hard))
    return min(connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES)


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident memory now, and at its highest so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return kilobytes["VmRSS"] / 1024, kilobytes["VmHWM"] / 1024


def cpu_s(pid: int) -> float:
    """The work that a process has done so far, in 0.01 s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def port_of(running: Gateway) -> int:
    return int(running.url.rsplit(":", 1)[1])


class Caller:
    """An honest user with a connection of its own."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        head = f"POST /v1/messages HTTP/1.1\r\nhost: t\r\nx-api-key: {key}\r\ncontent-length: {len(BODY)}\r\n\r\n"
        self.wire = head.encode() + BODY
        self.times_s: list[float] = []

    async def call(self, times: int) -> None:
        """So many calls one after another; each must succeed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for _ in range(times):
                started = time.perf_counter()
                writer.write(self.wire)
                async with asyncio.timeout(CALL_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 200 "), head
                    length = int(head.lower().partition(b"content-length:")[2].split()[0])
                    await reader.readexactly(length)
                self.times_s.append(time.perf_counter() - started)
                await asyncio.sleep(0.002)
        finally:
            writer.transport.abort()


async def call(port: int, key: str, *, callers: int = 4, times: int = 100) -> list[float]:
    """The times of all calls of some honest users, in ms, sorted."""
    users = [Caller(port, key) for _ in range(callers)]
    await asyncio.gather(*(user.call(times) for user in users))
    return sorted(taken * 1000 for user in users for taken in user.times_s)


def percentile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


@contextlib.asynccontextmanager
async def flood(port: int, key: str, connections: int) -> AsyncIterator[None]:
    """So many connections of another process: a third idle, a third with a part of a head, a third with a part of a
    body; of those that have begun, some send another byte now and then.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.wire.flooding", str(port), str(connections)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(key.encode() + b"\n")
        async with asyncio.timeout(OPENING_S):
            assert await child.stdout.readline() == b"ready\n"
        yield
    finally:
        child.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
