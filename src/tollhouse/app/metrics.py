"""Metrics that are counted off the way of calls. No label is a person, a key or a text of a request."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tollhouse.terms.money import NUSD_PER_USD

if TYPE_CHECKING:
    from tollhouse.app.house import House


def counted(house: "House") -> Iterator[Metric]:
    now_s = time.time()
    calls = CounterMetricFamily("tollhouse_client_calls", "Calls that held money, by tool.", labels=["client"])
    cost = CounterMetricFamily("tollhouse_client_cost_usd", "Posted cost, by tool.", labels=["client"])
    for label, (count, amount_nusd) in house.census.clients.items():
        calls.add_metric([label], count)
        cost.add_metric([label], amount_nusd / NUSD_PER_USD)
    yield from (calls, cost)
    for name, recent in (("sessions", house.census.sessions), ("end_users", house.census.end_users)):
        text = f"Different {name.replace('_', ' ')} with a call in the last ten minutes."
        yield GaugeMetricFamily(f"tollhouse_active_{name}", text, value=recent.count(now_s))
    past = GaugeMetricFamily(
        "tollhouse_budgets_past", "Budgets of which so many percent are spent.", labels=["percent"]
    )
    for percent, number in house.accounts.thresholds.near(now_s).items():
        past.add_metric([f"{percent}"], number)
    yield past
    deliverer = house.herald.deliverer
    tries = CounterMetricFamily("tollhouse_webhook_tries", "Messages sent to webhooks.", labels=["taken"])
    tries.add_metric(["yes"], deliverer.delivered)
    tries.add_metric(["no"], deliverer.failed)
    yield tries
    yield GaugeMetricFamily("tollhouse_notices_dropped", "Notices that nobody took down.", value=house.board.dropped)
