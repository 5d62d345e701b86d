"""All that must be 0, from one command: `python -m tests.proof [--minutes N] [--seed N] [--json]`.

chaos     real gateways killed, starved, cut off from their disk and their database, their clock moved
budgets   the budgets' state machine against a plain model, and the seeded bugs it must catch
secrets   rotations of master keys, killed: every stored secret still opens
wire      bytes compared on both sides, answers cut at every byte, floods, bombs, malformed requests, fuzzing

Each part is a command of its own and says itself whether its law held. Exits 1 when one did not.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

Command = Callable[[float, int], list[str]]
"""Makes the arguments of a part from its minutes and the seed."""

PARTS: dict[str, tuple[float, Command]] = {
    "chaos": (0.45, lambda minutes, seed: ["-m", "chaos", "--minutes", f"{minutes:g}", "--seed", str(seed), "--json"]),
    "budgets": (
        0.2,
        lambda minutes, seed: [
            *("-m", "tests.laws.budget_figures", "--seconds", f"{60 * minutes:.0f}", "--seed", str(seed), "--json"),
        ],
    ),
    "secrets": (
        0.05,
        lambda minutes, seed: [
            *("-m", "tests.planes.rotation", "--seconds", f"{60 * minutes:.0f}", "--seed", str(seed), "--json"),
        ],
    ),
    "wire": (
        0.3,
        lambda minutes, seed: ["-m", "tests.wire.soak", "--minutes", f"{minutes:g}", "--seed", str(seed), "--json"],
    ),
}
"""Name → its share of the time, its command. The wire's fixed sections take their time besides."""

MAX_MINUTES = 24 * 60


def main(arguments: Sequence[str] | None = None, parts: dict[str, tuple[float, Command]] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description="Every figure that must be 0.")
    parser.add_argument("--minutes", type=float, default=20.0, help="in all, roughly (default: 20; at most a day)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout (progress is on stderr)")
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= MAX_MINUTES:
        parser.error(f"--minutes must be above 0 and at most {MAX_MINUTES}")
    found: dict[str, Any] = {}
    for name, (share, command) in (parts or PARTS).items():
        sys.stderr.write(f"proof: {name} …\n")
        found[name] = _figures(command(share * options.minutes, options.seed))
    found["ok"] = all(figures["ok"] for figures in found.values())
    sys.stdout.write(json.dumps(found, indent=None if options.json else 2) + "\n")
    return 0 if found["ok"] else 1


def _figures(arguments: list[str]) -> dict[str, Any]:
    """What a part printed last, with its own verdict; a part that ends badly has none and is not ok."""
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    try:
        figures: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        return {"ok": False, "trouble": f"it printed no figures and ended with {done.returncode}"}
    return {**figures, "ok": bool(figures.get("ok", done.returncode == 0)) and done.returncode == 0}


if __name__ == "__main__":
    sys.exit(main())
