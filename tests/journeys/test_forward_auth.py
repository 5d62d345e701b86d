"""Forward authentication of an application behind a real nginx, as the guide has it, and as Envoy asks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from tests.journeys.calls import answer, post
from tests.scripted import ScriptedUpstream, reply
from tests.serving import Gateway
from tests.wire.proxy import beginning, free_port, serving

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "nginx-authz.conf"
PROVIDER_SECRET = "sk-ant-api03-the-operators-own"
PASSWORD = "a quite long and winding sentence"


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        running.script = lambda received: [answer()]
        yield running


@pytest.fixture(scope="module")
def application() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        running.script = lambda received: [reply(200, b'{"application":true}')]
        yield running


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory, model: ScriptedUpstream) -> Iterator[Gateway]:
    settings = {
        "local": {"enabled": False},
        "sign_in": {"sign_up": "open", "password": {"argon2_passes": 1, "argon2_memory_kib": 8_192}},
        "providers": [
            {"name": "mock", "kind": "anthropic", "base_url": model.url, "api_key": "env:MOCK", "models": ["claude-*"]}
        ],
    }
    gateway = Gateway(tmp_path_factory.mktemp("guard"), settings, MOCK=PROVIDER_SECRET)
    try:
        gateway.start()
        limits = {"requests_per_minute": 2}
        gateway.owner("POST", "/plans", {"plan_id": "free", "limits": limits, "budgets": ["1M tokens/month"]})
        gateway.owner("POST", "/teams", {"team_id": "red", "name": "Red"})
        yield gateway
    finally:
        gateway.close()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, guard: Gateway, application: ScriptedUpstream) -> Iterator[str]:
    """The URL of nginx before the application."""
    place, port = tmp_path_factory.mktemp("nginx"), free_port()
    servers = (
        f"upstream tollhouse {{ server {guard.url[7:]}; }} upstream application {{ server {application.url[7:]}; }}"
    )
    config = f"{beginning(place)} {servers} server {{ listen 127.0.0.1:{port};\n{GUIDE.read_text()}\n}} }}"
    with serving(place, config, (port,)):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def nothing_seen(application: ScriptedUpstream) -> None:
    application.received.clear()


def ask(url: str, method: str = "GET", **headers: str) -> httpx.Response:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, url, headers=lines, timeout=30, trust_env=False)


def sign_up(guard: Gateway, email: str) -> tuple[str, str, str]:
    """Cookie, CSRF token and user id of somebody who has just signed up."""
    body = {"email": email, "password": PASSWORD, "name": "Somebody"}
    found = httpx.post(f"{guard.url}/api/v1/sign-up", json=body, headers={"origin": guard.url}, trust_env=False)
    assert found.is_success, found.text
    told: dict[str, Any] = found.json()
    return found.headers["set-cookie"].split(";")[0], told["csrf_token"], told["user"]["user_id"]


def test_a_key_passes_and_the_application_hears_whose_it_is(
    guard: Gateway, front: str, application: ScriptedUpstream
) -> None:
    user = "Zoë 100%/✓"
    key = guard.key(user)
    guard.owner("PATCH", f"/users/{user}", {"plan_id": "free"})
    found = ask(f"{front}/prompts/1", "POST", x_api_key=key, x_tollhouse_user="root")
    assert (found.status_code, found.json()) == (200, {"application": True})
    received = application.last
    assert unquote(received.header("x-tollhouse-user") or "") == user
    assert received.header("x-tollhouse-plan") == "free"
    assert key not in received.head.decode("latin-1"), "keys stay with those whose business they are"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "missing_key"),
        ({"x_api_key": "sk-th-nonsense"}, "invalid_key"),
        ({"cookie": "__Host-tollhouse=x"}, "session_over"),
    ],
)
def test_nobody_does_not_pass(front: str, application: ScriptedUpstream, headers: dict[str, str], reason: str) -> None:
    found = ask(front, **headers)
    assert (found.status_code, found.headers["x-tollhouse-reason"]) == (401, reason)
    assert not application.received


def test_a_signed_in_browser_reads_and_with_its_csrf_token_writes(
    guard: Gateway, front: str, application: ScriptedUpstream
) -> None:
    cookie, csrf, user = sign_up(guard, "reader@app.example")
    assert ask(front, cookie=cookie).status_code == 200
    assert application.last.header("x-tollhouse-user") == user
    for more in ({}, {"origin": "https://evil.example", "x_csrf_token": csrf}, {"x_original_method": "GET"}):
        refused = ask(front, "POST", cookie=cookie, **more)
        assert (refused.status_code, refused.headers["x-tollhouse-reason"]) == (403, "csrf")
    assert ask(front, "POST", cookie=cookie, x_csrf_token=csrf, origin=front).status_code == 200


def test_asked_without_the_method_a_cookie_is_held_to_the_stricter_rule(guard: Gateway) -> None:
    """A proxy that forgets to tell it asks by GET about everything."""
    cookie, csrf, _ = sign_up(guard, "forgetful@app.example")
    assert ask(f"{guard.url}/authz", cookie=cookie).status_code == 403
    assert ask(f"{guard.url}/authz", cookie=cookie, x_csrf_token=csrf).status_code == 200
    assert ask(f"{guard.url}/authz", cookie=cookie, x_original_method="GET").status_code == 200
    assert ask(f"{guard.url}/authz", cookie=cookie, x_original_method="BREW").status_code == 403


def test_envoy_asks_by_method_and_path_of_the_request(guard: Gateway) -> None:
    cookie, csrf, user = sign_up(guard, "envoy@app.example")
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        safe = method in ("GET", "HEAD", "OPTIONS")
        found = ask(f"{guard.url}/authz/api/prompts/1?x=1", method, cookie=cookie, x_original_method="GET")
        assert found.status_code == (200 if safe else 403), method
        found = ask(f"{guard.url}/authz/", method, cookie=cookie, x_csrf_token=csrf)
        assert (found.status_code, found.headers["x-tollhouse-user"]) == (200, user)


def test_what_is_told(guard: Gateway) -> None:
    key = guard.new_key("teller", budget="1000 requests")
    guard.owner("PUT", "/teams/red/members/teller", {"role": "member"})
    guard.owner("PATCH", "/users/teller", {"plan_id": "free"})
    found = ask(f"{guard.url}/authz", authorization=f"Bearer {key['key']}")
    told = {name: value for name, value in found.headers.items() if name.startswith(("x-tollhouse", "x-ratelimit"))}
    reset = told.pop("x-tollhouse-budget-reset", None)
    assert told.pop("x-ratelimit-reset-requests", "0.000s").endswith("s")
    assert told == {
        "x-tollhouse-user": "teller",
        "x-tollhouse-role": "member",
        "x-tollhouse-team": "red",
        "x-tollhouse-plan": "free",
        "x-tollhouse-key": key["key_id"],
        "x-tollhouse-budget": "user teller",
        "x-tollhouse-budget-remaining-tokens": "1000000",
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "2",
    }
    assert reset is None or int(reset) > 0
    assert found.headers["cache-control"] == "no-store"
    assert found.content == b""
    assert PROVIDER_SECRET not in str(found.headers)


def test_a_budget_that_is_used_up_lets_nobody_pass_a_full_limit_only_says_so(
    guard: Gateway, front: str, application: ScriptedUpstream
) -> None:
    key = guard.key("spender", budget="2 requests")
    guard.owner("PATCH", "/users/spender", {"plan_id": "free"})
    fields = {"model": "claude-sonnet-4-6", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}
    for left in ("2", "1"):
        assert ask(f"{guard.url}/authz", x_api_key=key).headers["x-ratelimit-remaining-requests"] == left
        assert post(guard, key, fields).status_code == 200
    refused = ask(front, x_api_key=key)
    assert (refused.status_code, refused.headers["x-tollhouse-reason"]) == (403, "budget_exhausted")
    refused = ask(f"{guard.url}/authz", x_api_key=key)
    assert "2 requests in total of key" in json.loads(refused.content)["error"]["message"]
    assert refused.headers["x-tollhouse-user"] == "spender", "whose it is is told all the same"
    assert not application.received
    told = ask(f"{guard.url}/authz", x_api_key=guard.key("spender"))
    assert (told.status_code, told.headers["x-ratelimit-remaining-requests"]) == (200, "0")
