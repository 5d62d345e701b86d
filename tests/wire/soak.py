"""The wire at length: `python -m tests.wire.soak [--minutes N] [--only SECTION …] [--seed N] [--json]`.

flood      slow and idle connections (10,000 where the limit of open files allows): the gateway's memory, and how long
           honest calls take beside them and without them
identity   10,000 generated bodies and streams, compared on both sides of the gateway
cuts       every recorded answer cut at every byte, by FIN and by RST; clients that go at every byte
lines      lines and answers of 64 MiB in every lane; every recording byte by byte with every line end
fuzz       mutants of the corpus of malformed requests, and garbled answers of providers, against the law of the wire
           until the time is over. A breach is printed with the number that makes it again.

Prints what it found; with --json one object, whose `ok` says that every figure that must be 0 is. Exits 1 when not.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.planes.plane import plane
from tests.planes.virtual_time import run_in_virtual_time
from tests.scripted import ScriptedUpstream
from tests.wire import cuts, floods, garbled, identity, lines
from tests.wire.law import HURRIED
from tests.wire.mutants import breaches, mutant, seeds, send
from tests.wire.recorder import recording

MAX_MB = 300
FLOOD_ROUNDS, FLOOD_CALLS = 5, 250
MAX_GROWN_MB = 64
"""Less than a line of `lines` has: none is ever kept whole."""
BATCH = 64
MAX_MINUTES = 24 * 60
BODIES = 10_000
ZERO = {
    "flood": (),
    "identity": ("requests_differing", "answers_differing", "headers_lost", "settled_wrongly"),
    "cuts": cuts.ZERO,
    "lines": ("answers_differing", "settled_wrongly"),
    "fuzz": (),
}
"""The sections, in order, and which of their figures must be 0; breaches must be none anywhere."""


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.wire.soak", description="Soak the wire of a gateway on loopback.")
    parser.add_argument("--minutes", type=float, default=5.0, help="of fuzzing, at most a day (default: 5)")
    parser.add_argument("--only", nargs="+", choices=ZERO, default=list(ZERO), help="sections (default: all)")
    parser.add_argument("--connections", type=int, default=10_000, help="of the flood (default: 10000)")
    parser.add_argument("--bodies", type=int, default=BODIES, help=f"of the identity (default: {BODIES})")
    parser.add_argument("--seed", type=int, default=0, help="the first number that anything is made from (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(words)
    seed, duration_s = arguments.seed, min(arguments.minutes, MAX_MINUTES) * 60
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "flood": lambda: flooded(arguments.connections),
        "identity": lambda: identity.figures(arguments.bodies, seed),
        "cuts": lambda: cuts.figures(every=True, seed=seed),
        "lines": lambda: lines.figures(),
        "fuzz": lambda: fuzzed(duration_s, seed),
    }
    found: dict[str, Any] = {}
    for name in ZERO:
        if name in arguments.only:
            print(f"{name} …", file=sys.stderr, flush=True)
            started = time.monotonic()
            found[name] = {**sections[name](), "seconds": round(time.monotonic() - started, 1)}
    found["ok"] = all(is_well(name, figures) for name, figures in found.items())
    if arguments.json:
        print(json.dumps(found))
    else:
        for part, figures in found.items():
            print(part, json.dumps(figures, indent=2))
    return 0 if found["ok"] else 1


def is_well(section: str, figures: dict[str, Any]) -> bool:
    """Every figure that must be 0 is, and memory stays within its bounds."""
    zero = not figures.get("breaches") and not any(figures[name] for name in ZERO[section])
    return zero and figures.get("peak_mb", 0) < MAX_MB and figures.get("grown_mb", 0) < MAX_GROWN_MB


def flooded(wanted: int) -> dict[str, Any]:
    """Memory in MB, times of calls in ms (medians over rounds), and how many times as long they take beside a flood.
    The ratios are told, not judged: a busy machine moves them more than the flood does.
    """
    connections = floods.allow_files(wanted)

    async def times(port: int, key: str) -> list[list[float]]:
        return [await floods.call(port, key, times=FLOOD_CALLS) for _ in range(FLOOD_ROUNDS)]

    async def story(port: int, key: str, pid: int) -> dict[str, Any]:
        await floods.call(port, key)
        quiet = await times(port, key)
        async with floods.flood(port, key, connections):
            beside = await times(port, key)
            now_mb, peak_mb = floods.memory_mb(pid)
        figures: dict[str, Any] = {
            "connections": connections,
            "rss_mb": round(now_mb, 1),
            "peak_mb": round(peak_mb, 1),
            "calls": sum(map(len, beside)),
        }
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            without, with_them = (
                statistics.median(floods.percentile(taken_ms, share) for taken_ms in rounds)
                for rounds in (quiet, beside)
            )
            figures[f"{name}_quiet_ms"], figures[f"{name}_ms"] = round(without, 2), round(with_them, 2)
            figures[f"{name}_ratio"] = round(with_them / without, 2)
        return figures

    with tempfile.TemporaryDirectory(prefix="tollhouse-soak-") as place, ScriptedUpstream() as upstream:
        gateway = floods.gateway(Path(place), upstream, head_timeout_s=60.0)
        try:
            gateway.start()
            assert gateway.process is not None
            return asyncio.run(story(floods.port_of(gateway), gateway.key("soak"), gateway.process.pid))
        finally:
            gateway.close()


def fuzzed(duration_s: float, seed: int) -> dict[str, Any]:
    """How many mutants were sent and how many garbled answers played, and every breach of the law."""
    choices, until = seeds(), time.monotonic() + duration_s
    sent, played, found = 0, 0, []
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
        found += garbled.play([garbled.garbled(number) for number in range(seed + played, seed + played + BATCH)])
        played += BATCH
    return {"mutants": sent, "answers": played, "breaches": found}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
