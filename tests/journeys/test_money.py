"""The law of money from outside: an upstream that keeps its own bill, many callers at once, and processes that die."""

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ENGINES
from tests.journeys.calls import (
    MODEL,
    answer,
    body,
    cost_nusd,
    end_events,
    post,
    start_event,
    streamed,
    text_event,
)
from tests.journeys.conftest import Claude
from tests.postgres import Postgres
from tests.scripted import Gate, Received, ScriptedUpstream, Step
from tests.serving import Gateway, database_at, eventually
from tollhouse.terms.money import decimal_usd, parse_usd

SEED = 20_261_122


class Bill:
    """What the provider would charge: known to nobody but itself."""

    def __init__(self, seed: int) -> None:
        self.nusd = 0
        self.calls = 0
        self.under_way = 0
        self._random = random.Random(seed)

    def __call__(self, received: Received) -> list[Step]:
        """An answer of up to what was asked for, streamed or not, in its own time."""
        asked = received.json
        input_tokens = self._random.randint(2_000, len(received.body) + 4_096)  # often near the most it may charge
        output_tokens = self._random.randint(1, asked["max_tokens"])
        self.nusd += cost_nusd(input_tokens, output_tokens)
        self.calls += 1
        pause = self._random.random() / 20
        if asked.get("stream"):
            return streamed(start_event(input_tokens), pause, text_event("x"), pause, end_events(output_tokens))
        return [pause, answer(input_tokens, output_tokens)]


def settings(upstream: ScriptedUpstream, **more: Any) -> dict[str, Any]:
    row = {"name": "mock", "kind": "anthropic", "base_url": upstream.url, "models": ["claude-*"]}
    same = dict.fromkeys(("input", "cache_read", "cache_write_5m", "cache_write_1h"), 3)
    prices = {MODEL: {f"{name}_usd_per_mtok": price for name, price in {**same, "output": 15}.items()}}
    return {"local": {"enabled": False}, "providers": [row], "prices": prices, **more}


@pytest.fixture
def own(tmp_path: Path, upstream: ScriptedUpstream, location: str) -> Iterator[Gateway]:
    """A gateway that this test may kill."""
    money = {"organisation_budgets": ["50/month"]}
    gateway = Gateway(tmp_path, settings(upstream, money=money), **database_at(location))
    try:
        yield gateway.start()
    finally:
        gateway.close()


async def storm(url: str, keys: list[str], calls: int, *, parallel: int, bodies: list[bytes]) -> list[httpx.Response]:
    """Many calls at once, in no order."""
    limits = httpx.Limits(max_connections=parallel)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60, trust_env=False) as http:

        async def one(number: int) -> httpx.Response:
            headers = {"x-api-key": keys[number % len(keys)], "content-type": "application/json"}
            return await http.post("/v1/messages", content=bodies[number % len(bodies)], headers=headers)

        return await asyncio.gather(*map(one, range(calls)))


def storm_of(
    gateway: Gateway, keys: list[str], calls: int, *, parallel: int = 16, max_tokens: int = 300
) -> list[httpx.Response]:
    bodies = [json.dumps(body(max_tokens=max_tokens, stream=stream)).encode() for stream in (False, True)]
    return asyncio.run(storm(gateway.url, keys, calls, parallel=parallel, bodies=bodies))


def held_nusd(gateway: Gateway, upstream: ScriptedUpstream, fields: dict[str, Any]) -> int:
    """What is held for such a call."""
    upstream.script = lambda received: [answer()]
    return parse_usd(post(gateway, gateway.key("probe"), fields).headers["x-tollhouse-held-usd"])


@pytest.fixture(scope="module", params=ENGINES)
def counting(
    tmp_path_factory: pytest.TempPathFactory, provider: ScriptedUpstream, request: pytest.FixtureRequest
) -> Iterator[Gateway]:
    place = {}
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        place = database_at(server.fresh_database())
    gateway = Gateway(tmp_path_factory.mktemp("counting"), settings(provider), **place)
    try:
        yield gateway.start()
    finally:
        gateway.close()


@pytest.mark.parametrize("over", ["key", "user", "organisation"])
def test_a_budget_holds_whoever_calls(
    counting: Gateway, upstream: ScriptedUpstream, over: str, request: pytest.FixtureRequest
) -> None:
    """Over one key; over the two keys of one user; over two users."""
    call = body(max_tokens=300, stream=False)
    smallest = held_nusd(counting, upstream, call)
    limit_nusd = 41 * smallest // 2
    bill = upstream.script = Bill(SEED)
    cap = f"{decimal_usd(limit_nusd)}/month"
    one, two = f"one of {over}", f"two of {over}"
    if over == "key":
        keys = [counting.key(one, budget=cap)]
    elif over == "user":
        counting.owner("POST", "/users", {"user_id": one, "budget": cap})
        keys = [counting.key(one), counting.key(one)]
    else:
        made = counting.owner("POST", "/budgets", {"scope": "organisation", "amount": cap})
        request.addfinalizer(lambda: counting.owner("DELETE", f"/budgets/{made['budget_id']}"))
        keys = [counting.key(one), counting.key(two)]
    answers = storm_of(counting, keys, 80)
    answers.append(post(counting, keys[0], call))
    while answers[-1].status_code == 200:  # what the storm left, one call after the other
        answers.append(post(counting, keys[len(answers) % len(keys)], call))
    refused = [got for got in answers if got.status_code != 200]
    assert {got.status_code for got in refused} == {402}
    assert len(refused) > 1
    for got in refused:  # none was refused that would have fitted
        details = got.json()["error"]["details"]
        room = parse_usd(details["limit"]) - parse_usd(details["spent"]) - parse_usd(details["held"])
        assert room < smallest, f"seed {SEED}"
    assert bill.calls == len(answers) - len(refused) > 20
    assert limit_nusd - smallest < bill.nusd <= limit_nusd, f"seed {SEED}"
    (budget,) = counting.me(keys[0])["budgets"]
    assert (budget["scope"], parse_usd(budget["posted"]), budget["held"]) == (over, bill.nusd, "0")
    assert sum(parse_usd(counting.usage(user)["amount_usd"]) for user in (one, two)) == bill.nusd
    rows = [row for user in (one, two) for row in counting.entries(user) if row["kind"]]
    assert {row["kind"] for row in rows} == {"exact"}
    assert len(rows) == bill.calls


