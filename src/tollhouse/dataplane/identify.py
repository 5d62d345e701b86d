"""Who is it: an ordered list of schemes, the first that recognises a credential decides.

    virtual key   here; also when another credential stands beside it
    token         of the application's own identity provider: `tokens`
    session       the cookie of a signed-in browser: `sessions`; only where neither of the others is shown

A scheme answers at once or, where it must ask somebody first, raises `NotYet`.
"""

import asyncio
import hmac
from collections.abc import Callable, Sequence
from typing import Protocol

from tollhouse.dataplane.head import RequestHead
from tollhouse.dataplane.snapshot import Principal, Snapshot
from tollhouse.rules import keys
from tollhouse.rules.credential_kinds import client_refusal
from tollhouse.terms.errors import Refusal
from tollhouse.terms.people import VirtualKey


class Unwelcome(Refusal):
    """401 of somebody we know, by a key that no longer holds: the request log has it under them."""

    def __init__(self, code: str, message: str, principal: Principal) -> None:
        super().__init__(401, code, message, should_retry=False)
        self.principal = principal


class NotYet(Exception):
    """Who it is will be known when `claim` is done, which may end in a Refusal and is never cancelled."""

    def __init__(self, claim: "asyncio.Future[Principal]") -> None:
        super().__init__()
        self.claim = claim


class Scheme(Protocol):
    """One way to show who one is."""

    def identify(self, head: RequestHead) -> Principal | None:
        """The principal, or None when this scheme's credential is not shown. Raises Refusal (401) when it is shown and
        not good, and NotYet.
        """


def identify(schemes: Sequence[Scheme], head: RequestHead) -> Principal:
    """Raises Refusal (401) when nobody recognises the caller, and NotYet."""
    for scheme in schemes:
        principal = scheme.identify(head)
        if principal is not None:
            return principal
    raise _stranger(head)


def _stranger(head: RequestHead) -> Refusal:
    shown = credentials(head)
    for credential in shown:
        refusal = client_refusal(credential.decode("latin-1"))
        if refusal is not None:
            return refusal
    if any(credential.startswith(b"eyJ") for credential in shown):
        return unauthenticated(
            "invalid_key",
            "This looks like a token (JWT), and no issuer of tokens is set here. Operators: it goes under jwt.",
        )
    if shown:
        return unauthenticated(
            "invalid_key",
            "This is not a Tollhouse key: keys look like `sk-th-…` and are 55 characters long. Was it cut short?",
        )
    return unauthenticated(
        "missing_key", "No key was sent. Send your Tollhouse key as `x-api-key` or `Authorization: Bearer sk-th-…`."
    )


class VirtualKeyScheme:
    """A virtual key in `x-api-key`, in `Authorization: Bearer`, or the same or another credential in both."""

    def __init__(self, snapshot: Snapshot, server_secret: bytes, now_ns: Callable[[], int]) -> None:
        self._snapshot = snapshot
        self._by_digest = snapshot.by_digest
        self._secret = server_secret
        self._now_ns = now_ns
        self.seen: Callable[[Principal, RequestHead], None] = lambda principal, head: None
        """Told of a key that is looked up: of most keys when a connection shows it first, not with each call."""

    def identify(self, head: RequestHead) -> Principal | None:
        proof = head.proof
        if proof.version == self._snapshot.version:
            return proof.principal
        for credential in credentials(head):
            if keys.is_well_formed(credential):
                principal = self.principal_of(credential)
                self.seen(principal, head)
                if principal.lasting:
                    proof.principal, proof.version = principal, self._snapshot.version
                return principal
        return None

    def principal_of(self, credential: bytes) -> Principal:
        """The holder of a well-formed key. Raises Refusal (401): unknown, revoked, expired, or its user is blocked."""
        digest = keys.digest(self._secret, credential)
        secret = self._by_digest.get(digest)
        if secret is None or not hmac.compare_digest(secret.digest, digest):
            raise unauthenticated(
                "invalid_key", "This key is not known here. Was it made by another server, or deleted?"
            )
        principal = secret.principal
        key = principal.key
        if key.revoked_at_ns is not None:
            raise Unwelcome("key_revoked", f"The key {_name(key)} was revoked. Ask for a new one.", principal)
        if key.paused_at_ns is not None:
            raise Unwelcome("key_paused", _paused(key), principal)
        check_blocked(principal)
        if secret.expires_at_ns is not None or key.expires_at_ns is not None:
            now_ns = self._now_ns()
            if secret.expires_at_ns is not None and now_ns >= secret.expires_at_ns:
                raise Unwelcome("key_expired", f"The key {_name(key)} was rotated; use its new secret.", principal)
            if key.expires_at_ns is not None and now_ns >= key.expires_at_ns:
                raise Unwelcome("key_expired", f"The key {_name(key)} has expired. Ask for a new one.", principal)
        return principal


def check_blocked(principal: Principal) -> None:
    """Raises Unwelcome: the user may not call, or nobody of the team may."""
    if principal.user.blocked_at_ns is not None:
        message = f"The user {principal.user.user_id} is blocked. Ask the operator of this gateway."
        raise Unwelcome("user_blocked", message, principal)
    team = principal.team
    if team is not None and team.blocked_at_ns is not None:
        message = f"The team {team.name or team.team_id} is blocked. Ask the operator of this gateway."
        raise Unwelcome("team_blocked", message, principal)


def _paused(key: VirtualKey) -> str:
    why = f" ({key.pause_reason.rstrip('.')})" if key.pause_reason else ""
    return f"The key {_name(key)} is paused{why}. Ask the operator of this gateway to resume it."


def _name(key: VirtualKey) -> str:
    return key.name or key.key_id


def credentials(head: RequestHead) -> list[bytes]:
    """What the caller shows, at most two, without the word Bearer."""
    shown = []
    api_key = head.read.get(b"x-api-key")
    if api_key:
        shown.append(api_key.strip())
    authorization = head.read.get(b"authorization")
    if authorization:
        scheme, _, credential = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            shown.append(credential.strip())
        else:
            shown.append(authorization.strip())
    return [credential for credential in shown if credential]


def unauthenticated(code: str, message: str) -> Refusal:
    return Refusal(401, code, message, should_retry=False)
