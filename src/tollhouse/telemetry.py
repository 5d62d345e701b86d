"""Counters of this process, cheap to add to, read as Prometheus text.

The data plane adds to plain integers (a labelled prometheus counter costs a lock and a look-up per call, ten times as
much); a collector turns them into metrics only when somebody asks. Labels are a provider's name, an endpoint, a kind:
never a person, a key or a text of a request.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tollhouse.terms.errors import Refusal
from tollhouse.terms.events import Settlement
from tollhouse.terms.money import NUSD_PER_USD

BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

Gauges = dict[str, tuple[str, float]]
"""Metric name (without prefix) → (help, value)."""


class Series:
    """One provider and endpoint."""

    __slots__ = (
        "amount_nusd",
        "calls",
        "duration_buckets",
        "duration_us",
        "first_byte_buckets",
        "first_byte_us",
        "tokens",
    )

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str], int] = defaultdict(int)
        self.tokens: dict[str, int] = defaultdict(int)
        self.amount_nusd: dict[str, int] = defaultdict(int)
        self.duration_buckets = [0] * (len(BUCKETS_S) + 1)
        self.first_byte_buckets = [0] * (len(BUCKETS_S) + 1)
        self.duration_us = 0
        self.first_byte_us = 0


class Telemetry:
    """Written by the data plane, read by `/metrics`. `gauges` gives what is only known at that moment."""

    def __init__(self, gauges: Callable[[], Gauges]) -> None:
        self._gauges = gauges
        self._series: dict[tuple[str, str], Series] = {}
        self._refusals: dict[tuple[str, str], int] = defaultdict(int)
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(_Collector(self))

    def settled(self, settlement: Settlement) -> None:
        """A call that held money has ended."""
        hold, settle = settlement.hold, settlement.settle
        place = (hold.provider, hold.endpoint)
        series = self._series.get(place)
        if series is None:
            series = self._series[place] = Series()
        series.calls[settle.kind, settle.code] += 1
        series.amount_nusd[settle.kind] += settle.amount_nusd
        usage, tokens = settle.usage, series.tokens
        tokens["input"] += usage.input_tokens
        tokens["output"] += usage.output_tokens
        if usage.cache_read_tokens:
            tokens["cache_read"] += usage.cache_read_tokens
        if usage.cache_write_5m_tokens or usage.cache_write_1h_tokens:
            tokens["cache_write"] += usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        series.duration_us += settle.duration_us
        series.duration_buckets[bisect_left(BUCKETS_S, settle.duration_us / 1e6)] += 1
        if settle.first_byte_us:
            series.first_byte_us += settle.first_byte_us
            series.first_byte_buckets[bisect_left(BUCKETS_S, settle.first_byte_us / 1e6)] += 1

    def refused(self, endpoint: str, refusal: Refusal) -> None:
        """An answer of our own instead of a provider's."""
        self._refusals[endpoint, refusal.code] += 1

    def render(self) -> bytes:
        """Prometheus text format, version 0.0.4."""
        return generate_latest(self._registry)

    def families(self) -> Iterator[Metric]:
        place = ["provider", "endpoint"]
        calls = CounterMetricFamily(
            "tollhouse_calls", "Calls that held money, by how they ended.", labels=[*place, "kind", "code"]
        )
        tokens = CounterMetricFamily(
            "tollhouse_tokens", "Tokens as the providers reported them.", labels=[*place, "type"]
        )
        cost = CounterMetricFamily("tollhouse_cost_usd", "Posted cost.", labels=[*place, "kind"])
        duration = HistogramMetricFamily("tollhouse_call_duration_seconds", "From head to end of answer.", labels=place)
        first = HistogramMetricFamily(
            "tollhouse_first_byte_seconds", "From head to the provider's first byte.", labels=place
        )
        for labels, series in self._series.items():
            for (kind, code), count in series.calls.items():
                calls.add_metric([*labels, kind, code], count)
            for token_type, count in series.tokens.items():
                tokens.add_metric([*labels, token_type], count)
            for kind, amount_nusd in series.amount_nusd.items():
                cost.add_metric([*labels, kind], amount_nusd / NUSD_PER_USD)
            duration.add_metric(list(labels), _cumulative(series.duration_buckets), series.duration_us / 1e6)
            first.add_metric(list(labels), _cumulative(series.first_byte_buckets), series.first_byte_us / 1e6)
        refusals = CounterMetricFamily("tollhouse_refusals", "Answers of our own.", labels=["endpoint", "code"])
        for refused, count in self._refusals.items():
            refusals.add_metric(list(refused), count)
        yield from (calls, tokens, cost, duration, first, refusals)
        for name, (text, value) in self._gauges().items():
            yield GaugeMetricFamily(f"tollhouse_{name}", text, value=value)


class _Collector(Collector):
    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        return self._telemetry.families()

    def describe(self) -> Iterator[Metric]:
        """Nothing ahead of time: the registry need not ask for values at start."""
        return iter(())


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    total = 0
    rows: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), buckets, strict=True):
        total += count
        rows.append((bound, total))
    return rows
