"""The figures: what is loaded, what is read before and after, and how rounds become one number.

Every figure is taken in rounds; in each round all gateways are measured in turn, so that a slow minute of the machine
meets all of them. A ratio is taken inside its round, and the median over the rounds is what counts.
"""

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import calls
from bench.gateways import Direct, Gateway, Upstream
from bench.load import ClosedLoop, fixed_rate, streaming
from bench.machine import Cores, busy_ns, cpu_ns
from bench.problem import BenchProblem
from bench.running import Running, running

CONNECTIONS = 32
STREAMS = 128
EVENTS_PER_S = 100
LATENCY_CALLS_PER_S = 1_000
LARGE_BODY_BYTES = 50 * 1024
WARM_UP_S = 0.5
STREAM_TAIL_S = 0.8
EVENTS_AROUND_DELTAS = 5  # message_start, content_block_start; content_block_stop, message_delta, message_stop

YARDSTICK = "nginx"

Sample = dict[str, float]
Rounds = dict[str, list[Sample]]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    pairs: int
    seconds: float
    idle_streams: int
    starts: int


@dataclass
class Figure:
    """One figure of every gateway: medians over the rounds, and the ratio to the yardstick where it has one."""

    name: str
    ratio_of: str | None
    rounds: Rounds
    disturbed: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, Sample]:
        """Per gateway, the median of every quantity."""
        return {
            name: {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}
            for name, samples in self.rounds.items()
            if samples
        }

    def ratios(self, name: str) -> list[float]:
        """Per round, this gateway's quantity over the yardstick's; empty where there is nothing to divide."""
        quantity, base = self.ratio_of, self.rounds.get(YARDSTICK, [])
        if quantity is None or name == YARDSTICK or not all(sample.get(quantity) for sample in base):
            return []
        pairs = zip(self.rounds.get(name, []), base, strict=True) if base else ()
        return [ours[quantity] / theirs[quantity] for ours, theirs in pairs if ours.get(quantity)]


