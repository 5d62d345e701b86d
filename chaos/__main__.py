"""The command line: python -m chaos [--minutes N] [--json] [--seed S] [--only killed,spent] [--replay ROUND]."""

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from chaos.books import LAW
from chaos.kinds import KINDS
from chaos.nursery import Nursery
from chaos.parts import BRIEF, LONG, SHORT, Scale
from chaos.run import Run

CYCLE = (
    *("killed", "storm", "killed", "spent", "killed", "changed", "killed", "stopped", "killed", "jumped"),
    *("behind", "nospace", "fulldisk", "faulted", "faulted", "faulted", "strict", "away", "killed_postgres"),
)
LASTING = ("locked", "gone")
"""Of every second cycle: most of a minute each."""
CYCLES = 10
"""Without --minutes: 50 rounds of `killed`, every place of `faulted`, and all others some times."""
LONG_FROM_MINUTES = 5
"""In less, no fault lasts half a minute."""
MINUTES_LIMIT = 24 * 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report; the exit code is 0 when the law held, 1 when it did not."""
    options = _options(arguments)
    directory = Path(tempfile.mkdtemp(prefix="tollhouse-chaos-"))
    until = float("inf") if options.minutes is None else time.monotonic() + 60 * options.minutes
    nursery = Nursery()
    run = Run(directory, options.seed, _scale(options), nursery, _say if not options.json else lambda _line: None)
    with contextlib.suppress(KeyboardInterrupt), _ended_in_order(), nursery, run:
        for kind, number in _rounds(options):
            of_all_kinds = number == 0 and not options.replay
            if run.hopeless or (time.monotonic() > until and not of_all_kinds):
                break
            run.play(kind, number)
    figures = run.figures()
    if not run.failed:
        shutil.rmtree(directory, ignore_errors=True)
    sys.stdout.write(json.dumps(figures) + "\n" if options.json else _text(figures))
    return 0 if figures["ok"] else 1


def _scale(options: argparse.Namespace) -> Scale:
    if options.short:
        return SHORT
    return BRIEF if options.minutes is not None and options.minutes < LONG_FROM_MINUTES else LONG


def _rounds(options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Kinds, each with how often it was there before: every kind once, then cycles, endless with --minutes."""
    if options.replay:
        _, kind, number = options.replay.rsplit(":", 2)
        yield kind, int(number)
        return
    before: Counter[str] = Counter()
    for kind in _kinds(options):
        if not options.only or kind in options.only:
            yield kind, before[kind]
            before[kind] += 1


def _kinds(options: argparse.Namespace) -> Iterator[str]:
    every = tuple(dict.fromkeys((*CYCLE, *LASTING)))
    yield from every
    rest = list(CYCLE)
    for kind in every:
        if kind in rest:
            rest.remove(kind)
    yield from rest
    for number in count(1) if options.minutes is not None else range(1, options.cycles):
        yield from CYCLE
        if number % 2:
            yield from LASTING


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("chaos", description="Kill, starve and lock a gateway; hold its books to the law.")
    parser.add_argument("--minutes", type=float, help="as many rounds as fit (else: --cycles)")
    parser.add_argument("--cycles", type=int, default=CYCLES, help="times over all kinds of rounds")
    parser.add_argument("--short", action="store_true", help="shorter rounds")
    parser.add_argument("--json", action="store_true", help="one JSON object, and nothing else")
    parser.add_argument("--seed", default=str(int(time.time())), help="what all chance is drawn from")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help=f"of {', '.join(KINDS)}")
    parser.add_argument("--replay", default="", metavar="SEED:KIND:NUMBER", help="one round, as a failure names it")
    options = parser.parse_args(arguments)
    if set(options.only) - set(KINDS):
        parser.error(f"--only: kinds are {', '.join(KINDS)}")
    if options.minutes is not None and not 0 < options.minutes <= MINUTES_LIMIT:
        parser.error(f"--minutes: more than 0, at most {MINUTES_LIMIT}")
    if options.replay:
        parts = options.replay.rsplit(":", 2)
        if len(parts) != 3 or parts[1] not in KINDS or not parts[2].isdecimal():
            parser.error("--replay: SEED:KIND:NUMBER, as a failed round names it")
        options.seed = parts[0]
    return options


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does: what was started is ended."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _text(figures: dict[str, Any]) -> str:
    failed = figures.pop("failed")
    lines = ["", "must be 0:"]
    lines += [f"{figures.pop(name):9d}  {name.replace('_', ' ')}: {meaning}" for name, meaning in LAW.items()]
    lines += ["", *(f"{name.replace('_', ' ')}: {value}" for name, value in figures.items()), ""]
    for one in failed:
        lines += [f"FAILED {one['round']}", *(f"  {note}" for note in one["notes"])]
        lines += [f"  its home is kept in {one['home']}", f"  again: {one['reproduce']}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
