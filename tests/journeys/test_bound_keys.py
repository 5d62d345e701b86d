"""A stored credential goes to the address it was stored for, whoever declares its provider to be elsewhere."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.calls import answer, body
from tests.scripted import Received, ScriptedUpstream, Step
from tests.serving import Gateway, eventually

POOL = "sk-ant-api03-secret-of-the-pool-0123456789-klmn"


def answering(_: Received) -> Iterable[Step]:
    return [answer()]


@pytest.fixture
def elsewhere() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        running.script = answering
        yield running


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    running = Gateway(tmp_path, {"local": {"enabled": False}, "money": {"default_max_tokens": 100}})
    try:
        yield running.start()
    finally:
        running.close()


def declare(gateway: Gateway, base_url: str) -> None:
    row = {"name": "pool", "kind": "anthropic", "base_url": base_url, "api_key": "stored:main", "models": ["claude-*"]}
    gateway.owner("POST", "/declarations", {"owner": "a.yaml", "resources": {"providers": [row]}})


def call(gateway: Gateway, key: str) -> httpx.Response:
    url = f"{gateway.url}/v1/messages"
    return httpx.post(url, json=body(), headers={"x-api-key": key}, timeout=30, trust_env=False)


def test_a_provider_declared_elsewhere_is_not_sent_what_was_stored_for_here(
    gateway: Gateway, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream
) -> None:
    upstream.script = answering
    assert gateway.type("vault", "init").returncode == 0
    key = gateway.key("ann")
    declare(gateway, upstream.url)
    made: dict[str, Any] = gateway.owner("POST", "/credentials", {"provider": "pool", "secret": POOL, "name": "main"})
    eventually(lambda: call(gateway, key).status_code == 200)
    assert upstream.last.header("x-api-key") == POOL
    declare(gateway, elsewhere.url)
    refused = call(gateway, key)
    assert (refused.status_code, elsewhere.received) == (503, [])
    told = json.dumps(gateway.owner("GET", "/providers"))
    assert f"was stored for {upstream.url}" in told
    assert POOL not in told + refused.text + gateway.log.read_text()
    gateway.owner("PUT", f"/credentials/{made['credential_id']}/secret", {"secret": POOL})  # it is meant for there
    eventually(lambda: call(gateway, key).status_code == 200)
    assert elsewhere.last.header("x-api-key") == POOL
