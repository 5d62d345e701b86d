"""PostgreSQL goes away under load: the journal keeps what is settled, admission ends where it must, and nothing is lost
or counted twice when it is back; whether the gateway lived to see that or not.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.calls import body, post
from tests.journeys.test_money import SEED, Bill, settings, storm_of
from tests.postgres import Postgres
from tests.scripted import ScriptedUpstream
from tests.serving import Gateway, database_at, eventually
from tollhouse.terms.money import parse_usd

MOST = 100
"""Settled calls that may wait for the database."""
PARALLEL = 8


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    made = postgres.fresh_database()
    yield made
    postgres.drop(made)


@pytest.fixture
def gateway(tmp_path: Path, upstream: ScriptedUpstream, url: str) -> Iterator[Gateway]:
    storage = {"max_backlog": MOST, "owner_wait_s": 30}
    gateway = Gateway(tmp_path, settings(upstream, storage=storage), **database_at(url))
    try:
        yield gateway.start()
    finally:
        gateway.close()


def standing(gateway: Gateway, key: str) -> tuple[int, int, int]:
    """What the ledger says of alice, what is posted on her budget, and what is held of it."""
    (budget,) = gateway.me(key)["budgets"]
    spent = parse_usd(gateway.usage("alice")["amount_usd"])
    return spent, parse_usd(budget["posted"]), parse_usd(budget["held"])


def ready(gateway: Gateway) -> str:
    """Why it may not serve; empty when it may."""
    answer = httpx.get(f"{gateway.url}/readyz", timeout=30, trust_env=False)
    return "" if answer.status_code == 200 else str(answer.json()["detail"])


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def test_away_for_a_while_under_load(
    gateway: Gateway, upstream: ScriptedUpstream, postgres: Postgres, url: str
) -> None:
    bill = upstream.script = Bill(SEED)
    key = gateway.key("alice", budget="500/month")
    assert statuses(storm_of(gateway, [key], 20, parallel=PARALLEL)) == {200: 20}
    postgres.close_door(url)
    seen = statuses(storm_of(gateway, [key], 2 * MOST, parallel=PARALLEL))
    assert MOST - 20 <= seen[200] <= MOST + PARALLEL  # of the first calls some may not have been in the ledger yet
    assert seen[503] == 2 * MOST - seen[200]
    assert ready(gateway) == "the ledger is behind"
    refused = post(gateway, key, body())
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    postgres.open_door(url)
    eventually(lambda: ready(gateway) == "")
    assert statuses(storm_of(gateway, [key], 20, parallel=PARALLEL)) == {200: 20}
    assert bill.calls == 40 + seen[200]
    assert standing(gateway, key) == (bill.nusd, bill.nusd, 0)
    assert len([row for row in gateway.entries("alice") if row["kind"]]) == bill.calls


def test_the_gateway_dies_before_it_is_back(
    gateway: Gateway, upstream: ScriptedUpstream, postgres: Postgres, url: str
) -> None:
    bill = upstream.script = Bill(SEED)
    key = gateway.key("alice", budget="500/month")
    assert statuses(storm_of(gateway, [key], 20, parallel=PARALLEL)) == {200: 20}
    postgres.close_door(url)
    assert statuses(storm_of(gateway, [key], MOST // 2, parallel=PARALLEL)) == {200: MOST // 2}
    gateway.kill()
    vain: Any = gateway.type("serve", "--config", str(gateway.config), "--port", "0")
    assert vain.returncode != 0
    assert "not currently accepting connections" in vain.stderr
    assert postgres.password not in vain.stderr + gateway.log.read_text()
    postgres.open_door(url)
    for _ in range(2):
        gateway.start()
        assert standing(gateway, key) == (bill.nusd, bill.nusd, 0)
        assert len([row for row in gateway.entries("alice") if row["kind"]]) == bill.calls == 20 + MOST // 2
        gateway.kill()


def test_a_second_gateway_on_the_same_database(gateway: Gateway, tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """It has a home of its own, so only the database can tell it."""
    other = Gateway(
        tmp_path / "other",
        settings(upstream, storage={"owner_wait_s": 0.1}),
        **{name: value for name, value in gateway.env.items() if name.endswith("DATABASE_URL")},
    )
    refused = other.type("serve", "--config", str(other.config), "--port", "0")
    assert refused.returncode != 0
    assert "another gateway has the database" in refused.stderr
    gateway.kill()
    try:
        other.start()
    finally:
        other.close()
