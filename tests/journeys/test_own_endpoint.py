"""A premium user with an endpoint of their own, on a real gateway: served by it, with their key, by TLS; and only where
the operator lets it.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from tests.journeys.calls import answer, body, post
from tests.planes.test_pool_ways import Certificates
from tests.scripted import ScriptedUpstream
from tests.serving import Gateway

OWN = "sk-ant-api03-anns-own-0123456789-WXYZ"
SHARED = "sk-ant-api03-the-operators-0123456789"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def endpoint(certificates: Certificates) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(certificates.server("localhost")) as running:
        yield running


def settings(provider: ScriptedUpstream, certificates: Certificates, **vault: Any) -> dict[str, Any]:
    authority = certificates.directory / "authority.pem"
    authority.write_bytes(certificates.ca.public_bytes(serialization.Encoding.PEM))
    row = {"name": "mock", "kind": "anthropic", "base_url": provider.url, "api_key": "env:MOCK_KEY"}
    return {
        "local": {"enabled": False},
        "upstream": {"ca_file": str(authority)},
        "vault": {"master_keys": "env:KEYS_OF_THE_VAULT", "own_base_urls": True, **vault},
        "providers": [row | {"models": ["claude-*"]}],
    }


def started(directory: Path, tree: dict[str, Any]) -> Gateway:
    keys = f"1:{base64.b64encode(b'k' * 32).decode()}"
    gateway = Gateway(directory, tree, MOCK_KEY=SHARED, KEYS_OF_THE_VAULT=keys).start()
    gateway.owner("POST", "/plans", {"plan_id": "premium", "own_key": "own_only"})
    gateway.owner("POST", "/users", {"user_id": "ann", "plan_id": "premium"})
    return gateway


def store(gateway: Gateway, url: str) -> dict[str, Any]:
    made: dict[str, Any] = gateway.owner(
        "POST", "/credentials", {"provider": "mock", "user_id": "ann", "secret": OWN, "base_url": url}
    )
    return made


def test_it_is_served_by_it(
    tmp_path: Path, certificates: Certificates, endpoint: ScriptedUpstream, upstream: ScriptedUpstream
) -> None:
    networks = {"allowed_networks": ["127.0.0.0/8", "::1"]}
    gateway = started(tmp_path, settings(upstream, certificates, **networks))
    try:
        endpoint.script = lambda received: [answer()]
        told = store(gateway, f"{endpoint.url}/llm/")
        assert told["base_url"] == f"{endpoint.url}/llm"
        got = post(gateway, gateway.key("ann"), body())
        assert got.status_code == 200, got.text
        assert got.headers["x-tollhouse-paid-by"] == "own"
        tested = gateway.owner("POST", f"/credentials/{told['credential_id']}/test")
        assert (tested["status"], tested["host"]) == (200, endpoint.url)
        assert [(call.target, call.header("x-api-key")) for call in endpoint.received] == [
            ("/llm/v1/messages", OWN),
            ("/llm/v1/models?limit=1", OWN),
        ]
        assert upstream.received == []
        with pytest.raises(AssertionError, match="metadata; an endpoint of your own must be public"):
            store(gateway, "https://169.254.169.254")
        assert OWN not in gateway.log.read_text()
    finally:
        gateway.close()
