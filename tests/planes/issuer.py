"""An issuer that lies where it is told to: discovery, keys, token and userinfo endpoints, and GitHub's."""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx

from tests import tokens
from tests.planes.browsing import Browser

CLIENT_ID = "tollhouse"
CLIENT_SECRET = "a secret: with/odd+characters"
Body = bytes | dict[str, Any] | list[Any]


class FakeIssuer:
    """`answers` replaces what a path says; each gets the request's form and headers."""

    def __init__(self, port: int, now_s: Callable[[], float]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.now_s = now_s
        self.reset()

    def reset(self) -> None:
        """Honest again."""
        self.key = tokens.key("EC", "k1")
        self.published = [self.key]
        self.document: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "authorization_response_iss_parameter_supported": True,
        }
        self.claims: dict[str, Any] = {}
        self.make: Callable[[dict[str, Any]], str] = lambda claims: tokens.mint(claims, self.key)
        self.answers: dict[str, Callable[[dict[str, str], Any], tuple[int, Body]]] = {
            "/.well-known/openid-configuration": lambda _form, _headers: (200, self.document),
            "/keys": lambda _form, _headers: (200, tokens.key_set(*self.published)),
            "/token": self.token,
        }
        self.asked: list[str] = []
        self.sent: dict[str, str] = {}
        """The last authorization request."""
        self.codes: set[str] = set()

    def token(self, form: dict[str, str], headers: Any) -> tuple[int, Body]:
        expected = base64.b64encode(b"tollhouse:a%20secret%3A%20with%2Fodd%2Bcharacters").decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
        if headers["authorization"] != f"Basic {expected}":
            return 401, {"error": "invalid_client"}
        if form["code"] in self.codes or form["redirect_uri"] != self.sent["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if challenge.rstrip(b"=").decode() != self.sent["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        self.codes.add(form["code"])
        return 200, {"id_token": self.make(self.good_claims()), "access_token": "at", "token_type": "Bearer"}

    def good_claims(self) -> dict[str, Any]:
        now_s = int(self.now_s())
        found = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": "mia",
            "iat": now_s,
            "exp": now_s + 300,
            "nonce": self.sent["nonce"],
            "email": "mia@acme.example",
            "email_verified": True,
            "name": "Mia",
            **self.claims,
        }
        return {name: value for name, value in found.items() if value is not None}

    # --- what a browser does with it

    def set_out(self, browser: Browser, name: str = "acme", onward: str = "/chat") -> httpx.Response:
        answer = browser.ask("GET", f"/api/v1/sign-in/oidc/{name}", params={"next": onward})
        assert answer.status_code == 303, answer.text
        self.sent = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
        return answer

    def come_back(self, browser: Browser, name: str = "acme", **changes: str | None) -> httpx.Response:
        query = {"code": f"code-{len(self.asked)}", "state": self.sent["state"], "iss": self.url, **changes}
        params = {key: value for key, value in query.items() if value is not None}
        return browser.ask("GET", f"/api/v1/sign-in/oidc/{name}/callback", params=params)

    def sign_in(self, browser: Browser, **claims: Any) -> httpx.Response:
        """With these claims beside the usual ones; None leaves one out."""
        self.claims = claims
        self.set_out(browser)
        return self.come_back(browser)


@contextlib.contextmanager
def fake_issuer(now_s: Callable[[], float]) -> Iterator[FakeIssuer]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            form = {name: values[0] for name, values in parse_qs(self.rfile.read(size).decode()).items()}
            path = self.path.partition("?")[0]
            issuer.asked.append(path)
            status, body = issuer.answers.get(path, lambda _form, _headers: (404, b"{}"))(form, self.headers)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            if status == 302:
                self.send_header("location", f"{issuer.url}/elsewhere")
            self.end_headers()
            with contextlib.suppress(OSError):  # it had enough
                self.wfile.write(data)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer = FakeIssuer(server.server_address[1], now_s)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
