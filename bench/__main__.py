"""The command line: python -m bench [--json] [--quick] [--only call,event] [--pairs N] [--seconds S]."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from bench.figures import Bench, Plan
from bench.gateways import Gateway, Nginx, Tollhouse
from bench.machine import choose_cores, describe, pinned_to, work_in_batches
from bench.pace import Pace
from bench.peers import peers
from bench.problem import BenchProblem
from bench.quiet import Quickest, quickest_of, recall, remember
from bench.report import as_json, as_text
from bench.rounds import YARDSTICK, Figure
from bench.running import mock_upstream, workplace

FIGURES: dict[str, Callable[[Bench], Figure]] = {
    "call": Bench.call,
    "event": Bench.event,
    "call_50kb": Bench.call_50kb,
    "tls_call": Bench.tls_call,
    "latency": Bench.latency,
    "idle": Bench.idle,
    "idle_stream": Bench.idle_stream,
}
PAIRS_LIMIT = 100
SECONDS_LIMIT = 60.0
PATIENCE_LIMIT_S = 3600.0
SLICE_S = 0.25
IDLE_STREAMS, QUICK_IDLE_STREAMS = 1_000, 300


def known() -> tuple[Gateway, ...]:
    """Every recipe, in the order of measuring."""
    return (Nginx(), Tollhouse(), *peers())


def main(arguments: Sequence[str] | None = None, recipes: Sequence[Gateway] | None = None) -> int:
    """Run and report; the exit code is 0, or 2 when it could not be measured."""
    recipes = known() if recipes is None else recipes
    options = _options(arguments, recipes)
    for recipe in recipes:
        if isinstance(recipe, Tollhouse):
            recipe.own_keys = options.own_keys
    try:
        chosen = [recipe for recipe in recipes if recipe.name in options.gateways]
        with _ended_in_order():
            quickest = recall()
            figures = _measure(options, chosen, quickest)
    except BenchProblem as problem:
        sys.stderr.write(f"bench: {problem}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted; everything that was started has been ended\n")
        return 130
    head: dict[str, object] = {
        "machine": describe(),
        "plan": {
            "pairs": options.pairs,
            "seconds": options.seconds,
            "slices": options.slices,
            "call_slices": options.call_slices,
            "slice_s": options.slice_s,
            "quick": options.quick,
            "patience_s": options.patience,
            "own_keys": options.own_keys,
        },
    }
    subject = next((recipe.name for recipe in chosen if recipe.name != YARDSTICK), YARDSTICK)
    if options.json:
        report = json.dumps(as_json(subject, figures, head, quickest))
    else:
        report = as_text(subject, figures, quickest)
    sys.stdout.write(report + "\n")
    sys.stdout.flush()
    try:
        remember(quickest_of(figures, quickest))  # last: what was measured for minutes is not lost by it
    except BenchProblem as problem:
        sys.stderr.write(f"bench: {problem}\n")
        return 2
    return 0


def _measure(options: argparse.Namespace, recipes: Sequence[Gateway], quickest: Quickest) -> list[Figure]:
    idle_streams, starts = (QUICK_IDLE_STREAMS, 3) if options.quick else (IDLE_STREAMS, 5)
    cores = choose_cores()
    plan = Plan(
        options.pairs,
        options.seconds,
        options.slices,
        options.call_slices,
        options.slice_s,
        idle_streams,
        starts,
        options.patience,
    )
    with Pace(cores.gateway) as pace, workplace() as place:
        work_in_batches()
        with mock_upstream(place, cores) as upstream, pinned_to(cores.load):
            bench = Bench(plan, cores, place, upstream, recipes, pace, quickest)
            return [FIGURES[name](bench) for name in options.only]


def _options(arguments: Sequence[str] | None, recipes: Sequence[Gateway]) -> argparse.Namespace:
    names = [recipe.name for recipe in recipes]
    ordinary = [recipe.name for recipe in recipes if not recipe.is_peer]
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="What a call through Tollhouse costs beside nginx, in one run."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout (progress is on stderr)")
    parser.add_argument("--quick", action="store_true", help="shorter, under 3 minutes in all")
    parser.add_argument("--only", type=_one_of(FIGURES), default=list(FIGURES), metavar=",".join(FIGURES))
    parser.add_argument(
        "--gateways", type=_one_of(names), default=ordinary, metavar=",".join(names),
        help=f"what is compared ({','.join(ordinary)}); others are installed below .cache/bench when asked for",
    )  # fmt: skip
    parser.add_argument(
        "--pairs", type=int, help="rounds of every figure (9; closed loops 72, call 120; quick: 5; 11, 22)"
    )
    parser.add_argument(
        "--seconds", type=float, help="length of every measurement (2, closed loops 0.25; quick: 1; 0.25)"
    )
    parser.add_argument(
        "--patience", type=float, default=0.0, metavar="SECONDS",
        help="how much longer a figure may take until all its rounds were had in quiet moments too (0)",
    )  # fmt: skip
    parser.add_argument("--own-keys", action="store_true", help="a provider key of the user's own pays for the calls")
    options = parser.parse_args(arguments)
    options.slices = options.call_slices = options.pairs
    if options.pairs is None:
        options.pairs, options.slices, options.call_slices = (5, 11, 22) if options.quick else (9, 72, 120)
    options.slice_s = options.seconds
    if options.seconds is None:
        options.seconds, options.slice_s = 1.0 if options.quick else 2.0, SLICE_S
    if not 1 <= options.pairs <= PAIRS_LIMIT:
        parser.error(f"--pairs must be between 1 and {PAIRS_LIMIT}")
    if not 0.2 <= options.seconds <= SECONDS_LIMIT:
        parser.error(f"--seconds must be between 0.2 and {SECONDS_LIMIT:.0f}")
    if not 0 <= options.patience <= PATIENCE_LIMIT_S:
        parser.error(f"--patience must be between 0 and {PATIENCE_LIMIT_S:.0f} seconds")
    return options


def _one_of(names: Sequence[str] | dict[str, Callable[[Bench], Figure]]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        wanted = text.split(",")
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there is {', '.join(names)}")
        return [name for name in names if name in wanted]

    return parse


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM and Ctrl-C (which a shell's background job would ignore) unwind the run, and it ends what it started."""
    before = {number: signal.signal(number, _leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
