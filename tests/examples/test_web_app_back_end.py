"""The back end of `examples/web-app` before a scripted Tollhouse: what it passes on, and whom it believes."""

import http.client
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.examples.web_app import HERE, WebApp
from tests.scripted import HANG, Gate, Received, ScriptedUpstream, Step, chunk, reply, stream_head
from tests.serving import eventually

FLOW = {"name": "Two steps", "steps": [{"name": "a", "prompt": "About {{topic}}"}, {"name": "b", "prompt": "{{a}}"}]}
COOKIE = "__Host-tollhouse"


@pytest.fixture(scope="module")
def gateway() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def web_app(gateway: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebApp]:
    with WebApp(tmp_path_factory.mktemp("web-app"), gateway.url) as running:
        yield running


@pytest.fixture
def browser(web_app: WebApp, gateway: ScriptedUpstream) -> Iterator[httpx.Client]:
    gateway.received.clear()
    gateway.script = authz
    with web_app.client() as client:
        yield client


def authz(received: Received) -> Iterable[Step]:
    """Forward-auth of a Tollhouse whose sessions are called as their users."""
    cookie = received.header("cookie")
    if cookie is None:
        return [refused(401, "missing_key", "You are not signed in.")]
    return [reply(200, b"", ("x-tollhouse-user", cookie.removeprefix(f"{COOKIE}=")))]


def refused(status: int, reason: str, message: str, **more: str) -> bytes:
    headers = {"x-tollhouse-reason": reason, **{name.replace("_", "-"): value for name, value in more.items()}}
    return reply(status, json.dumps({"error": {"code": reason, "message": message}}).encode(), *headers.items())


def as_user(name: str) -> dict[str, str]:
    return {"cookie": f"{COOKIE}={name}"}


def test_a_call_is_passed_on_with_what_says_whose_it_is(
    web_app: WebApp, browser: httpx.Client, gateway: ScriptedUpstream
) -> None:
    cookies = [("set-cookie", f"{COOKIE}=new; Secure"), ("set-cookie", "other=1"), ("retry-after", "7")]
    gateway.script = lambda received: [reply(429, b'{"error":{}}', *cookies)]
    body = '{"messages": [ ], "note": "gr\\u00fc\u00dfe"}'.encode()
    forged = {"x-forwarded-for": "203.0.113.9", "x-real-ip": "203.0.113.9", "forwarded": "for=203.0.113.9"}
    shown = {"x-csrf-token": "csrf", "content-type": "application/json", "sec-fetch-site": "same-origin"}
    odd = {"x-odd": b"gr\xfc\xdfe"}
    answer = browser.post("/api/chat?a=%2Fb&c", content=body, headers={**as_user("mia"), **shown, **forged, **odd})
    sent = gateway.last
    assert (sent.method, sent.target, sent.body) == ("POST", "/api/chat?a=%2Fb&c", body)
    assert sent.header("host") == web_app.url.removeprefix("http://"), "Tollhouse compares it with the origin"
    assert sent.header("origin") == web_app.url
    assert {name: sent.header(name) for name in shown} == shown
    assert sent.header("cookie") == f"{COOKIE}=mia"
    assert sent.header("x-odd") == "grüße", "bytes as they came"
    assert sent.header("x-forwarded-for") == "127.0.0.1", "what the browser says of itself is not believed"
    assert (sent.header("x-real-ip"), sent.header("forwarded")) == (None, None)
    assert (answer.status_code, answer.content) == (429, b'{"error":{}}')
    assert answer.headers["retry-after"] == "7"
    assert answer.headers.get_list("set-cookie") == [f"{COOKIE}=new; Secure", "other=1"]


def test_an_answer_flows_as_it_comes_and_ends_when_the_browser_leaves(
    browser: httpx.Client, gateway: ScriptedUpstream
) -> None:
    gate = Gate()
    gateway.script = lambda received: [stream_head(), chunk(b"data: 1\n\n"), gate, chunk(b"data: 2\n\n"), gate]
    with browser.stream("POST", "/api/chat", json={}, headers=as_user("mia")) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert next(answer.iter_raw()) == b"data: 1\n\n", "before there is any more of it"
    assert gateway.last.gone.wait(30)


@pytest.mark.usefixtures("browser")
def test_a_browser_that_leaves_before_the_answer_begins_ends_the_call_too(
    web_app: WebApp, gateway: ScriptedUpstream
) -> None:
    gateway.script = lambda received: [HANG]
    leaving = http.client.HTTPConnection(web_app.url.removeprefix("http://"))
    leaving.request("POST", "/api/chat", b"{}", as_user("mia"))
    eventually(lambda: gateway.received)
    leaving.close()
    assert gateway.last.gone.wait(30)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/users"),
        ("POST", "/api/v1/keys"),
        ("POST", "/key/generate"),
        ("POST", "/api/v1/setup"),
        ("GET", "/metrics"),
        ("GET", "/authz"),
        ("POST", "/api/v1/me"),
        ("DELETE", "/api/v1/session"),
        ("GET", "/api/v1/me/../users"),
        ("GET", "/api/v1/credentials"),
        ("PUT", "/api/v1/me/credentials"),
        ("GET", "/api/v1/me/credentials/mock"),
        ("POST", "/api/v1/me/credentials/mock/test/more"),
        ("PUT", "/api/v1/me/credentials/..%2f..%2fusers"),
        ("GET", "/api/v1/me%2f..%2fusers"),
        ("GET", "/..%2fapp.py"),
        ("GET", "/flows.db"),
    ],
)
def test_nothing_else_of_the_house_is_on_the_web(
    browser: httpx.Client, gateway: ScriptedUpstream, method: str, path: str
) -> None:
    answer = browser.request(method, path, headers=as_user("mia"))
    assert answer.status_code in (404, 405)
    assert gateway.received == []


