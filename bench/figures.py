"""The figures: what is loaded, what is read before and after, and how rounds become one number.

Every figure is taken in rounds of short slices. In each round all gateways are measured, one close behind the other
and in turned order from round to round (AB BA AB …), so that a slow minute of the machine meets all of them. A ratio is
taken inside its round, and the median over the rounds is what counts. Of a given time many short slices tell more than
few long ones: a shared host is quick and slow by turns of seconds and less, and a pair must lie within one. With
patience (`--patience`) a figure goes on until it has had all its rounds in quiet moments too; what made them quiet is
the work of another process, never the figure itself.

The CPU of a call is everything it causes: the clock runs from a gateway at rest to the gateway at rest again, so what
it writes down later (a ledger, a log) is counted, and not charged to whoever is measured next.
"""

import gc
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import calls
from bench.gateways import Direct, Gateway, Upstream
from bench.load import ClosedLoop, fixed_rate, streaming
from bench.machine import Cores
from bench.meter import Meter
from bench.pace import Pace
from bench.problem import BenchProblem
from bench.quiet import Quickest, Quiet, quickest_of
from bench.rounds import Figure, Sample
from bench.running import Running, running

CONNECTIONS = 64  # with 32, nginx stands at 85–90 % of its core: the load has as much to do as nginx
STREAMS = 128
EVENTS_PER_S = 100
LATENCY_CALLS_PER_S = 1_000
LARGE_BODY_BYTES = 50 * 1024
WARM_UP_S = 0.5
STREAM_TAIL_S = 0.8
EVENTS_AROUND_DELTAS = 5  # message_start, content_block_start; content_block_stop, message_delta, message_stop


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    pairs: int  # rounds of streams; of latency, in measurements of half the length, twice as many
    seconds: float  # length of one measurement of streams
    slices: int  # rounds of the closed loops
    call_slices: int  # rounds of the main one
    slice_s: float  # length of one measurement of a closed loop
    idle_streams: int
    starts: int
    patience_s: float = 0.0  # how much longer a figure may take to have all its rounds in quiet moments


