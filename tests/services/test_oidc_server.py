"""The OpenID provider of the tests: the code flow as a relying party goes it, by hand."""

import base64
import hashlib
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.oidc_server import OidcServer

CALLBACK = "http://127.0.0.1:9/callback"  # never called
RESOURCE = "https://api.acme.example"
MIA = {
    "email": "mia@acme.example",
    "email_verified": True,
    "name": "Mia Łukasik",
    "groups": ["flow-builders", "staff"],
    "plan": "premium",
}


@pytest.fixture(scope="module")
def server() -> Iterator[OidcServer]:
    with OidcServer([CALLBACK], {"mia": MIA, "eve": {"email": "eve@elsewhere.example"}}) as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, trust_env=False) as made:
        yield made


class Flow:
    """One authorization request and what belongs to it."""

    def __init__(self, server: OidcServer, client: httpx.Client, **more: str) -> None:
        self.server, self.client = server, client
        self.metadata = client.get(f"{server.issuer}/.well-known/openid-configuration").raise_for_status().json()
        self.verifier, self.state, self.nonce = (secrets.token_urlsafe(48) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        self.query = {
            "response_type": "code",
            "client_id": server.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid email profile groups",
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **more,
        }

    @property
    def url(self) -> str:
        return f"{self.metadata['authorization_endpoint']}?{urlencode(self.query)}"

    def sign_in(self, account: str, **options: bool) -> dict[str, str]:
        """The callback's query."""
        callback = self.server.sign_in(self.url, account, **options)
        assert callback.startswith(f"{CALLBACK}?")
        return {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}

    def redeem(self, code: str, **more: str) -> httpx.Response:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        form |= {"code_verifier": self.verifier, **more}
        auth = (self.server.client_id, self.server.client_secret)
        return self.client.post(self.metadata["token_endpoint"], data=form, auth=auth)

    def claims(self, token: str) -> dict[str, Any]:
        """Of a token whose signature holds."""
        keys = KeySet.import_key_set(self.client.get(self.metadata["jwks_uri"]).json())
        return jwt.decode(token, keys, algorithms=["RS256"]).claims


def test_the_code_flow_signs_in_whom_the_form_names(server: OidcServer, client: httpx.Client) -> None:
    flow = Flow(server, client)
    assert flow.metadata["issuer"] == server.issuer
    back = flow.sign_in("mia")
    assert back["state"] == flow.state
    assert back["iss"] == server.issuer
    tokens = flow.redeem(back["code"]).raise_for_status().json()
    claims = flow.claims(tokens["id_token"])
    assert claims["sub"] == "mia"
    assert claims["aud"] == server.client_id
    assert claims["nonce"] == flow.nonce
    assert claims.items() >= MIA.items()


def test_a_browser_can_sign_in_too(server: OidcServer, client: httpx.Client) -> None:
    form = client.get(Flow(server, client, login_hint="m<i>a").url, follow_redirects=True)
    assert 'value="m&#60;i&#62;a"' in form.text
    assert '<button name="then" value="sign_in">' in form.text


def test_what_a_provider_refuses(server: OidcServer, client: httpx.Client) -> None:
    flow = Flow(server, client)
    assert flow.sign_in("mia", deny=True)["error"] == "access_denied"
    with pytest.raises(AssertionError, match="No account nobody"):
        flow.sign_in("nobody")
    with pytest.raises(AssertionError, match="redirect_uri"):
        server.sign_in(Flow(server, client, redirect_uri="http://127.0.0.1:9/other").url, "mia")
    flow.query.pop("code_challenge")
    flow.query.pop("code_challenge_method")
    assert flow.sign_in("mia")["error"] == "invalid_request"

    flow = Flow(server, client)
    code = flow.sign_in("mia")["code"]
    assert flow.redeem(code, code_verifier="x" * 50).json()["error"] == "invalid_grant"
    code = flow.sign_in("mia")["code"]
    assert flow.redeem(code).status_code == 200
    assert flow.redeem(code).json()["error"] == "invalid_grant"  # a code is good once


def test_an_access_token_for_a_resource_is_a_jwt(server: OidcServer, client: httpx.Client) -> None:
    flow = Flow(server, client, resource=RESOURCE, scope="openid api")
    tokens = flow.redeem(flow.sign_in("mia")["code"], resource=RESOURCE).raise_for_status().json()
    claims = flow.claims(tokens["access_token"])
    assert (claims["iss"], claims["sub"], claims["aud"]) == (server.issuer, "mia", RESOURCE)


def test_a_change_takes_effect_at_once() -> None:
    with OidcServer([], {}) as server, httpx.Client(timeout=60, trust_env=False) as client:
        server.configure(redirect_uris=[CALLBACK], accounts={"mia": MIA}, id_token_claims=False)
        flow = Flow(server, client)
        tokens = flow.redeem(flow.sign_in("mia")["code"]).raise_for_status().json()
        assert "email" not in flow.claims(tokens["id_token"])
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        told = client.get(flow.metadata["userinfo_endpoint"], headers=bearer).raise_for_status().json()
        assert told == MIA | {"sub": "mia"}

        server.configure(accounts={"mia": MIA | {"groups": []}})
        told = client.get(flow.metadata["userinfo_endpoint"], headers=bearer).raise_for_status().json()
        assert told["groups"] == []
