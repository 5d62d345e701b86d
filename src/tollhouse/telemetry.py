"""Counters of this process, cheap to add to, read as Prometheus text.

The data plane adds to plain integers (a labelled prometheus counter costs a lock and a look-up per call, ten times as
much); a collector turns them into metrics only when somebody asks. Labels are a provider's name, an endpoint, a kind:
never a person, a key or a text of a request.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from operator import add

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tollhouse.terms.errors import Refusal
from tollhouse.terms.events import Settlement, SettleRecord
from tollhouse.terms.money import NUSD_PER_USD

BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_BUCKETS_US = tuple([round(bound_s * 1e6) for bound_s in BUCKETS_S])
COUNTED_TOGETHER = 64
"""Calls of a series are added up in local variables, some at a time: a quarter cheaper than one by one."""

Gauges = dict[str, tuple[str, float]]
"""Metric name (without prefix) → (help, value)."""


class Series:
    """The calls of one provider and endpoint that ended in one way. Their number is the sum of a histogram."""

    __slots__ = (
        "amount_nusd",
        "cache_read_tokens",
        "cache_write_tokens",
        "duration_buckets",
        "duration_us",
        "first_byte_buckets",
        "first_byte_us",
        "input_tokens",
        "output_tokens",
        "uncounted",
    )

    def __init__(self) -> None:
        self.amount_nusd = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cache_read_tokens = 0
        self.cache_write_tokens = 0
        self.duration_buckets = [0] * (len(BUCKETS_S) + 1)
        self.first_byte_buckets = [0] * (len(BUCKETS_S) + 1)
        self.duration_us = 0
        self.first_byte_us = 0
        self.uncounted: list[SettleRecord] = []
        """Calls that ended lately, fewer than COUNTED_TOGETHER."""

    def count(self) -> None:
        """Take the calls in that were not counted yet."""
        amount_nusd = input_tokens = output_tokens = cache_read_tokens = cache_write_tokens = 0
        durations_us: list[int] = []
        first_bytes_us: list[int] = []
        for settle in self.uncounted:
            usage = settle.usage
            amount_nusd += settle.amount_nusd
            input_tokens += usage.input_tokens
            output_tokens += usage.output_tokens
            cache_read_tokens += usage.cache_read_tokens
            cache_write_tokens += usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
            durations_us.append(settle.duration_us)
            if settle.first_byte_us:
                first_bytes_us.append(settle.first_byte_us)
        self.uncounted.clear()
        self.amount_nusd += amount_nusd
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.cache_read_tokens += cache_read_tokens
        self.cache_write_tokens += cache_write_tokens
        self.duration_us += sum(durations_us)
        self.first_byte_us += sum(first_bytes_us)
        _add_to_buckets(self.duration_buckets, durations_us)
        _add_to_buckets(self.first_byte_buckets, first_bytes_us)

    def merge(self, other: "Series") -> None:
        """Take the other's counts in, when calls are told regardless of how they ended."""
        self.duration_buckets = list(map(add, self.duration_buckets, other.duration_buckets))
        self.first_byte_buckets = list(map(add, self.first_byte_buckets, other.first_byte_buckets))
        for name in self.__slots__:
            if name.endswith(("_nusd", "_tokens", "_us")):
                setattr(self, name, getattr(self, name) + getattr(other, name))

    def tokens(self) -> Iterator[tuple[str, int]]:
        """By type; caches only once there was something in them."""
        yield "input", self.input_tokens
        yield "output", self.output_tokens
        if self.cache_read_tokens:
            yield "cache_read", self.cache_read_tokens
        if self.cache_write_tokens:
            yield "cache_write", self.cache_write_tokens


class Telemetry:
    """Written by the data plane, read by `/metrics`, both in the event loop. `gauges` gives what is only known at that
    moment.
    """

    def __init__(self, gauges: Callable[[], Gauges]) -> None:
        self._gauges = gauges
        self._series: dict[tuple[str, str, str, str], Series] = defaultdict(Series)
        """By provider, endpoint, kind of settlement and code."""
        self._refusals: dict[tuple[str, str], int] = defaultdict(int)
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(_Collector(self))

    def settled(self, settlement: Settlement) -> None:
        """A call that held money has ended."""
        hold, settle = settlement.hold, settlement.settle
        series = self._series[hold.provider, hold.endpoint, settle.kind, settle.code]
        uncounted = series.uncounted
        uncounted.append(settle)
        if len(uncounted) >= COUNTED_TOGETHER:
            series.count()

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
        amounts: dict[tuple[str, str, str], int] = defaultdict(int)
        places: dict[tuple[str, str], Series] = defaultdict(Series)
        for (provider, endpoint, kind, code), series in self._series.items():
            series.count()
            calls.add_metric([provider, endpoint, kind, code], sum(series.duration_buckets))
            amounts[provider, endpoint, kind] += series.amount_nusd
            places[provider, endpoint].merge(series)
        for spent_on, amount_nusd in amounts.items():
            cost.add_metric(list(spent_on), amount_nusd / NUSD_PER_USD)
        for labels, series in places.items():
            for token_type, count in series.tokens():
                tokens.add_metric([*labels, token_type], count)
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


def _add_to_buckets(buckets: list[int], times_us: list[int]) -> None:
    """One look for each bound instead of one for each time."""
    times_us.sort()
    below = 0
    for number, bound_us in enumerate(_BUCKETS_US):
        up_to = bisect_right(times_us, bound_us)
        buckets[number] += up_to - below
        below = up_to
    buckets[-1] += len(times_us) - below


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    total = 0
    rows: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), buckets, strict=True):
        total += count
        rows.append((bound, total))
    return rows