def test_flows_are_each_users_own(browser: httpx.Client) -> None:
    added = browser.post("/flows", json=FLOW, headers=as_user("mia"))
    assert added.status_code == 201
    flow_id = added.json()["id"]
    assert added.json() == {"id": flow_id, **FLOW}
    assert browser.get("/flows", headers=as_user("mia")).json() == {"items": [added.json()]}

    stranger = as_user("zo%C3%AB")
    assert browser.get("/flows", headers=stranger).json() == {"items": []}
    for method, sent in (("PUT", {**FLOW, "name": "Mine now"}), ("DELETE", None)):
        refused = browser.request(method, f"/flows/{flow_id}", json=sent, headers=stranger)
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert browser.get("/flows", headers=as_user("mia")).json() == {"items": [added.json()]}

    changed = browser.put(f"/flows/{flow_id}", json={**FLOW, "name": "Renamed"}, headers=as_user("mia"))
    assert changed.json() == {"id": flow_id, **FLOW, "name": "Renamed"}
    assert browser.delete(f"/flows/{flow_id}", headers=as_user("mia")).status_code == 204
    assert browser.get("/flows", headers=as_user("mia")).json() == {"items": []}


def test_who_it_is_tollhouse_is_asked_with_all_that_shows_it(
    web_app: WebApp, browser: httpx.Client, gateway: ScriptedUpstream
) -> None:
    shown = {"x-csrf-token": "csrf", "sec-fetch-site": "same-origin"}
    browser.post("/flows", json=FLOW, headers={**as_user("mia"), **shown})
    asked = gateway.last
    assert (asked.method, asked.target, asked.body) == ("GET", "/authz", b"")
    expected = {**shown, "cookie": f"{COOKIE}=mia", "origin": web_app.url, "x-original-method": "POST"}
    assert {name: asked.header(name) for name in expected} == expected


def test_nobody_gets_nothing_in_tollhouses_words(browser: httpx.Client) -> None:
    # A header that a back end behind a proxy would believe is no sign-in here.
    for headers in ({}, {"x-tollhouse-user": "mia"}):
        for method, path in (("GET", "/flows"), ("POST", "/flows"), ("PUT", "/flows/x"), ("DELETE", "/flows/x")):
            answer = browser.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["detail"] == "You are not signed in."


def test_who_may_call_no_more_still_reaches_what_is_theirs(browser: httpx.Client, gateway: ScriptedUpstream) -> None:
    gateway.script = lambda received: [refused(403, "rate_limited", "It is full.", x_tollhouse_user="ida")]
    assert browser.get("/flows").json() == {"items": []}
    gateway.script = lambda received: [refused(403, "csrf", "Another site's.", x_tollhouse_user="ida")]
    answer = browser.get("/flows")
    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (403, "csrf", "Another site's.")


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"{", "Expecting"),
        (b"[]", "A flow is an object"),
        (json.dumps({**FLOW, "name": " "}).encode(), "The flow's name is missing."),
        (json.dumps({**FLOW, "steps": []}).encode(), "1 to 10 steps; this one has 0"),
        (json.dumps({**FLOW, "steps": FLOW["steps"] * 6}).encode(), "1 to 10 steps; this one has 12"),
        (json.dumps({**FLOW, "steps": [FLOW["steps"][0]] * 2}).encode(), "Two steps are called “a”"),
        (json.dumps({"name": "x", "steps": [{"name": "1st", "prompt": "x"}]}).encode(), "must begin with a letter"),
        (json.dumps({"name": "x", "steps": [{"name": "a", "prompt": "x" * 8001}]}).encode(), "8,001 characters"),
        (json.dumps({"name": "x", "steps": ["x"]}).encode(), "Step 1 is not an object"),
    ],
)
def test_a_flow_that_is_none_is_refused_in_words(browser: httpx.Client, sent: bytes, words: str) -> None:
    answer = browser.post("/flows", content=sent, headers=as_user("mia"))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_flow")
    assert words in answer.json()["detail"]


def test_what_is_too_large_is_refused(browser: httpx.Client, gateway: ScriptedUpstream) -> None:
    answer = browser.post("/api/chat", content=b"x" * (1024 * 1024 + 1), headers=as_user("mia"))
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert gateway.received == []


def test_a_gateway_that_is_gone_is_told_in_words(tmp_path: Path) -> None:
    with ScriptedUpstream() as gone:
        url = gone.url
    with WebApp(tmp_path, url) as web_app, web_app.client() as browser:
        for answer in (browser.post("/api/chat", json={}), browser.get("/flows")):
            assert (answer.status_code, answer.json()["code"]) == (502, "gateway_unreachable")


def test_the_page_is_all_its_own(browser: httpx.Client) -> None:
    for file in sorted((HERE / "page").iterdir()):
        answer = browser.get(f"/{file.name}")
        assert answer.content == file.read_bytes()
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, f"{file.name} leads elsewhere"
    assert browser.get("/").content == (HERE / "page" / "index.html").read_bytes()
