"""The law of budgets in figures:
`python -m tests.laws.budget_figures [--seconds N | --examples N] [--seed N] [--json]`.

Plays random histories on the real accounts, journal, ledger and recovery until the time is over, and counts the laws
that broke, by name: all must be 0. Then each seeded bug is planted and must be caught. Exits 1 when anything is wrong.
"""

import argparse
import json
import logging
import sys
import time
from typing import Any

from tests.laws.budget_machine import BATCH, BudgetMachine, run
from tests.laws.budget_model import BrokenLawError
from tests.laws.one_node import Home
from tests.laws.seeded_bugs import BUGS, planted

EXAMPLES_PER_BUG = 1_000
"""A bug that as many histories do not show is not caught. Most show in the first twenty, and the looking ends there."""
FIRST_SEED = 11
"""Of the histories that look for bugs. The same ones every time in the same process only: Hypothesis throws in numbers
that it has read in whatever modules of ours are loaded, so other tests beside these make other histories.
"""
LAWS = {
    "overspend": "overspend",
    "false_refusal": "false_refusals",
    "stranded": "stranded",
    "lost_row": "lost_rows",
    "double_row": "double_rows",
    "wrong_row": "wrong_rows",
    "wrong_window": "wrong_windows",
}


def caught_by(home: Home, bug: str) -> tuple[str, str] | None:
    """The law that this seeded bug breaks, and how; None when no history shows it."""
    with planted(bug):
        try:
            run(home, examples=EXAMPLES_PER_BUG, first_seed=FIRST_SEED)
        except BrokenLawError as broken:
            return broken.law, str(broken)
    return None


def figures(seconds: float, seed: int, *, examples: int | None = None) -> dict[str, Any]:
    """How often each law broke in `seconds` of histories (or in so many `examples`) from this seed on, after how many
    steps, and how many of the seeded bugs are caught. `broken` says what, with the seed that plays it again.
    """
    counts = dict.fromkeys(LAWS.values(), 0)
    broken: list[str] = []
    mutants: dict[str, str] = {}
    played = 0
    logging.getLogger("tollhouse").setLevel(logging.CRITICAL)  # thousands of deaths, each with its warning
    until, before = time.monotonic() + seconds, BudgetMachine.steps
    with Home() as home:
        while played < examples if examples is not None else time.monotonic() < until:
            try:
                run(home, examples=BATCH, first_seed=seed)
            except BrokenLawError as error:
                counts[LAWS[error.law]] += 1
                broken.append(f"seed {seed}: {error}")
            played, seed = played + BATCH, seed + 1
        steps = BudgetMachine.steps - before
        for bug in BUGS:
            found = caught_by(home, bug)
            mutants[bug] = "not caught" if found is None else found[0]
    caught = sum(by != "not caught" for by in mutants.values())
    summary = {"steps": steps, "examples": played, **counts, "mutants": len(BUGS), "mutants_caught": caught}
    return {**summary, "caught_by": mutants, "broken": broken}


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.laws.budget_figures", description="Hold budgets to their law.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of histories, before the bugs (default: 60)")
    parser.add_argument("--examples", type=int, help="so many histories instead")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help=f"the first (default: {FIRST_SEED})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(words)
    found = figures(arguments.seconds, arguments.seed, examples=arguments.examples)
    print(json.dumps(found, indent=None if arguments.json else 2))
    return 0 if not found["broken"] and found["mutants_caught"] == found["mutants"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