class Bench:
    """A machine in readiness: cores, upstream, directory, and the recipes to compare."""

    def __init__(
        self,
        plan: Plan,
        cores: Cores,
        place: Path,
        upstream: tuple[Upstream, subprocess.Popen[bytes]],
        gateways: Sequence[Gateway],
    ) -> None:
        self.plan = plan
        self._cores = cores
        self._place = place
        self._upstream, self._mock = upstream
        self._gateways = gateways

    def call(self) -> Figure:
        """CPU per call and calls per second, 32 connections, short texts; direct shows the load's own ceiling."""
        return self._closed_loops("call", calls.plain_body(), direct=True)

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

        def measure(gateway: Running, meter: "Meter") -> Sample:
            request = calls.request(gateway.endpoint, body)
            with streaming(gateway.endpoint.port, request, STREAMS) as streams:
                streams.wait_for_first()
                streams.run(WARM_UP_S)
                with meter.over(gateway):
                    count = streams.run(self.plan.seconds)
                streams.finish(events + EVENTS_AROUND_DELTAS)
            return {"cpu_us": meter.cpu_ns / count / 1e3, "per_s": count / meter.wall_s, "core": meter.share()}

        return self._in_rounds("event", "cpu_us", measure)

    def latency(self) -> Figure:
        """Time per call at 1,000 calls a second, and what the gateway adds to the time without one."""

        def measure(gateway: Running, meter: "Meter") -> Sample:
            request = calls.request(gateway.endpoint, calls.plain_body())
            fixed_rate(gateway.endpoint.port, request, LATENCY_CALLS_PER_S, WARM_UP_S)
            with meter.over(gateway):
                times = fixed_rate(gateway.endpoint.port, request, LATENCY_CALLS_PER_S, self.plan.seconds)
            p50, p99 = times.percentile_ms(50), times.percentile_ms(99)
            return {"p50_ms": p50, "p99_ms": p99, "late": times.late / len(times.sorted_ns)}

        figure = self._in_rounds("latency", None, measure, direct=True)
        for samples in figure.rounds.values():
            for sample, direct in zip(samples, figure.rounds[Direct.name], strict=True):
                sample["added_p50_ms"] = sample["p50_ms"] - direct["p50_ms"]
                sample["added_p99_ms"] = sample["p99_ms"] - direct["p99_ms"]
        return figure

    def idle(self) -> Figure:
        """Start-up time (to the first 200 of its readiness) and memory before any call."""
        figure = Figure("idle", None, {})
        for _ in range(self.plan.starts):
            for gateway in self._gateways:
                with self._started(gateway) as started:
                    time.sleep(WARM_UP_S)
                    sample = {"start_s": started.started_s, "rss_mb": started.rss_bytes() / 1e6}
                figure.rounds.setdefault(gateway.name, []).append(sample)
        return figure

    def idle_stream(self) -> Figure:
        """Memory per open stream on which nothing moves, from a fresh start: memory used before would hide the need."""
        figure, body = Figure("idle_stream", None, {}), calls.streamed_body(0, 0)
        for gateway in self._gateways:
            with self._started(gateway) as started, _naming(figure.name, started):
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

    def _closed_loops(self, name: str, body: bytes, *, tls: bool = False, direct: bool = False) -> Figure:
        def measure(gateway: Running, meter: "Meter") -> Sample:
            loop = ClosedLoop(gateway.endpoint.port, calls.request(gateway.endpoint, body), CONNECTIONS)
            try:
                loop.run(WARM_UP_S)
                with meter.over(gateway):
                    count = loop.run(self.plan.seconds)
            finally:
                loop.close()
            return {"cpu_us": meter.cpu_ns / count / 1e3, "per_s": count / meter.wall_s, "core": meter.share()}

        return self._in_rounds(name, "cpu_us", measure, tls=tls, direct=direct)

    def _in_rounds(
        self,
        name: str,
        ratio_of: str | None,
        measure: Callable[[Running, "Meter"], Sample],
        *,
        tls: bool = False,
        direct: bool = False,
    ) -> Figure:
        """Start every gateway, then measure all of them in turn, as many rounds as the plan says."""
        recipes = (Direct(), *self._gateways) if direct else (*self._gateways,)
        figure = Figure(name, ratio_of, {recipe.name: [] for recipe in recipes})
        with ExitStack() as stack:
            started = [stack.enter_context(self._started(recipe, tls=tls)) for recipe in recipes]
            for number in range(self.plan.pairs):
                _say(f"{name}: round {number + 1} of {self.plan.pairs}")
                for gateway in started:
                    meter = Meter(self._cores, self._mock.pid)
                    with _naming(name, gateway), _no_collector():
                        figure.rounds[gateway.name].append(measure(gateway, meter))
                    figure.disturbed.append(meter.foreign_share())
        return figure

    def _warm_up(self, gateway: Running, request: bytes) -> None:
        loop = ClosedLoop(gateway.endpoint.port, request, CONNECTIONS)
        loop.run(WARM_UP_S)
        loop.close()

    @contextmanager
    def _started(self, recipe: Gateway, *, tls: bool = False) -> Iterator[Running]:
        with running(recipe, self._upstream, self._cores, self._place, tls=tls) as gateway:
            yield gateway


class Meter:
    """Reads the clocks around a measurement: the gateway's CPU, the wall's, and what anybody else took of our cores."""

    def __init__(self, cores: Cores, mock_pid: int) -> None:
        self._cores = cores
        self._mock_pid = mock_pid
        self.cpu_ns = self._own_ns = 0
        self._foreign_ns = 0
        self.wall_s = 0.0

    @contextmanager
    def over(self, gateway: Running) -> Iterator[None]:
        """Read before and after."""
        before, began = self._read(gateway), time.perf_counter()
        yield
        self.wall_s = time.perf_counter() - began
        after = self._read(gateway)
        self.cpu_ns, self._own_ns, busy = (late - early for late, early in zip(after, before, strict=True))
        self._foreign_ns = max(0, busy - self.cpu_ns - self._own_ns)

    def share(self) -> float:
        """How much of its core the gateway used: near 1, it was the gateway that set the pace."""
        return self.cpu_ns / 1e9 / self.wall_s

    def foreign_share(self) -> float:
        """CPU of others on the two cores, as a share of one core."""
        return self._foreign_ns / 1e9 / self.wall_s if self.wall_s else 0.0

    def _read(self, gateway: Running) -> tuple[int, int, int]:
        own = time.process_time_ns() + cpu_ns([self._mock_pid])
        return gateway.cpu_ns(), own, busy_ns(self._cores.load) + busy_ns(self._cores.gateway)


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
def _naming(figure: str, gateway: Running) -> Iterator[None]:
    """Say in a failure which figure of which gateway it was."""
    try:
        yield
    except BenchProblem as problem:
        raise BenchProblem(f"{figure} of {gateway.name}: {problem}") from problem


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
