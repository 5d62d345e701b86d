"""The wire for minutes: `python -m tests.wire.soak [--minutes N] [--connections N] [--seed N] [--json]`.

1. A flood of slow and idle connections (10,000 where the limit of open files allows): the gateway's memory, and how
   long honest calls take beside it and without it.
2. Mutants of the corpus of malformed requests until the time is over, each batch against the law of the wire. A breach
   is printed with the number of its mutant's batch, which makes it again.

Prints what it found; with --json one object. Exits 1 when anything was wrong.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.planes.plane import plane
from tests.planes.virtual_time import run_in_virtual_time
from tests.scripted import ScriptedUpstream
from tests.wire import floods
from tests.wire.law import HURRIED
from tests.wire.mutants import breaches, mutant, seeds, send
from tests.wire.recorder import recording

MAX_MB = 300
BATCH = 64
MAX_MINUTES = 24 * 60


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.wire.soak", description="Flood and fuzz a gateway on loopback.")
    parser.add_argument("--minutes", type=float, default=5.0, help="of fuzzing, at most a day (default: 5)")
    parser.add_argument("--connections", type=int, default=10_000, help="of the flood (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="the first mutant's number (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(words)
    found = {"flood": flooded(arguments.connections)}
    found["fuzz"] = fuzzed(min(arguments.minutes, MAX_MINUTES) * 60, arguments.seed)
    found["ok"] = not found["fuzz"]["breaches"] and found["flood"]["peak_mb"] < MAX_MB
    if arguments.json:
        print(json.dumps(found))
    else:
        for part, figures in found.items():
            print(part, json.dumps(figures, indent=2))
    return 0 if found["ok"] else 1


def flooded(wanted: int) -> dict[str, Any]:
    """Memory in MB, times of calls in ms."""
    connections = floods.allow_files(wanted)

    async def story(port: int, key: str, pid: int) -> dict[str, Any]:
        await floods.call(port, key)
        quiet = await floods.call(port, key)
        async with floods.flood(port, key, connections):
            beside = await floods.call(port, key)
            now_mb, peak_mb = floods.memory_mb(pid)
        share = 0.99
        return {
            "connections": connections,
            "rss_mb": round(now_mb, 1),
            "peak_mb": round(peak_mb, 1),
            "calls": len(beside),
            "p50_ms": round(floods.percentile(beside, 0.5), 2),
            "p99_ms": round(floods.percentile(beside, share), 2),
            "p50_quiet_ms": round(floods.percentile(quiet, 0.5), 2),
            "p99_quiet_ms": round(floods.percentile(quiet, share), 2),
        }

    with tempfile.TemporaryDirectory(prefix="tollhouse-soak-") as place, ScriptedUpstream() as upstream:
        gateway = floods.gateway(Path(place), upstream, head_timeout_s=60.0)
        try:
            gateway.start()
            assert gateway.process is not None
            return asyncio.run(story(floods.port_of(gateway), gateway.key("soak"), gateway.process.pid))
        finally:
            gateway.close()


def fuzzed(duration_s: float, seed: int) -> dict[str, Any]:
    """How many mutants were sent, and every breach of the law."""
    choices, until = seeds(), time.monotonic() + duration_s
    sent, found = 0, []
    while time.monotonic() < until:
        first = seed + sent
        mutants = [mutant(number, choices) for number in range(first, first + BATCH)]
        batch: list[str] = []

        async def story(mutants: Any = mutants, batch: list[str] = batch) -> None:
            async with recording() as provider, plane(provider.port, edge=HURRIED) as running:
                outcomes = await send(mutants, running.port)
                batch += breaches(mutants, outcomes, provider)
                batch += ["money is still held"] if running.held else []

        try:
            run_in_virtual_time(story())
        except AssertionError as error:
            batch.append(f"uncaught: {error}")
        found += [f"batch from {first}: {breach}" for breach in batch]
        sent += BATCH
    return {"mutants": sent, "breaches": found}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
