"""Real pages in a real browser: of the gateway's own origin with a cookie, of a listed origin with a key, of any other
with nothing.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import Visit, blank
from tests.journeys.calls import TEXT_STREAM, answer, body, streamed
from tests.scripted import Received, ScriptedUpstream, Step, reply
from tests.serving import Gateway

CALL = """async ([url, method, headers, body, more]) => {
    try {
        const answer = await fetch(url, {method, headers, body: body ? JSON.stringify(body) : undefined, ...more});
        const seen = Object.fromEntries(answer.headers.entries());
        return {status: answer.status, headers: seen, text: await answer.text()};
    } catch (error) { return {error: String(error)}; }
}"""
SIGN_UP = {"email": "page@app.example", "password": "a quite long and winding sentence", "name": "Page"}
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedUpstream]:
    def script(received: Received) -> list[Step]:
        return streamed(TEXT_STREAM) if received.json.get("stream") else [answer()]

    with ScriptedUpstream() as running:
        running.script = script
        yield running


@pytest.fixture(scope="module")
def pages() -> Iterator[ScriptedUpstream]:
    """An empty page, by whatever name it is reached."""
    with ScriptedUpstream() as running:
        running.script = lambda received: [reply(200, b"<!doctype html><title>App</title>", content_type="text/html")]
        yield running


@pytest.fixture(scope="module")
def open_house(
    tmp_path_factory: pytest.TempPathFactory, model: ScriptedUpstream, pages: ScriptedUpstream
) -> Iterator[Gateway]:
    settings = {
        "local": {"enabled": False},
        "listen": {"cors_origins": [f"http://app.localhost:{pages.port}"]},
        "sign_in": {"sign_up": "open", "password": {"argon2_passes": 1, "argon2_memory_kib": 8_192}},
        "chat": {"model": "claude-sonnet-4-6", "system": "You are brief."},
        "providers": [
            {"name": "mock", "kind": "anthropic", "base_url": model.url, "api_key": "env:MOCK", "models": ["claude-*"]}
        ],
    }
    gateway = Gateway(tmp_path_factory.mktemp("open"), settings, MOCK="sk-ant-api03-mock")
    try:
        yield gateway.start()
    finally:
        gateway.close()


@pytest.fixture
def house(open_house: Gateway, model: ScriptedUpstream) -> Gateway:
    model.received.clear()
    return open_house


def local(gateway: Gateway) -> str:
    return gateway.url.replace("127.0.0.1", "localhost")


def call(visit: Visit, url: str, method: str = "POST", *, sends: Any = None, **facts: Any) -> dict[str, Any]:
    headers = facts.pop("headers", {})
    found: dict[str, Any] = visit.page.evaluate(CALL, [url, method, headers, sends, facts])
    return found


def signed_up(visit: Visit, house: Gateway, email: str) -> str:
    """On a page of the gateway's own origin; the CSRF token."""
    blank(visit.page, f"{local(house)}/page")
    found = call(
        visit, "/api/v1/sign-up", sends={**SIGN_UP, "email": email}, headers={"content-type": "application/json"}
    )
    assert found["status"] == 201, found
    token: str = json.loads(call(visit, "/api/v1/session", "GET")["text"])["csrf_token"]
    return token


def test_a_page_of_ours_chats_with_its_cookie_alone(visit: Visit, house: Gateway, model: ScriptedUpstream) -> None:
    csrf = signed_up(visit, house, "own@app.example")
    found = call(visit, "/api/chat", sends=HELLO, headers={"x-csrf-token": csrf})
    assert (found["status"], "x-tollhouse-cost-usd" in found["headers"]) == (200, True), found
    assert model.last.json["system"] == "You are brief."
    found = call(visit, "/api/chat", sends={**HELLO, "stream": True}, headers={"x-csrf-token": csrf})
    assert "message_stop" in found["text"]
    found = call(visit, "/v1/messages", sends=body(), headers={"x-csrf-token": csrf})
    assert found["status"] == 200
    sent = b"".join(received.head for received in model.received).lower()
    assert len(model.received) == 3
    assert b"cookie" not in sent
    assert csrf.lower().encode() not in sent
    assert call(visit, "/api/chat", sends=HELLO)["status"] == 403
    assert visit.page.evaluate("document.cookie") == "", "no script of a page can read the cookie"
    assert len(model.received) == 3


def test_a_page_of_a_listed_origin_calls_with_a_key_and_sees_what_it_cost(
    visit: Visit, house: Gateway, model: ScriptedUpstream, pages: ScriptedUpstream
) -> None:
    key = house.key("cross", budget="1M tokens/month")
    visit.page.goto(f"http://app.localhost:{pages.port}/")
    headers = {"x-api-key": key, "content-type": "application/json", "anthropic-version": "2023-06-01"}
    for path, sent in (("/v1/messages", body()), ("/api/chat", HELLO)):
        found = call(visit, local(house) + path, sends=sent, headers=headers)
        assert found["status"] == 200, found
        for name in ("x-tollhouse-cost-usd", "x-tollhouse-budget", "x-tollhouse-budget-remaining-tokens"):
            assert name in found["headers"]
    wrong = call(visit, f"{local(house)}/v1/messages", sends=body(), headers={**headers, "x-api-key": "sk-th-no"})
    assert (wrong["status"], "invalid_key" in wrong["text"]) == (401, True), "and reads why it was refused"
    assert "error" in call(visit, f"{local(house)}/api/v1/me", "GET", headers=headers), "the management API is not open"


@pytest.mark.parametrize("name", ["app", "evil"])
def test_no_page_of_another_origin_calls_by_the_cookie(
    visit: Visit, house: Gateway, model: ScriptedUpstream, pages: ScriptedUpstream, name: str
) -> None:
    csrf = signed_up(visit, house, f"{name}@app.example")
    visit.page.goto(f"http://{name}.localhost:{pages.port}/")
    url = f"{local(house)}/api/chat"
    with_cookie = call(visit, url, sends=HELLO, headers={"x-csrf-token": csrf}, credentials="include")
    assert "error" in with_cookie, "credentials are never allowed across origins, nor is the token's header"
    assert "error" in call(visit, url, sends=HELLO, credentials="include")
    call(visit, url, sends=HELLO, credentials="include", mode="no-cors")
    assert not model.received


def test_a_page_that_is_not_listed_cannot_even_use_a_key(
    visit: Visit, house: Gateway, model: ScriptedUpstream, pages: ScriptedUpstream
) -> None:
    key = house.key("evil")
    visit.page.goto(f"http://evil.localhost:{pages.port}/")
    assert "error" in call(visit, f"{local(house)}/v1/messages", sends=body(), headers={"x-api-key": key})
    assert not model.received
