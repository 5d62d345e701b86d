"""A real OpenID provider to sign in against: npm's `oidc-provider` (`tests/oidc/server.mjs`) in a process of its own.

    server = OidcServer([f"{gateway}/callback"], {"mia": {"email": "mia@acme.example", "email_verified": True}}).start()
    callback = server.sign_in(authorize_url, "mia")      # as a browser would: https://…/callback?code=…&state=…

PKCE is required. Scopes: `openid`, `email`, `profile` (every claim that has no scope of its own), `groups`.
"""

import contextlib
import json
import secrets
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

import httpx

from tests.node import node

SERVER = Path(__file__).parent / "oidc" / "server.mjs"
MODULES = Path(sys.prefix) / "oidc" / "node_modules"
"""Where `tools/setup.py` installs what `tests/oidc/package-lock.json` names."""
START_S = 60.0
STOP_S = 30.0
STEPS = 10
"""Redirects of one sign-in at most."""

Accounts = Mapping[str, Mapping[str, Any]]


class OidcServer:
    """`accounts`: each account's claims by its name, which is its `sub`. `client`: more of the client's metadata, as
    OpenID Connect Dynamic Client Registration names it. `id_token_claims=False`: claims are at userinfo only."""

    def __init__(
        self,
        redirect_uris: Sequence[str],
        accounts: Accounts,
        client: Mapping[str, Any] | None = None,
        id_token_claims: bool = True,
    ) -> None:
        self.client_id = "tollhouse"
        self.client_secret = secrets.token_urlsafe(32)
        self.issuer = ""
        self._settings: dict[str, Any] = {
            "redirect_uris": list(redirect_uris),
            "accounts": accounts,
            "client": client or {},
            "id_token_claims": id_token_claims,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def start(self) -> "OidcServer":
        assert MODULES.is_dir(), f"{MODULES} is missing: run `make setup`"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed in `end`
        command = [node(), SERVER, MODULES]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        try:
            self.configure()
        except BaseException:
            self.end()
            raise
        return self

    def configure(self, **changes: Any) -> None:
        """Changes any argument of the constructor at once; who is signed in at the provider stays so."""
        unknown = set(changes) - set(self._settings)
        assert not unknown, f"no such settings: {unknown}"
        self._settings |= changes
        metadata = {
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "redirect_uris": self._settings["redirect_uris"],
            **self._settings["client"],
        }
        line = {key: self._settings[key] for key in ("accounts", "id_token_claims")} | {"clients": [metadata]}
        self.issuer = self._ask(line)["issuer"]

    def _ask(self, line: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(line).encode() + b"\n")
            process.stdin.flush()
        readable, _, _ = select.select([process.stdout], [], [], START_S)
        said = process.stdout.readline() if readable else b""
        if not said:
            raise AssertionError(f"the OpenID provider did not answer:\n{self._said()}")
        answer: dict[str, Any] = json.loads(said)
        return answer

    def _said(self) -> str:
        assert self._log is not None
        self._log.seek(0)
        return self._log.read()[-4000:].decode(errors="replace")

    def sign_in(self, authorize_url: str, account: str, deny: bool = False) -> str:
        """Goes from the authorization endpoint through the form and back; the callback's URL, which is not called.

        Raises AssertionError with what the provider said when it does not send the browser back.
        """
        form = {"account": account, "then": "deny" if deny else "sign_in"}
        with httpx.Client(timeout=START_S, trust_env=False) as browser:
            response = browser.get(authorize_url)
            for _ in range(STEPS):
                if response.is_redirect:
                    url = urljoin(str(response.url), response.headers["location"])
                    if not url.startswith(f"{self.issuer}/"):
                        return url
                    response = browser.get(url)
                elif response.is_success and "/interaction/" in str(response.url):
                    response = browser.post(response.url, data=form)
                else:
                    break
        raise AssertionError(f"no way back from the OpenID provider: {response.status_code} {response.text}")

    def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.stdout.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> "OidcServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.end()