def test_killed_in_mid_stream(own: Gateway, upstream: ScriptedUpstream, claude: Claude) -> None:
    """What was open at the crash is posted once, at its upper bound; nothing stays held, and nothing is lost."""
    upstream.script = lambda received: [answer(10, 20)]
    key = own.key("alice", budget="5/month")
    assert [post(own, key, body()).status_code for _ in range(3)] == [200] * 3
    gate = Gate()
    upstream.script = lambda received: streamed(start_event(), text_event("a"), gate, end_events())
    url = own.url
    with httpx.stream(
        "POST", f"{url}/v1/messages", json=body(stream=True), headers={"x-api-key": key}, timeout=30, trust_env=False
    ) as stream:
        pieces = stream.iter_bytes()
        assert b"message_start" in next(pieces)
        held = stream.headers["x-tollhouse-held-usd"]
        own.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    for _ in range(2):  # a second start must not post it again
        own.start()
        rows = own.entries("alice")
        assert [(row["kind"], row["status"]) for row in rows[:3]] == [("exact", 200)] * 3
        assert len(rows) == 4
        assert rows[3]["kind"] == "upper"
        assert parse_usd(rows[3]["amount_usd"]) == parse_usd(held)
        total = 3 * cost_nusd(10, 20) + parse_usd(held)
        assert parse_usd(own.usage("alice")["amount_usd"]) == total
        for budget in own.me(key)["budgets"]:
            assert (parse_usd(budget["posted"]), budget["held"]) == (total, "0")
        assert own.stop() == 0


def test_told_to_stop_during_streams(own: Gateway, upstream: ScriptedUpstream) -> None:
    """They finish; who comes later is turned away; the ledger has it all."""
    key = own.key("alice", budget="5/month")
    gate = Gate()
    reached = threading.Semaphore(0)

    def script(received: Received) -> list[Step]:
        reached.release()
        return streamed(start_event(), text_event("a"), gate, text_event("b"), end_events(20))

    upstream.script = script
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(post(own, key, body(stream=True)))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert reached.acquire(timeout=30)
    own.terminate()
    eventually(lambda: refuses(own.url))
    assert own.process is not None
    assert own.process.poll() is None
    gate.open()
    for thread in threads:
        thread.join(30)
    assert own.wait() == 0
    assert [got.status_code for got in answers] == [200] * 5
    assert all(b'"message_stop"' in got.content for got in answers)
    own.start()
    assert [row["kind"] for row in own.entries("alice")] == ["exact"] * 5
    assert parse_usd(own.usage("alice")["amount_usd"]) == 5 * cost_nusd(10, 20)
    assert {budget["held"] for budget in own.me(key)["budgets"]} == {"0"}


def refuses(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=30, trust_env=False).status_code == 503
    except httpx.TransportError:
        return True


def test_a_client_that_leaves_a_stream(gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude) -> None:
    """The provider is hung up on at once, and what it may bill is posted as an estimate."""
    gate = Gate()
    upstream.script = lambda received: streamed(start_event(1_000), text_event("a"), gate, end_events())
    key = gateway.key(user, budget="5/month")
    with claude(gateway.url, key).messages.stream(**body(max_tokens=2_000)) as stream:
        assert next(iter(stream.text_stream)) == "a"
        assert not upstream.last.gone.is_set()
    assert upstream.last.gone.wait(30)
    (row,) = eventually(lambda: gateway.entries(user))
    assert (row["kind"], row["code"]) == ("estimated", "client_gone")
    assert cost_nusd(1_000, 1) < parse_usd(row["amount_usd"]) < parse_usd(row["hold_usd"])
    (budget,) = gateway.me(key)["budgets"]
    assert (budget["posted"], budget["held"]) == (row["amount_usd"], "0")


def test_an_upstream_that_breaks_off(gateway: Gateway, upstream: ScriptedUpstream, user: str, claude: Claude) -> None:
    upstream.script = lambda received: streamed(start_event(), text_event("a"), "reset")
    key = gateway.key(user, budget="5/month")
    got = post(gateway, key, body(stream=True))
    assert got.content.endswith(b"\n\n")
    assert b"event: error\n" in got.content
    assert gateway.entries(user)[0]["kind"] == "upper"
    upstream.script = lambda received: ["reset"]
    got = post(gateway, key, body())
    assert (got.status_code, got.json()["error"]["code"]) == (502, "upstream_closed")
    assert gateway.entries(user)[1]["kind"] == "upper"
    (budget,) = gateway.me(key)["budgets"]
    assert budget["held"] == "0"
