"""Own keys through a real gateway, with a provider that keeps a bill for each credential: whose key paid is told the
same by the answer, the request, the usage, /me and that bill; also after the process was killed in mid-call.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ENGINES
from tests.journeys.calls import MODEL, body, cost_nusd, end_events, message, post, start_event, streamed, text_event
from tests.postgres import Postgres
from tests.scripted import Gate, Received, ScriptedUpstream, Step, reply
from tests.serving import Gateway, database_at, eventually
from tollhouse.client import Client, reports
from tollhouse.terms.money import parse_usd
from tollhouse.vault.master_keys import new_line

OWN = "sk-ant-api03-own-secret-of-ann-0123456789-wxyz"
SHARED = "sk-ant-api03-the-shared-one"
COST_NUSD = cost_nusd(10, 20)


class Bank:
    """What each credential was used for, and what the provider says of it."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.caps: list[int] = []
        self.refuses: dict[str, int] = {}
        self.gate: Gate | None = None

    def __call__(self, received: Received) -> Iterable[Step]:
        shown = received.header("x-api-key") or ""
        status = self.refuses.get(shown)
        if status:
            error = {"type": "authentication_error", "message": "invalid x-api-key"}
            return [reply(status, json.dumps({"type": "error", "error": error}).encode())]
        self.calls[shown] += 1
        self.caps.append(received.json["max_tokens"])
        if received.json.get("stream") and self.gate is not None:
            return streamed(start_event(), text_event("a"), self.gate, end_events())
        return [reply(200, message(10, 20))]


@pytest.fixture
def bank(provider: ScriptedUpstream) -> Bank:
    provider.script = Bank()
    return provider.script


@pytest.fixture(params=ENGINES)
def gateway(
    tmp_path: Path, provider: ScriptedUpstream, bank: Bank, request: pytest.FixtureRequest
) -> Iterator[Gateway]:
    row = {"name": "mock", "kind": "anthropic", "base_url": provider.url, "api_key": "env:MOCK", "models": ["claude-*"]}
    same = dict.fromkeys(("input", "cache_write_5m", "cache_write_1h", "cache_read"), 3)
    prices = {MODEL: {f"{name}_usd_per_mtok": price for name, price in {**same, "output": 15}.items()}}
    vault = {"master_keys": "env:MASTER_KEYS"}
    settings = {"local": {"enabled": False}, "providers": [row], "prices": prices, "vault": vault}
    place = {}
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        place = database_at(server.fresh_database())
    running = Gateway(tmp_path, settings, MOCK=SHARED, MASTER_KEYS=new_line(1), **place)
    try:
        yield running.start()
    finally:
        running.close()


def premium(gateway: Gateway, **fields: Any) -> str:
    """Ann's key; she is on the plan premium, and has stored a key of her own."""
    free = {"plan_id": "free", "max_output_tokens": 1_000, "budgets": ["1/month"]}
    gateway.owner("POST", "/plans", free)
    plan = {"plan_id": "premium", "max_output_tokens": 50_000, "own_key": "own_first", "without_own_key": "free"}
    gateway.owner("POST", "/plans", plan | fields)
    gateway.owner("POST", "/users", {"user_id": "ann", "plan_id": "premium"})
    gateway.owner("POST", "/credentials", {"provider": "mock", "user_id": "ann", "secret": OWN, "name": "mine"})
    return gateway.key("ann", budget="5/month")


def entry(gateway: Gateway, answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = gateway.owner("GET", f"/requests/{answer.headers['x-tollhouse-request-id']}")
    return found


def test_all_tell_the_same_of_who_paid(gateway: Gateway, bank: Bank) -> None:
    key = premium(gateway, fall_back=True)
    own = post(gateway, key, body(max_tokens=40_000))
    assert (own.status_code, own.headers["x-tollhouse-paid-by"]) == (200, "own")
    row = entry(gateway, own)
    assert (row["paid_by"], row["attempts"], parse_usd(row["amount_usd"])) == ("own", 1, COST_NUSD)
    assert row["credential_id"].startswith("own_")

    bank.refuses[OWN] = 401
    fallen = post(gateway, key, body(max_tokens=40_000))
    assert (fallen.status_code, fallen.headers["x-tollhouse-paid-by"]) == (200, "shared")
    row = entry(gateway, fallen)
    assert (row["paid_by"], row["credential_id"], row["attempts"]) == ("shared", "", 2)
    assert bank.caps == [40_000, 1_000]
    assert bank.calls == {OWN: 1, SHARED: 1}

    report = gateway.owner("GET", "/usage", by="payer", user="ann")
    spent = {
        row["group"]: (row["calls"], parse_usd(row["amount_usd"]), parse_usd(row["own_usd"])) for row in report["rows"]
    }
    assert spent == {"own": (1, COST_NUSD, COST_NUSD), "shared": (1, COST_NUSD, 0)}
    assert parse_usd(report["total"]["own_usd"]) == COST_NUSD
    with Client(gateway.url, key) as client:
        me = client(reports.me())
        assert (me.own_key, me.provider, me.paid_by, me.max_output_tokens) == ("own_first", "mock", "own", 50_000)
        assert me.plan is not None
        assert (me.plan.plan_id, me.plan.fall_back, me.budgets) == ("premium", True, ())
        assert [(one.provider, one.name) for one in me.own_keys] == [("mock", "mine")]
        other = client(reports.me("elsewhere"))
        assert (other.paid_by, other.max_output_tokens) == ("shared", 1_000)
        assert [parse_usd(str(budget.posted)) for budget in other.budgets] == [COST_NUSD] * 2  # of the key and the plan

    def refused() -> Any:
        return gateway.owner("GET", "/credentials", user="ann")["items"][0]["refused_at"]

    assert eventually(refused)
    told = eventually(lambda: gateway.owner("GET", "/notices")["items"])
    assert [(one["kind"], one["data"]["paid_by"], one["data"]["status"]) for one in told] == [
        ("credential.refused", "own", 401)
    ]
    assert OWN not in json.dumps(told)
    bank.refuses.clear()
    assert post(gateway, key, body()).headers["x-tollhouse-paid-by"] == "own"
    eventually(lambda: not refused())
    assert gateway.stop() == 0


@pytest.mark.parametrize("gateway", ["sqlite"], indirect=True)
def test_killed_while_an_own_key_pays(gateway: Gateway, bank: Bank) -> None:
    """It is entered at its upper bound as the own key's, and on no budget: nothing of it was the operator's money."""
    key = premium(gateway)
    bank.gate = Gate()
    lines = {"x-api-key": key}
    where = f"{gateway.url}/v1/messages"
    with httpx.stream("POST", where, json=body(stream=True), headers=lines, timeout=30, trust_env=False) as stream:
        pieces = stream.iter_bytes()
        assert b"message_start" in next(pieces)
        held = parse_usd(stream.headers["x-tollhouse-held-usd"])
        gateway.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    bank.gate.open()
    for _ in range(2):  # a second start must not enter it again
        gateway.start()
        (row,) = gateway.entries("ann")
        assert (row["kind"], row["code"], row["paid_by"]) == ("upper", "crashed", "own")
        assert parse_usd(row["amount_usd"]) == held
        total = gateway.usage("ann")
        assert (parse_usd(total["amount_usd"]), parse_usd(total["own_usd"])) == (held, held)
        assert [(one["posted"], one["held"]) for one in gateway.budgets("key")] == [("0", "0")]
        assert gateway.stop() == 0
