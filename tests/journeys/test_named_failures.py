"""Failures that other gateways' users reported, by name; none may happen here. Where another test holds one already, it
stands in the second part.

| failure | held by |
|---|---|
| concurrent first requests of an unknown user pass unchecked | test_first_requests_of_an_unknown_user |
| the hold is shrunk to what is left, and the call sent anyway | test_a_hold_shrunk_to_what_is_left |
| leaked holds refuse calls that money is there for | test_refusals_by_leaked_holds |
| tokens of a cache priced wrongly, or twice | test_cache_tokens_priced_wrongly_or_twice |
| a fallback to a dearer model goes unpriced | test_a_fallback_to_a_dearer_model |
| budgets never reset | test_budgets_that_never_reset |
| a missing usage event refunds everything | test_a_missing_usage_refunds_nothing |
| routes that only pass through skip the budgets | test_routes_that_skip_budgets |
| a settlement above its hold is rolled back and lost | test_a_settlement_above_its_hold |
| the message names a limit that does not bind ("of Unlimited") | test_a_message_that_names_the_wrong_budget |
|---|---|
| an unknown price is $0 | journeys/test_refusals.py test_an_unpriced_model_under_a_budget |
| disconnects are logged as $0 | journeys/test_money.py test_a_client_that_leaves_a_stream |
| disconnects are logged as $0 | planes/test_edge_departure.py test_at_every_event_boundary_of_a_stream |
| rows are lost at a shutdown | journeys/test_money.py test_told_to_stop_during_streams |
| rows are lost at a shutdown | planes/test_edge_time.py test_a_shutdown_ends_what_takes_too_long_and_settles_it |
| budgets never reset | laws/test_budget_machine.py test_without_a_bug_every_law_holds |
"""

import ast
import asyncio
import json
import re
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.journeys.calls import (
    CHAT_MODEL,
    INPUT_NUSD,
    MODEL,
    OUTPUT_NUSD,
    answer,
    body,
    chat_body,
    cost_nusd,
    event,
    message,
    post,
    start_event,
    streamed,
    text_event,
)
from tests.laws.budget_model import OVERHEAD, WRITTEN_PUSD, nusd
from tests.laws.one_node import Clocks, Home, Node
from tests.scripted import CLOSE, HANG, RESET, Gate, ScriptedUpstream, Step, chunk, reply, stream_head
from tests.serving import Gateway, eventually
from tollhouse.dataplane.head import ROUTES
from tollhouse.rules.metering import COMPLETE
from tollhouse.storage import directory
from tollhouse.terms.errors import Refusal
from tollhouse.terms.money import decimal_usd, parse_usd
from tollhouse.terms.names import Endpoint, ScopeKind
from tollhouse.terms.people import Budget, BudgetUnit, BudgetWindow
from tollhouse.terms.seen import Seen

CHEAP = "0.000001/month"
READ_NUSD, WRITTEN_5M_NUSD, WRITTEN_1H_NUSD = 300, 3_750, 6_000
"""What a token of MODEL costs from and to the cache."""
CHAT_NUSD, CHAT_READ_NUSD, CHAT_OUTPUT_NUSD = 2_500, 1_250, 10_000
"""The same of CHAT_MODEL: input, cached input, output."""
WAIT_S = 20.0
FREE = (Endpoint.MODELS, Endpoint.COUNT_TOKENS)
"""Endpoints that providers do not bill."""


def test_every_failure_has_its_test() -> None:
    """What the table names exists, and everything here is in it."""
    assert __doc__ is not None
    tests = Path(__file__).resolve().parents[1]
    named = re.findall(r"^\| [^|]+ \| (?:(\S+\.py) )?(test_\w+) \|$", __doc__, re.MULTILINE)
    assert len(named) == __doc__.count("\n| ") - 1  # the first line is a heading
    for place, test in named:
        found = ast.parse((tests / place if place else Path(__file__)).read_text())
        assert test in {node.name for node in found.body if isinstance(node, ast.FunctionDef)}, test
    here = {name for name in globals() if name.startswith("test_")} - {test_every_failure_has_its_test.__name__}
    assert here == {test for place, test in named if not place}


def standing(gateway: Gateway, key: str) -> tuple[int, int]:
    """What is posted and held on the one budget of a key, in nano-USD."""
    (budget,) = gateway.me(key)["budgets"]
    return parse_usd(budget["posted"]), parse_usd(budget["held"])


