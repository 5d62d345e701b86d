"""Tokens of an application's own identity provider before the real gateway, its database and its plans."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import tokens
from tests.journeys.calls import answer, body
from tests.scripted import Received, ScriptedUpstream, Step, reply
from tests.serving import Gateway

SIGNER = tokens.key("RSA", "journey")


@pytest.fixture(scope="module")
def identity_provider() -> Iterator[ScriptedUpstream]:
    """Tells its keys at /jwks, and answers as a model everywhere else."""

    def script(received: Received) -> list[Step]:
        return [reply(200, tokens.key_set(SIGNER)) if received.target == "/jwks" else answer()]

    with ScriptedUpstream() as running:
        running.script = script
        yield running


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory, identity_provider: ScriptedUpstream) -> Iterator[Gateway]:
    settings = {
        "local": {"enabled": False},
        "providers": [
            {
                "name": "mock",
                "kind": "anthropic",
                "base_url": identity_provider.url,
                "api_key": "env:MOCK_KEY",
                "models": ["claude-*"],
            }
        ],
        "jwt": [
            {
                "name": "app",
                "issuer": tokens.ISSUER,
                "jwks_url": f"{identity_provider.url}/jwks",
                "audience": tokens.AUDIENCE,
                "plan_claim": "plan",
                "default_plan": "free",
                "groups_claim": "groups",
                "teams": {"red-team": "red"},
            }
        ],
    }
    gateway = Gateway(tmp_path_factory.mktemp("trusting"), settings, MOCK_KEY="sk-ant-api03-mock")
    try:
        gateway.start()
        gateway.owner(
            "POST", "/plans", {"plan_id": "free", "limits": {"requests_per_minute": 10}, "max_output_tokens": 50}
        )
        gateway.owner("POST", "/plans", {"plan_id": "paid", "budgets": ["100k tokens/month"]})
        gateway.owner("POST", "/teams", {"team_id": "red", "name": "Red"})
        yield gateway
    finally:
        gateway.close()


def token(sub: str, **more: Any) -> str:
    now_s = int(time.time())
    return tokens.mint(tokens.claims(sub, **{"iat": now_s, "exp": now_s + 600, **more}), SIGNER, "RS256")


async def call_all(url: str, some: list[str]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, limits=limits) as http:
        return await asyncio.gather(
            *(http.post("/v1/messages", json=body(), headers={"authorization": f"Bearer {one}"}) for one in some)
        )


def test_fifty_first_calls_make_one_user_who_is_held_to_the_plan(trusting: Gateway) -> None:
    answers = asyncio.run(call_all(trusting.url, [token("first", email="first@app.example")] * 50))
    assert sorted(one.status_code for one in answers) == [200] * 10 + [429] * 40
    refused = next(one for one in answers if one.status_code == 429).json()["error"]
    assert (refused["scope"], refused["details"]["limit"]) == ("user first", 10)
    user = trusting.owner("GET", "/users/first")
    assert (user["plan_id"], user["email"]) == ("free", "first@app.example")
    assert trusting.usage("first")["calls"] == 10
    told = trusting.owner("GET", "/audit", object="first", kind="user")["items"]
    assert [(one["act"], one["actor_kind"], one["actor"], one["way"]) for one in told] == [
        ("created", "issuer", "jwt:app", "token")
    ]


def test_claims_that_change_move_the_user(trusting: Gateway, identity_provider: ScriptedUpstream) -> None:
    now_s = int(time.time())
    (free,) = asyncio.run(call_all(trusting.url, [token("mover", iat=now_s - 20)]))
    assert free.headers["x-tollhouse-max-tokens"] == "50; clamped"
    assert identity_provider.last.json["max_tokens"] == 50
    (paid,) = asyncio.run(call_all(trusting.url, [token("mover", plan="paid", groups=["red-team"], iat=now_s - 10)]))
    assert paid.headers["x-tollhouse-budget"] == "user mover"
    assert int(paid.headers["x-tollhouse-budget-remaining-tokens"]) < 100_000
    assert trusting.owner("GET", "/users/mover")["team_id"] == "red"
    (unknown,) = asyncio.run(call_all(trusting.url, [token("mover", plan="gold", iat=now_s)]))
    assert unknown.status_code == 401
    assert "gold" in json.dumps(unknown.json())


def test_a_user_who_is_blocked_is_blocked_by_token_too(trusting: Gateway) -> None:
    shown = token("blockhead")
    assert [one.status_code for one in asyncio.run(call_all(trusting.url, [shown]))] == [200]
    trusting.owner("POST", "/users/blockhead/block")
    (refused,) = asyncio.run(call_all(trusting.url, [shown]))
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "user_blocked")


def test_who_comes_back_after_a_restart_has_what_was_left(trusting: Gateway) -> None:
    shown = token("returner", plan="paid")
    (before,) = asyncio.run(call_all(trusting.url, [shown]))
    trusting.stop()
    trusting.start()
    (after,) = asyncio.run(call_all(trusting.url, [shown]))
    left = [int(one.headers["x-tollhouse-budget-remaining-tokens"]) for one in (before, after)]
    assert left[0] > left[1] > 90_000, "one call of thirty tokens, and what is held for this one"
