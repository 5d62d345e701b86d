"""Counters of this process, cheap to add to, read as Prometheus text.

The data plane adds to plain integers (a labelled prometheus counter costs a lock and a look-up per call, ten times as
much); a collector turns them into metrics only when somebody asks. Labels are a provider's name, an endpoint, a kind:
never a person, a key or a text of a request.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from operator import add

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from tollhouse.terms.errors import Refusal
from tollhouse.terms.events import Settlement
from tollhouse.terms.money import NUSD_PER_USD

BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_BUCKETS_US = tuple([round(bound_s * 1e6) for bound_s in BUCKETS_S])
_BELOW_US = (0, *_BUCKETS_US)
"""Of each bucket: what is not above this stands in an earlier one."""

MAX_CODES = 200
"""Ways in which calls end that are told apart. Most are of ours, but some are an answer's own words for its error, and
whose endpoint that was may have said anything.
"""
OTHER = "other"
_CODE = re.compile(r"[a-z0-9_.-]{0,64}", re.IGNORECASE)

Gauges = dict[str, tuple[str, float]]
"""Metric name (without prefix) → (help, value)."""
Infos = dict[str, tuple[str, dict[str, str]]]
"""As `Gauges`, with labels and no value."""


def _no_infos() -> Infos:
    return {}


Labelled = dict[str, tuple[str, str, dict[str, float]]]
"""Metric name (without prefix) → (help, label, values by label)."""


def _none_labelled() -> Labelled:
    return {}


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

    def merge(self, other: "Series") -> None:
        """Take the other's counts in, when calls are told regardless of how they ended."""
        self.duration_buckets = list(map(add, self.duration_buckets, other.duration_buckets))
        self.first_byte_buckets = list(map(add, self.first_byte_buckets, other.first_byte_buckets))
        for name in self.__slots__:
            if not name.endswith("_buckets"):
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
    """Written by the data plane, read by `/metrics`. `gauges`, `infos` and `labelled` give what is only known at that
    moment.
    """

    def __init__(
        self,
        gauges: Callable[[], Gauges],
        infos: Callable[[], Infos] = _no_infos,
        labelled: Callable[[], Labelled] = _none_labelled,
    ) -> None:
        self._gauges = gauges
        self._infos = infos
        self._labelled = labelled
        self._series: dict[tuple[str, str, str, str], Series] = defaultdict(Series)
        """By provider, endpoint, kind of settlement and code."""
        self._labels: dict[str, str] = {}
        """By code."""
        self._refusals: dict[tuple[str, str], int] = defaultdict(int)
        self.more: Callable[[], Iterable[Metric]] = lambda: ()
        """Families that somebody else counts."""
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(_Collector(self))

    def settled(self, settlement: Settlement) -> None:
        """A call that held money has ended."""
        hold, settle = settlement.hold, settlement.settle
        code = settle.code
        if code:
            code = self._labels.get(code) or self._label(code)
        series = self._series[hold.provider, hold.endpoint, settle.kind, code]
        usage = settle.usage
        duration_us, first_byte_us = settle.duration_us, settle.first_byte_us
        series.amount_nusd += settle.amount_nusd
        series.input_tokens += usage.input_tokens
        series.output_tokens += usage.output_tokens
        if usage.cache_read_tokens:
            series.cache_read_tokens += usage.cache_read_tokens
        if usage.cache_write_5m_tokens or usage.cache_write_1h_tokens:
            series.cache_write_tokens += usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        series.duration_us += duration_us
        bucket = bisect_left(_BUCKETS_US, duration_us)
        series.duration_buckets[bucket] += 1
        if first_byte_us:
            series.first_byte_us += first_byte_us
            if first_byte_us <= _BELOW_US[bucket]:  # else the same one: it was not later than the end
                bucket = bisect_left(_BUCKETS_US, first_byte_us)
            series.first_byte_buckets[bucket] += 1

    def _label(self, code: str) -> str:
        """Of a code that has none yet; what gets none of its own is not remembered."""
        if len(self._labels) >= MAX_CODES or not _CODE.fullmatch(code):
            return OTHER
        self._labels[code] = code
        return code

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
        yield from self.more()
        for name, (text, value) in self._gauges().items():
            yield GaugeMetricFamily(f"tollhouse_{name}", text, value=value)
        for name, (text, facts) in self._infos().items():
            yield InfoMetricFamily(f"tollhouse_{name}", text, value=facts)
        for name, (text, label, values) in self._labelled().items():
            family = GaugeMetricFamily(f"tollhouse_{name}", text, labels=[label])
            for of, value in values.items():
                family.add_metric([of], value)
            yield family


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