def hold_nusd(gateway: Gateway, upstream: ScriptedUpstream, fields: dict[str, Any]) -> int:
    """What such a call holds, as somebody else learns it."""
    upstream.script = lambda received: [answer()]
    held = parse_usd(post(gateway, gateway.key("somebody else", budget="50/month"), fields).headers[HELD])
    upstream.received.clear()
    return held


HELD = "x-tollhouse-held-usd"


def test_first_requests_of_an_unknown_user(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    """All at once, before anything is known of them: as many pass as there is money for."""
    fits, callers = 3, 24
    held = hold_nusd(gateway, upstream, body())
    gate, sent = Gate(), json.dumps(body()).encode()
    upstream.script = lambda received: [gate, answer()]
    headers = {"x-api-key": gateway.key(user, budget=f"{decimal_usd(fits * held + held - 1)}/month")}

    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            calls = [http.post(f"{gateway.url}/v1/messages", content=sent, headers=headers) for _ in range(callers)]
            statuses: list[int] = []
            for call in asyncio.as_completed(calls, timeout=WAIT_S):
                statuses.append((await call).status_code)
                if len(statuses) == callers - fits:
                    gate.open()
            return statuses

    assert asyncio.run(all_at_once()) == [402] * (callers - fits) + [200] * fits
    assert len(upstream.received) == fits
    assert gateway.usage(user)["calls"] == fits


def test_a_hold_shrunk_to_what_is_left(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    """What is sent is what is held for, to the token; if that is too little to be useful, nothing is sent."""
    upstream.script = lambda received: [answer()]
    limit, wish = parse_usd("0.2"), body(max_tokens=20_000)
    made = gateway.new_key(user, budget="0.2/month")
    held = parse_usd(post(gateway, made["key"], wish).headers[HELD])
    cap = upstream.last.json["max_tokens"]
    assert 10_000 <= cap < 20_000  # as many digits: the same size
    assert held == hold_nusd(gateway, upstream, body(max_tokens=cap)) <= limit
    assert hold_nusd(gateway, upstream, body(max_tokens=cap + 1)) > limit
    (budget,) = gateway.me(made["key"])["budgets"]
    gateway.owner("PATCH", f"/budgets/{budget['budget_id']}", {"amount": "0.06"})
    assert post(gateway, made["key"], wish).status_code == 402
    assert upstream.received == []


def departs(gateway: Gateway, upstream: ScriptedUpstream, key: str) -> None:
    """A client of a stream that is gone as soon as the provider has its call."""
    before, sent = len(upstream.received), json.dumps(body(stream=True)).encode()
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname, address.port), WAIT_S) as client:
        head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {len(sent)}\r\n\r\n"
        client.sendall(head.encode() + sent)
        eventually(lambda: len(upstream.received) > before)


def test_refusals_by_leaked_holds(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    """Calls end in every bad way there is; afterwards nothing is held, and the last nano-dollar can be spent."""
    made = gateway.new_key(user, budget="50/month")
    key = made["key"]
    begun: list[Step] = [stream_head(), chunk(start_event() + text_event("a"))]
    scripts: list[list[Step]] = [
        [RESET],
        [CLOSE],
        [*begun, RESET],
        [*begun, CLOSE],
        [reply(400, b'{"type":"error"}')],
        [reply(429, b"{}")],
        [reply(500, b"oops")],
        [reply(200, b"{")],
        [b"HTTP/1.1 2000 what\r\n\r\n", CLOSE],
    ]
    for script in scripts:
        upstream.script = lambda received, script=script: script  # type: ignore[misc]
        for stream in (False, True):
            post(gateway, key, body(stream=stream))
    for script in ([*begun, HANG], [HANG]):
        upstream.script = lambda received, script=script: script  # type: ignore[misc]
        departs(gateway, upstream, key)
    assert post(gateway, key, b"{").status_code == 400
    assert post(gateway, key, body(model="nobody-serves-this")).status_code in (400, 404)
    calls = 2 * len(scripts) + 2
    eventually(lambda: len([row for row in gateway.entries(user) if row["kind"]]) == calls)
    posted, held = standing(gateway, key)
    assert held == 0
    assert posted == parse_usd(gateway.usage(user)["amount_usd"])
    needed = hold_nusd(gateway, upstream, body())
    (budget,) = gateway.me(key)["budgets"]
    change = f"/budgets/{budget['budget_id']}"
    gateway.owner("PATCH", change, {"amount": decimal_usd(posted + needed - 1)})
    assert post(gateway, key, body()).status_code == 402
    gateway.owner("PATCH", change, {"amount": decimal_usd(posted + needed)})
    assert post(gateway, key, body()).status_code == 200


CACHED = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    "cache_read_input_tokens": 1_000,
}


