"""From a call to a webhook through a real gateway: thresholds once each, over a crowd and a kill -9; an unusual tool
pauses its key; whose end user a call was.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.journeys.calls import answer, body, post
from tests.journeys.test_money import settings, storm_of
from tests.planes.test_webhooks import SECRET, verify
from tests.scripted import HANG, ScriptedUpstream, reply
from tests.serving import Gateway, eventually
from tollhouse.client import Client, keys, webhooks

MASTER_KEY = "the-owner-0123456789abcdef"
DEAR = body(max_tokens=1_000)
OWN = "whsec_" + "bm90IHRoZSBvbmUgb2YgdGhlIHNldHRpbmdzISEhISE="


@pytest.fixture(scope="module")
def listening() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def shared(
    provider: ScriptedUpstream, listening: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    made = settings(
        provider,
        webhooks=[{"name": "pager", "url": f"{listening.url}/pager", "secret": "env:PAGER_SECRET"}],
        notices={"allow_loopback": True, "first_retry_s": 0.1, "last_retry_s": 0.5},
        anomalies={"new_client_calls": 3, "pause": ["new_client"]},
    )
    directory = tmp_path_factory.mktemp("notices")
    gateway = Gateway(directory, made, PAGER_SECRET=SECRET, TOLLHOUSE_MASTER_KEY=MASTER_KEY)
    try:
        yield gateway.start()
    finally:
        gateway.close()


@pytest.fixture
def receiver(listening: ScriptedUpstream) -> ScriptedUpstream:
    """It takes everything, and nothing came yet."""
    listening.script = lambda received: [reply(200, b"")]
    listening.received.clear()
    return listening


@pytest.fixture
def gateway(shared: Gateway, upstream: ScriptedUpstream, receiver: ScriptedUpstream) -> Gateway:
    upstream.script = lambda received: [answer(10, 1_000)]  # $0.01503
    return shared


def told(receiver: ScriptedUpstream, kind: str) -> list[dict[str, Any]]:
    """What came, each once, whatever was sent again."""
    found = [verify(SECRET, one) for one in receiver.received if one.target == "/pager"]
    return list({one["id"]: one for one in found if one["type"] == kind}.values())


def percents(receiver: ScriptedUpstream) -> Counter[tuple[str, int]]:
    return Counter((one["data"]["scope_id"], one["data"]["percent"]) for one in told(receiver, "budget.threshold"))


def test_thresholds_are_told_once_each_over_a_crowd_and_a_kill(gateway: Gateway, receiver: ScriptedUpstream) -> None:
    receiver.script = lambda received: [HANG]
    bob = gateway.key("bob", budget="0.2/month")
    for _ in range(7):  # 53 %
        assert post(gateway, bob, DEAR).status_code == 200
    eventually(lambda: receiver.received)  # it is written down, and being told
    gateway.kill()
    first = {one.header("webhook-id") for one in receiver.received}
    receiver.script = lambda received: [reply(200, b"")]
    gateway.start()
    eventually(lambda: percents(receiver))
    assert {one["id"] for one in told(receiver, "budget.threshold")} == first  # the same, once more
    crowd = gateway.key("ann", budget="0.755/day")
    answers = storm_of(gateway, [crowd], 30, parallel=8, max_tokens=1_000)  # 60 %
    answers += [post(gateway, crowd, DEAR) for _ in range(18)]  # 95.6 %
    assert {one.status_code for one in answers} == {200}
    for _ in range(4):  # 83 %
        assert post(gateway, bob, DEAR).status_code == 200
    key_ids = [row["key_id"] for row in gateway.owner("GET", "/keys")["items"]]
    eventually(lambda: len(percents(receiver)) == 5)
    gateway.stop()
    gateway.start()  # a start finds nothing that was not told
    gateway.owner("POST", "/webhooks/settings:pager/test")
    counts = percents(receiver)
    assert set(counts.values()) == {1}
    assert sorted(percent for scope_id, percent in counts if scope_id in key_ids) == [50, 50, 80, 80, 95]
    text = next(one["text"] for one in told(receiver, "budget.threshold") if one["data"]["percent"] == 95)
    assert text.startswith("95 % of $0.755 per day of key ")


def test_an_unusual_tool_pauses_the_key_until_it_is_resumed(gateway: Gateway, receiver: ScriptedUpstream) -> None:
    made = gateway.new_key("ann", name="laptop")
    for _ in range(3):
        assert post(gateway, made["key"], body(), user_agent="claude-cli/2.1 (external)").status_code == 200
    gateway.usage("ann")  # they stand in the ledger
    assert post(gateway, made["key"], body(), user_agent="curl/8.0").status_code == 200
    eventually(lambda: told(receiver, "key.paused"))
    (unusual,) = eventually(lambda: told(receiver, "anomaly"))
    assert unusual["text"] == (
        "The key laptop of user ann was used with curl for the first time; so far with claude-cli."
    )
    assert unusual["data"]["rule"] == "new_client"
    refused = post(gateway, made["key"], body(), user_agent="claude-cli/2.1 (external)")
    assert (refused.status_code, refused.headers["x-should-retry"]) == (401, "false")
    assert "is paused (The key laptop of user ann was used with curl" in refused.json()["error"]["message"]
    assert "paused" in gateway.type("keys", "show", "laptop").stdout
    assert gateway.type("keys", "resume", "laptop").returncode == 0
    assert post(gateway, made["key"], body(), user_agent="curl/8.0").status_code == 200
    shown = gateway.type("notices", "--kind", "key.").stdout
    assert "key.paused" in shown
    metrics = httpx.get(
        f"{gateway.url}/metrics", headers={"authorization": f"Bearer {MASTER_KEY}"}, trust_env=False
    ).text
    assert 'tollhouse_client_calls_total{client="claude-cli"} 3.0' in metrics
    assert 'tollhouse_budgets_past{percent="95"} 0.0' in metrics
    assert "laptop" not in metrics


def test_webhooks_of_the_api_by_command_and_client(gateway: Gateway, receiver: ScriptedUpstream) -> None:
    assert "vault init" in gateway.type("webhooks", "create", f"{receiver.url}/own").stderr
    assert gateway.type("vault", "init").returncode == 0
    with Client(gateway.url, MASTER_KEY) as tollhouse:
        made = tollhouse(webhooks.create(f"{receiver.url}/own", name="mine", kinds=["key.*"], secret=OWN))
        assert made.secret == OWN
        assert OWN not in repr(made)
        assert tollhouse(webhooks.test(made.webhook_id)).state == "delivered"
        paused = tollhouse(keys.pause(gateway.new_key("ann")["key_id"], reason="by hand"))
        assert (paused.status, paused.pause_reason) == ("paused", "by hand")
        eventually(lambda: len(list(tollhouse.all(webhooks.deliveries(made.webhook_id, state="delivered")))) == 2)
        newest = next(tollhouse.all(webhooks.notices(kind="key.")))
        assert (newest.kind, newest.data["reason"]) == ("key.paused", "by hand")
        assert {one.webhook_id for one in tollhouse.all(webhooks.find())} == {"settings:pager", made.webhook_id}
    own = [verify(OWN, one) for one in receiver.received if one.target == "/own"]
    assert [one["type"] for one in own] == ["test", "key.paused"]
    said = gateway.type("webhooks", "test", made.webhook_id)
    assert said.stdout == "Delivered: the receiver answered 200.\n"
    assert "delivered" in gateway.type("webhooks", "deliveries", made.webhook_id).stdout
    assert OWN not in gateway.log.read_text()
    assert gateway.type("webhooks", "remove", made.webhook_id).returncode == 0


def test_whose_end_user_a_call_was(gateway: Gateway) -> None:
    key = gateway.key("app")
    named = body(metadata={"user_id": '{"session_id":"s1","account_uuid":"acc-1"}'})
    assert post(gateway, key, named).status_code == 200
    assert post(gateway, key, body(), x_openwebui_user_id="web-7").status_code == 200
    assert post(gateway, key, body(metadata={"user_id": "u" * 1_000}), x_openwebui_user_id="web-7").status_code == 200
    rows = gateway.owner("GET", "/usage", by="end_user", user="app")["rows"]
    assert {row["group"]: row["calls"] for row in rows} == {"acc-1": 1, "web-7": 1, "u" * 256: 1}
    sessions = gateway.owner("GET", "/usage", by="session", user="app")["rows"]
    assert {row["group"]: row["calls"] for row in sessions} == {"s1": 1, "": 2}
    (row,) = gateway.owner("GET", "/requests", end_user="acc-1")["items"]
    assert (row["end_user"], row["session"]) == ("acc-1", "s1")
    assert gateway.owner("GET", "/requests", session="s2")["items"] == []
    assert "acc-1" in gateway.type("usage", "--by", "end_user").stdout
