"""A HashiCorp Vault, as far as the gateway speaks to one: the key-value engine of version 2, and tokens.

    with ScriptedUpstream() as server:
        vault = FakeVault()
        server.script = vault.answer

Answers are those of its HTTP API documentation (KV secrets engine version 2; token auth method).
"""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from tests.scripted import HANG, Received, Step, reply

TOKEN = "hvs.the-gateway-s-own"


class Version(msgspec.Struct):
    """One version of one secret."""

    data: dict[str, Any] | None
    custom_metadata: dict[str, str] | None = None
    deletion_time: str = ""


class Token(msgspec.Struct):
    """What the server knows of a token."""

    ttl: int = 0
    renewable: bool = False
    period: int = 0
    """What it is renewed to."""
    may_look: bool = True


class FakeVault:
    """`secrets` by mount and path, all their versions; the last one is read."""

    def __init__(self) -> None:
        self.secrets: dict[str, list[Version]] = {}
        self.tokens = {TOKEN: Token()}
        self.namespace = ""
        self.sealed = False
        self.hangs = False
        self.instead: bytes | None = None
        """Answered to everything."""
        self.lease_duration = 0
        self.asked: list[str] = []
        self.renewed = 0

    def write(self, path: str, data: dict[str, Any], **custom_metadata: str) -> None:
        """A new version."""
        self.secrets.setdefault(path, []).append(Version(data, custom_metadata or None))

    def answer(self, received: Received) -> Iterable[Step]:
        self.asked.append(f"{received.method} {received.target}")
        if self.hangs:
            return [HANG]
        if self.instead is not None:
            return [self.instead]
        status, body = self._answer(received)
        return [reply(status, json.dumps(body).encode())]

    def _answer(self, received: Received) -> tuple[int, dict[str, Any]]:
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        token = self.tokens.get(received.header("x-vault-token") or "")
        if token is None or (received.header("x-vault-namespace") or "") != self.namespace:
            return 403, {"errors": ["permission denied"]}
        path = received.target.removeprefix("/v1/")
        if path.startswith("auth/token/"):
            return self._token(received.method, path, token)
        mount, _, rest = path.partition("/data/")
        versions = self.secrets.get(f"{mount}/{rest}", [])
        if received.method != "GET" or not versions:
            return 404, {"errors": []}
        last = versions[-1]
        metadata = {
            "created_time": "2026-11-22T10:00:00.123456789Z",
            "custom_metadata": last.custom_metadata,
            "deletion_time": last.deletion_time,
            "destroyed": False,
            "version": len(versions),
        }
        answer = {"lease_id": "", "renewable": False, "lease_duration": self.lease_duration}
        return 404 if last.data is None else 200, {**answer, "data": {"data": last.data, "metadata": metadata}}

    def _token(self, method: str, path: str, token: Token) -> tuple[int, dict[str, Any]]:
        if not token.may_look:
            return 403, {"errors": ["permission denied"]}
        if (method, path) == ("GET", "auth/token/lookup-self"):
            return 200, {"data": {"ttl": token.ttl, "renewable": token.renewable, "policies": ["llm"]}}
        if (method, path) == ("POST", "auth/token/renew-self") and token.renewable:
            self.renewed += 1
            token.ttl = token.period
            return 200, {"auth": {"lease_duration": token.period, "renewable": True}}
        return 400, {"errors": ["lease is not renewable"]}