@pytest.mark.parametrize("how", ["whole", "streamed", "chat"])
def test_cache_tokens_priced_wrongly_or_twice(
    gateway: Gateway, upstream: ScriptedUpstream, user: str, how: str
) -> None:
    """Anthropic counts them beside the input and says so twice in a stream; OpenAI counts them within it."""
    if how == "chat":
        usage = {"prompt_tokens": 1_300, "completion_tokens": 20, "total_tokens": 1_320}
        usage |= {"prompt_tokens_details": {"cached_tokens": 1_000}}  # type: ignore[dict-item]
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
        facts = {"id": "c", "object": "chat.completion", "model": CHAT_MODEL, "choices": [choice], "usage": usage}
        upstream.script = lambda received: [reply(200, json.dumps(facts).encode())]
        amount = 300 * CHAT_NUSD + 1_000 * CHAT_READ_NUSD + 20 * CHAT_OUTPUT_NUSD
    else:
        start = event("message_start", message={"id": "m", "model": MODEL, "usage": {**CACHED, "output_tokens": 1}})
        end = event("message_delta", delta={"stop_reason": "end_turn"}, usage={**CACHED, "output_tokens": 20})
        whole = reply(200, message(usage={**CACHED, "output_tokens": 20}))
        script = [whole] if how == "whole" else streamed(start, text_event("a"), end, event("message_stop"))
        upstream.script = lambda received: script
        amount = 10 * INPUT_NUSD + 100 * WRITTEN_5M_NUSD + 200 * WRITTEN_1H_NUSD + 1_000 * READ_NUSD + 20 * OUTPUT_NUSD
    key = gateway.key(user, budget="5/month")
    fields, path = (chat_body(), "/v1/chat/completions") if how == "chat" else (body(stream=how == "streamed"), None)
    assert post(gateway, key, fields, path or "/v1/messages").status_code == 200
    (row,) = gateway.entries(user)
    assert (row["kind"], parse_usd(row["amount_usd"])) == ("exact", amount)
    assert standing(gateway, key) == (amount, 0)


