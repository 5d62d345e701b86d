"""A proxy in front: who calls is whom it names, if the settings trust it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving import Gateway

PROXY, OTHER = "127.0.0.2", "127.0.0.3"
"""Addresses of this machine; the gateway trusts the first."""
FAR = "203.0.113.9"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {
        "listen": {"trusted_proxies": [PROXY]},
        "sign_in": {"sign_up": "open"},
        "local": {"enabled": False},
    }
    running = Gateway(tmp_path_factory.mktemp("trusting"), settings, FORWARDED_ALLOW_IPS="*")  # only the settings count
    try:
        yield running.start()
    finally:
        running.close()


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        (PROXY, FAR, FAR),
        (PROXY, f"198.51.100.1, {FAR}", FAR),  # what stands before the last stranger, that stranger may have written
        (PROXY, f"{FAR}, {PROXY}", FAR),
        (OTHER, FAR, OTHER),
    ],
)
def test_an_address_is_believed_from_a_trusted_proxy_alone(
    gateway: Gateway, peer: str, forwarded_for: str, address: str, tmp_path: Path
) -> None:
    person = {"email": f"{tmp_path.name}@example.com", "password": "lantern quarry mosaic ferret"}
    transport = httpx.HTTPTransport(local_address=peer)
    with httpx.Client(base_url=gateway.url, transport=transport, trust_env=False, timeout=30) as browser:
        signed_up = browser.post("/api/v1/sign-up", json=person, headers={"x-forwarded-for": forwarded_for})
        assert signed_up.status_code == 201, signed_up.text
        cookie = signed_up.headers["set-cookie"].split(";")[0]
        (session,) = browser.get("/api/v1/sessions", headers={"cookie": cookie}).json()["items"]
    assert session["address"] == address
