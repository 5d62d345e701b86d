"""The house around the calls: browsers of listed origins, probes, metrics, TLS on both sides, what `serve` refuses."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from tests.journeys.calls import (
    TEXT_STREAM,
    answer,
    body,
    end_events,
    post,
    start_event,
    streamed,
    text_event,
)
from tests.journeys.conftest import ORIGIN, Claude
from tests.scripted import Gate, ScriptedUpstream
from tests.serving import Gateway

MASTER_KEY = "the-owner-of-this-house-0123456789"
STRANGER = "https://evil.example"


# Browsers


def preflight(gateway: Gateway, origin: str, path: str = "/v1/messages", method: str = "POST") -> httpx.Response:
    asked = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "x-api-key,content-type,anthropic-version",
    }
    return httpx.options(gateway.url + path, headers=asked, timeout=30, trust_env=False)


def allows(got: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in got.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/v1/messages/count_tokens", "/messages"])
def test_preflight_of_a_listed_origin(gateway: Gateway, path: str) -> None:
    got = preflight(gateway, ORIGIN, path)
    assert got.status_code == 204
    assert got.headers["access-control-allow-origin"] == ORIGIN
    assert got.headers["access-control-allow-methods"] == "POST"
    assert got.headers["vary"].lower() == "origin"
    allowed = got.headers["access-control-allow-headers"].split(", ")
    assert {"x-api-key", "authorization", "content-type", "anthropic-version", "anthropic-beta"} <= set(allowed)
    assert "access-control-allow-credentials" not in got.headers


@pytest.mark.parametrize("origin", [STRANGER, "null", f"{ORIGIN}.evil.example", "http://app.example"])
def test_preflight_of_any_other_origin(gateway: Gateway, origin: str) -> None:
    got = preflight(gateway, origin)
    assert got.status_code == 403
    assert allows(got) == {}


@pytest.mark.parametrize("stream", [False, True])
def test_answers_to_browsers(gateway: Gateway, upstream: ScriptedUpstream, user: str, stream: bool) -> None:
    upstream.script = lambda received: streamed(TEXT_STREAM) if stream else [answer()]
    key = gateway.key(user)
    got = post(gateway, key, body(stream=stream), origin=ORIGIN)
    assert got.status_code == 200
    assert got.headers["access-control-allow-origin"] == ORIGIN
    assert "x-tollhouse-request-id" in got.headers["access-control-expose-headers"].split(", ")
    assert allows(post(gateway, key, body(stream=stream), origin=STRANGER)) == {}
    assert allows(post(gateway, key, body(stream=stream))) == {}


def test_a_page_can_read_why_it_was_refused(gateway: Gateway) -> None:
    got = post(gateway, "sk-th-wrong", body(), origin=ORIGIN)
    assert (got.status_code, got.headers["access-control-allow-origin"]) == (401, ORIGIN)


def test_the_management_api_knows_no_origins(gateway: Gateway) -> None:
    assert allows(preflight(gateway, ORIGIN, "/api/v1/keys")) == {}
    assert allows(httpx.get(f"{gateway.url}/healthz", headers={"origin": ORIGIN}, timeout=30, trust_env=False)) == {}


# Probes and metrics


def test_probes(gateway: Gateway) -> None:
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        got = httpx.get(gateway.url + path, timeout=30, trust_env=False)
        assert (got.status_code, got.json()) == (200, {"status": status})
    assert httpx.get(f"{gateway.url}/metrics", timeout=30, trust_env=False).status_code == 401
    assert httpx.head(f"{gateway.url}/api/hello", timeout=30, trust_env=False).status_code in (200, 404)


def test_metrics(secure: Gateway, secure_provider: ScriptedUpstream, authority: ssl.SSLContext) -> None:
    secure_provider.script = lambda received: [answer()]
    with httpx.Client(base_url=secure.url, verify=authority, timeout=30, trust_env=False) as http:

        def metrics() -> dict[str, float]:
            got = http.get("/metrics", headers={"authorization": f"Bearer {MASTER_KEY}"})
            assert got.status_code == 200
            lines = [line.rsplit(" ", 1) for line in got.text.splitlines() if line[0] != "#"]
            return {name: float(value) for name, value in lines}

        before = metrics()
        key = secure.key("measured")
        assert http.post("/v1/messages", json=body(), headers={"x-api-key": key}).status_code == 200
        assert http.post("/v1/messages", json=body(), headers={"x-api-key": "no"}).status_code == 401
        after = metrics()
    grown = {name for name, value in after.items() if value > before.get(name, 0) and name.startswith("tollhouse_")}
    assert any("invalid_key" in name for name in grown), grown
    assert any("exact" in name for name in grown), grown
    assert after["tollhouse_audit_records"] > before["tollhouse_audit_records"]
    (head,) = {name for name in after if name.startswith("tollhouse_audit_head_info")} - before.keys()
    assert f'seq="{after["tollhouse_audit_records"]:.0f}"' in head
    assert not any("measured" in name or key in name for name in after)  # no people, no secrets


# TLS


@pytest.fixture(scope="module")
def secure_provider(certificates: Path) -> Iterator[ScriptedUpstream]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    with ScriptedUpstream(context) as running:
        yield running


@pytest.fixture(scope="module")
def secure(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, secure_provider: ScriptedUpstream
) -> Iterator[Gateway]:
    """TLS on both sides, by an authority of our own, and a master key."""
    row = {"name": "mock", "kind": "anthropic", "base_url": secure_provider.url, "models": ["claude-*"]}
    tls = {"tls_cert": str(certificates / "server.pem"), "tls_key": str(certificates / "server.key")}
    settings: dict[str, Any] = {
        "local": {"enabled": False},
        "listen": tls,
        "upstream": {"ca_file": str(certificates / "authority.pem")},
        "providers": [row],
    }
    gateway = Gateway(tmp_path_factory.mktemp("secure"), settings, TOLLHOUSE_MASTER_KEY=MASTER_KEY)
    try:
        yield gateway.start()
    finally:
        gateway.close()


@pytest.fixture
def authority(certificates: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificates / "authority.pem")


def test_tls_on_both_sides(
    secure: Gateway, secure_provider: ScriptedUpstream, authority: ssl.SSLContext, user: str, claude: Claude
) -> None:
    assert secure.url.startswith("https://")
    gate = Gate()
    told = [start_event(), text_event("a"), gate, text_event("b" * 100_000), end_events()]
    secure_provider.script = lambda received: streamed(*told)
    http = anthropic.DefaultHttpxClient(verify=authority)
    client = claude(secure.url, secure.key(user), http_client=http)
    with client.messages.stream(**body()) as stream:
        texts = iter(stream.text_stream)
        assert next(texts) == "a"
        gate.open()
        assert list(texts) == ["b" * 100_000]
    assert secure.entries(user)[0]["kind"] == "exact"
    big = [{"role": "user", "content": "x" * 3_000_000}]
    secure_provider.script = lambda received: [answer()]
    assert client.messages.create(**body(messages=big)).content
    assert secure_provider.last.json["messages"] == big


def test_a_stranger_to_the_authority_is_not_served(secure: Gateway, claude: Claude) -> None:
    with pytest.raises(anthropic.APIConnectionError):
        claude(secure.url, "sk-th-x", max_retries=0).messages.create(**body())


def test_plain_http_to_the_tls_port(secure: Gateway) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(secure.url.replace("https", "http"), timeout=30, trust_env=False)
    with httpx.Client(verify=False, timeout=30, trust_env=False) as http:
        assert http.get(f"{secure.url}/healthz").status_code == 200  # it goes on


def test_browsers_that_came_by_tls_come_by_nothing_else(secure: Gateway, authority: ssl.SSLContext) -> None:
    with httpx.Client(verify=authority, timeout=30, trust_env=False) as http:
        for path in ("/healthz", "/sign-in", "/api/v1/me"):
            there = http.get(secure.url + path, headers={"host": "gateway.example"})
            assert there.headers.get_list("strict-transport-security") == ["max-age=31536000"], path
            here = http.get(secure.url + path)
            assert "strict-transport-security" not in here.headers, "a developer's own machine has more than this"


# What `serve` refuses


def serve(tmp_path: Path, settings: dict[str, Any], *words: str) -> tuple[int, str]:
    gateway = Gateway(tmp_path, {"local": {"enabled": False}, **settings})
    ran = gateway.type("serve", "--config", str(gateway.config), "--json", *words)
    assert ran.stdout == ""
    return ran.returncode, ran.stderr


@pytest.mark.parametrize(
    ("settings", "words", "told"),
    [
        ({}, ("--host", "0.0.0.0", "--port", "0"), "listen.tls_cert"),
        (
            {
                "providers": [
                    {"name": "a", "kind": "anthropic", "base_url": "http://example.org", "models": ["claude-*"]}
                ]
            },
            ("--port", "0"),
            "upstream.allow_plain_http",
        ),
        ({"listn": {}}, ("--port", "0"), "listn"),
        ({"local": {"enabled": True, "gguf": "/nowhere.gguf"}}, ("--port", "0"), "/nowhere.gguf"),
    ],
)
def test_what_serve_will_not_do(tmp_path: Path, settings: dict[str, Any], words: tuple[str, ...], told: str) -> None:
    code, said = serve(tmp_path, settings, *words)
    assert code == 1
    assert told in said
    assert "Traceback" not in said


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        code, said = serve(tmp_path, {}, "--port", str(taken.getsockname()[1]))
    assert code == 1
    assert "listen.port" in said


def test_a_login_of_a_subscription_is_no_provider_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-ant-oat01-" + "x" * 80)
    row = {"name": "a", "kind": "anthropic", "api_key": f"file:{tmp_path}/key", "models": ["claude-*"]}
    code, said = serve(tmp_path, {"providers": [row]}, "--port", "0")
    assert code == 1
    assert "providers.a.api_key" in said
    assert "xxxx" not in said


def test_two_gateways_in_one_home(gateway: Gateway) -> None:
    second = gateway.type("serve", "--config", str(gateway.config), "--port", "0", "--json")
    assert second.returncode == 1
    assert "in use by process" in second.stderr