def test_a_fallback_to_a_dearer_model(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    """The provider may be asked to answer by another model: of unknown price, so not under a budget."""
    upstream.script = lambda received: [answer()]
    wish = body(fallbacks=[{"model": "claude-opus-4-6"}])
    got = post(gateway, gateway.key(user, budget="5/month"), wish)
    assert (got.status_code, got.json()["error"]["code"]) == (400, "unbounded_feature")
    assert "fallbacks" in got.json()["error"]["message"]
    assert upstream.received == []
    assert post(gateway, gateway.key(user), wish).status_code == 200  # no budget: nothing to break


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("window", [one for one in BudgetWindow if one is not BudgetWindow.TOTAL])
def test_budgets_that_never_reset(window: BudgetWindow, restarted: bool) -> None:
    """A spent window refuses to its last second, and not a second longer; on the real ledger, with a clock of ours."""
    budget = Budget("bud", ScopeKind.USER, "alice", nusd((OVERHEAD + 1) * WRITTEN_PUSD * 3), BudgetUnit.USD, window)
    clocks = Clocks(1_790_000_000)
    with Home() as home:
        node = Node(home, clocks, lambda attempt_id: None)
        node.start()
        node.change(lambda connection: directory.create_budget(connection, budget))

        def calls() -> list[bool]:
            given = (node.reserve(node.identify("key_a"), 0, 1, priced=True) for _ in range(4))
            held = [one for one in given if not isinstance(one, Refusal)]
            for hold in held:
                node.settle(hold, Seen(), COMPLETE, False)  # at its whole hold
            return [True] * len(held)

        assert len(calls()) == 2
        resets_at_s = node.accounts.standing(budget).resets_at_s
        assert resets_at_s is not None
        if restarted:
            node.stop()
            node.start()
        clocks.wall_s = resets_at_s - 1
        assert calls() == []
        clocks.wall_s += 1
        assert len(calls()) == 2
        node.stop()
        assert sum(node.books()[1].values()) == sum(row[1] for row in node.books()[0].values()) > 0


def untold() -> Iterable[tuple[str, Callable[[], list[Step]]]]:
    """Answers that end well and do not say what they used."""
    start = event("message_start", message={"id": "m", "model": MODEL})
    chat = b'data: {"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    yield "/v1/messages", lambda: streamed(start, text_event("a"), event("message_stop"))
    yield "/v1/messages", lambda: streamed(start_event(), text_event("a"), event("message_stop"))
    yield "/v1/messages", lambda: [reply(200, message(usage=None))]
    yield "/v1/chat/completions", lambda: streamed(chat, b"data: [DONE]\n\n")
    yield "/v1/chat/completions", lambda: [reply(200, b'{"id":"c","choices":[]}')]


def test_a_missing_usage_refunds_nothing(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    key = gateway.key(user, budget="50/month")
    for number, (path, script) in enumerate(untold()):
        steps = script()
        upstream.script = lambda received, steps=steps: steps  # type: ignore[misc]
        wish = body() if path == "/v1/messages" else chat_body(max_tokens=100)
        assert post(gateway, key, wish | {"stream": len(steps) > 1}, path).status_code == 200
        row = gateway.entries(user)[number]
        assert (row["kind"], row["amount_usd"]) == ("upper", row["hold_usd"]), number
        assert parse_usd(row["amount_usd"]) > 0
    posted, held = standing(gateway, key)
    assert (posted, held) == (parse_usd(gateway.usage(user)["amount_usd"]), 0)


def test_routes_that_skip_budgets(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    """Every path that leads to a provider's bill asks the budget first; what is not known leads nowhere."""
    upstream.script = lambda received: [answer()]
    key = gateway.key(user, budget=CHEAP)
    wishes = {
        Endpoint.MESSAGES: body(),
        Endpoint.CHAT_COMPLETIONS: chat_body(),
        Endpoint.CHAT: {"messages": [{"role": "user", "content": "Hello"}]},
        Endpoint.RESPONSES: {"model": CHAT_MODEL, "input": "Hello"},
        Endpoint.EMBEDDINGS: {"model": "text-embedding-3-small", "input": "Hello"},
    }
    assert {route.endpoint for route in ROUTES.values()} == {*wishes, *FREE}
    for path, route in ROUTES.items():
        if route.endpoint not in FREE:
            got = post(gateway, key, wishes[route.endpoint], path.decode())
            assert (got.status_code, got.json()["error"]["code"]) in {
                (402, "budget_exhausted"),
                (429, "budget_exhausted"),
            }, path
    for path in ("/v1/messages/batches", "/anthropic/v1/files", "/v1/completions", "/openai/v1/images/generations"):
        assert post(gateway, key, body(), path).status_code == 404
    assert upstream.received == []


def test_a_settlement_above_its_hold(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    """The provider wrote more than it was allowed to: all of it is posted, counted, and gone from the budget."""
    violations = gateway.owner("GET", "/status")["bound_violations"]
    upstream.script = lambda received: [answer(10, 60_000)]
    key = gateway.key(user, budget="0.9/month")
    assert post(gateway, key, body()).status_code == 200
    (row,) = gateway.entries(user)
    amount = cost_nusd(10, 60_000)
    assert (row["kind"], parse_usd(row["amount_usd"])) == ("exact", amount)
    assert amount > parse_usd(row["hold_usd"])
    assert standing(gateway, key) == (amount, 0)
    assert gateway.owner("GET", "/status")["bound_violations"] == violations + 1
    assert post(gateway, key, body()).status_code == 402


def test_a_message_that_names_the_wrong_budget(gateway: Gateway, upstream: ScriptedUpstream, user: str) -> None:
    """The key has a wide budget, its user none, the organisation's is spent: that one is named, with its figures."""
    key = gateway.key(user, budget="50/month")
    made = gateway.owner("POST", "/budgets", {"scope": "organisation", "amount": CHEAP})
    try:
        got = post(gateway, key, body())
    finally:
        gateway.owner("DELETE", f"/budgets/{made['budget_id']}")
    error = got.json()["error"]
    assert (got.status_code, error["code"]) == (402, "budget_exhausted")
    assert "organisation" in error["scope"]
    assert "organisation" in error["message"]
    assert "$0.000001" in error["message"]
    assert "nlimited" not in got.text
    assert (error["details"]["limit"], error["details"]["budget_id"]) == ("0.000001", made["budget_id"])
    assert upstream.received == []