class Bench:
    """A machine in readiness: cores, upstream, directory, and the recipes to compare."""

    def __init__(
        self,
        plan: Plan,
        cores: Cores,
        place: Path,
        upstream: tuple[Upstream, subprocess.Popen[bytes]],
        gateways: Sequence[Gateway],
        pace: Pace,
        known: Quickest,
    ) -> None:
        self.plan = plan
        self._cores = cores
        self._place = place
        self._upstream, self._mock = upstream
        self._gateways = gateways
        self._pace = pace
        self._known = known

    def call(self) -> Figure:
        """CPU per call and calls per second, 64 connections, short texts; direct shows the load's own ceiling."""
        return self._closed_loops("call", calls.plain_body(), slices=self.plan.call_slices, direct=True)

    def call_50kb(self) -> Figure:
        """The same with a request body of 50 KB."""
        return self._closed_loops("call_50kb", calls.plain_body(LARGE_BODY_BYTES))

    def tls_call(self) -> Figure:
        """The same as `call` with an upstream that speaks TLS, its certificate checked."""
        return self._closed_loops("tls_call", calls.plain_body(), tls=True)

    def event(self) -> Figure:
        """CPU per streamed event: 128 streams of 100 events a second, measured in their midst."""
        events = int(EVENTS_PER_S * (self.plan.seconds + WARM_UP_S + STREAM_TAIL_S))
        body = calls.streamed_body(EVENTS_PER_S, events)

        def measure(gateway: Running, meter: Meter) -> Sample:
            request = calls.request(gateway.endpoint, body)
            with streaming(gateway.endpoint.port, request, STREAMS) as streams:
                streams.wait_for_first()
                streams.run(WARM_UP_S)
                with meter.amid(gateway):
                    count = streams.run(self.plan.seconds)
                streams.finish(events + EVENTS_AROUND_DELTAS)
            return _cost(meter, count)

        return self._in_rounds("event", "cpu_us", measure)

    def latency(self) -> Figure:
        """Time per call at 1,000 calls a second, and what the gateway adds to the time without one."""

        def measure(gateway: Running, meter: Meter) -> Sample:
            request = calls.request(gateway.endpoint, calls.plain_body())
            fixed_rate(gateway.endpoint.port, request, LATENCY_CALLS_PER_S, WARM_UP_S / 2)
            with meter.until_rest(gateway):
                times = fixed_rate(gateway.endpoint.port, request, LATENCY_CALLS_PER_S, self.plan.seconds / 2)
            p50, p99 = times.percentile_ms(50), times.percentile_ms(99)
            return {"p50_ms": p50, "p99_ms": p99, "late": times.late / len(times.sorted_ns)}

        figure = self._in_rounds("latency", None, measure, rounds=2 * self.plan.pairs, direct=True)
        for samples in figure.rounds.values():
            for sample, direct in zip(samples, figure.rounds[Direct.name], strict=False):  # a peer's may be fewer
                sample["added_p50_ms"] = sample["p50_ms"] - direct["p50_ms"]
                sample["added_p99_ms"] = sample["p99_ms"] - direct["p99_ms"]
        return figure

    def idle(self) -> Figure:
        """Start-up time (to the first 200 of its readiness) and memory before any call."""
        figure = Figure("idle", None, {})
        for _ in range(self.plan.starts):
            for gateway in self._gateways:
                with _or_absent(figure, gateway), self._started(gateway) as started:
                    time.sleep(WARM_UP_S)
                    sample = {"start_s": started.started_s, "rss_mb": started.rss_bytes() / 1e6}
                    figure.rounds.setdefault(gateway.name, []).append(sample)
        return figure

    def idle_stream(self) -> Figure:
        """Memory per open stream on which nothing moves, from a fresh start: memory used before would hide the need."""
        figure, body = Figure("idle_stream", None, {}), calls.streamed_body(0, 0)
        for gateway in self._gateways:
            with _or_absent(figure, gateway), self._started(gateway) as started, _naming(figure.name, gateway):
                request = calls.request(started.endpoint, calls.plain_body())
                self._warm_up(started, request)
                before = started.rss_bytes()
                port, request = started.endpoint.port, calls.request(started.endpoint, body)
                with streaming(port, request, self.plan.idle_streams) as streams:
                    streams.wait_for_first()
                    streams.run(WARM_UP_S)
                    grown = started.rss_bytes() - before
                sample = {"kb_per_stream": grown / 1e3 / self.plan.idle_streams, "rss_before_mb": before / 1e6}
                figure.rounds[gateway.name] = [sample]
        return figure

    def _closed_loops(
        self, name: str, body: bytes, *, slices: int | None = None, tls: bool = False, direct: bool = False
    ) -> Figure:
        loops: dict[str, ClosedLoop] = {}

        def measure(gateway: Running, meter: Meter) -> Sample:
            loop = loops.get(gateway.name)
            if loop is None:
                request = calls.request(gateway.endpoint, body)
                loop = loops[gateway.name] = ClosedLoop(gateway.endpoint.port, request, CONNECTIONS)
                with meter.until_rest(gateway):
                    loop.run(WARM_UP_S)
            with meter.until_rest(gateway):
                count = loop.run(self.plan.slice_s)
            return _cost(meter, count)

        def leave() -> None:
            for loop in loops.values():
                loop.close()

        rounds = slices or self.plan.slices
        return self._in_rounds(name, "cpu_us", measure, leave, rounds=rounds, tls=tls, direct=direct)

    def _in_rounds(
        self,
        name: str,
        ratio_of: str | None,
        measure: Callable[[Running, Meter], Sample],
        leave: Callable[[], None] = lambda: None,
        *,
        rounds: int | None = None,
        tls: bool = False,
        direct: bool = False,
    ) -> Figure:
        """Start every gateway, measure all of them in turn, as many rounds as the plan says, and leave them."""
        recipes = (Direct(), *self._gateways) if direct else (*self._gateways,)
        figure = Figure(name, ratio_of, {recipe.name: [] for recipe in recipes})
        rounds = rounds or self.plan.pairs
        with ExitStack() as stack:
            started: list[tuple[Gateway, Running, ExitStack]] = []
            for recipe in recipes:
                end = stack.enter_context(ExitStack())
                with _or_absent(figure, recipe):
                    started.append((recipe, end.enter_context(self._started(recipe, tls=tls)), end))
            stack.callback(leave)
            for number in self._numbers(figure, rounds):
                _say(f"{name}: round {number + 1} of {rounds}")
                for recipe, gateway, end in started if number % 2 == 0 else reversed(started):
                    if recipe.name in figure.absent:
                        continue
                    meter = Meter(self._cores, (self._mock.pid, self._pace.pid))
                    with _or_absent(figure, recipe), _naming(name, recipe), _no_collector():
                        sample = measure(gateway, meter)
                        sample["pace_us"], sample["memory_us"] = self._pace.between(*meter.loaded_s)
                        sample["foreign"] = meter.foreign_share()
                        figure.rounds[gateway.name].append(sample)
                    if recipe.name in figure.absent:
                        end.close()  # what it has begun would take the others' time
        return figure

    def _numbers(self, figure: Figure, rounds: int) -> Iterator[int]:
        """Of the rounds: those that are planned, and while there is patience, more until as many were quiet."""
        yield from range(rounds)
        deadline = time.monotonic() + self.plan.patience_s
        for number in itertools.count(rounds):
            if time.monotonic() >= deadline or self._quiet_rounds(figure) >= rounds:
                return
            yield number

    def _quiet_rounds(self, figure: Figure) -> int:
        """How many measurements of every gateway were made in quiet moments so far, of the one with the fewest."""
        quiet = Quiet(quickest_of([figure], self._known))
        names = [gateway.name for gateway in self._gateways if gateway.name in figure.rounds]
        return min((len(quiet.all_moments(figure, name)) for name in names), default=0)

    def _warm_up(self, gateway: Running, request: bytes) -> None:
        loop = ClosedLoop(gateway.endpoint.port, request, CONNECTIONS)
        loop.run(WARM_UP_S)
        loop.close()

    @contextmanager
    def _started(self, recipe: Gateway, *, tls: bool = False) -> Iterator[Running]:
        with running(recipe, self._upstream, self._cores, self._place, tls=tls) as gateway:
            yield gateway


def _cost(meter: Meter, count: int) -> Sample:
    return {
        "cpu_us": meter.cpu_ns / count / 1e3,
        "per_s": count / meter.wall_s,
        "core": meter.used_share(),
        "wanted": meter.wanted_share(),
    }


@contextmanager
def _no_collector() -> Iterator[None]:
    """Keep Python's garbage collector out of the load's clock."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _or_absent(figure: Figure, gateway: Gateway) -> Iterator[None]:
    """Where a peer fails, note why, drop its figure and go on."""
    try:
        yield
    except BenchProblem as problem:
        if not gateway.is_peer:
            raise
        _say(f"{figure.name} without {gateway.name}: {problem}")
        figure.absent[gateway.name] = str(problem)
        figure.rounds.pop(gateway.name, None)


@contextmanager
def _naming(figure: str, gateway: Gateway) -> Iterator[None]:
    """Say in a failure which figure of which gateway it was."""
    try:
        yield
    except BenchProblem as problem:
        raise BenchProblem(f"{figure} of {gateway.name}: {problem}") from problem


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
