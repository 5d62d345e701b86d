"""Tokens of the application's own identity provider: who shows a good one is the user it names.

A token is checked once, then remembered by its hash until it ends, so that a page which sends one with every call costs
one look at its signature. What was remembered is forgotten when the issuer takes a key out of its set.

    known         remembered, its keys still there, its user not blocked          answered at once
    new           its key is here, and its claims say what they said last time    answered at once
    to be made    a user who is not here yet, or of whom the claims say something new: the directory is asked
    to be looked  signed by a key that is not here: the issuer's keys are fetched, then as above

The last two end in a task (`NotYet`), one for all calls with the same token. An older token never takes back what a
newer one said (`iat`).
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from tollhouse.dataplane.head import RequestHead
from tollhouse.dataplane.identify import NotYet, Unwelcome, check_blocked, credentials, unauthenticated
from tollhouse.dataplane.snapshot import Principal, Snapshot
from tollhouse.rules.claims import Claimed, ClaimRules, read_claims
from tollhouse.rules.credential_kinds import client_refusal
from tollhouse.rules.tokens import (
    Token,
    TokenError,
    Trust,
    candidates,
    check_claims,
    is_signed_by,
    issued_at_s,
    looks_like_token,
    open_token,
)
from tollhouse.terms.errors import Refusal, StorageError
from tollhouse.terms.people import Role
from tollhouse.upstream.issuer_keys import IssuerKeys

log = logging.getLogger("tollhouse.tokens")

MAX_CANDIDATES = 8
"""Keys that a token without a `kid` is tried with."""

Provision = Callable[[Claimed], Awaitable[None]]
"""Makes or changes the user whom claims name, and lets the snapshot know. Raises ValueError for claims that give what
is not there, StorageError.
"""


class IssuerOptions(msgspec.Struct, frozen=True):
    """Numbers and choices; settings of each issuer under `jwt`."""

    makes_users: bool = True
    max_token_bytes: int = 8_192
    max_remembered: int = 10_000
    max_waiting: int = 1_000


class _Known(msgspec.Struct, frozen=True, gc=False):
    """A token that was found good."""

    user_id: str
    until_s: float
    generation: int


class _Said(msgspec.Struct, frozen=True, gc=False):
    """What the newest token of a user said."""

    issued_at_s: float
    claimed: Claimed


class Issuer:
    """One identity provider: what it is trusted with, its keys, and what is remembered of its tokens."""

    def __init__(
        self,
        name: str,
        trust: Trust,
        rules: ClaimRules,
        keys: IssuerKeys,
        options: IssuerOptions,
    ) -> None:
        self.name = name
        self.trust = trust
        self.rules = rules
        self.keys = keys
        self.options = options
        self.known: OrderedDict[bytes, _Known] = OrderedDict()
        self.said: OrderedDict[str, _Said] = OrderedDict()
        self.waiting: dict[bytes, asyncio.Task[Principal]] = {}
        self.unchecked: dict[bytes, asyncio.Task[Principal]] = {}
        """Those whose key is not here: anybody can make them, and they take no place of those that are good."""
        self.making = asyncio.Lock()
        """Users are made one after another, so that an older token does not come between."""

    def remember(self, digest: bytes, known: _Known) -> None:
        _put(self.known, digest, known, self.options.max_remembered)

    def heard(self, claimed: Claimed, at_s: float) -> None:
        _put(self.said, claimed.user_id, _Said(at_s, claimed), self.options.max_remembered)

    def has_news(self, claimed: Claimed, at_s: float) -> bool:
        """Whether this says something of its user that no token as new has said."""
        said = self.said.get(claimed.user_id)
        return said is None or (at_s >= said.issued_at_s and claimed != said.claimed)


class TokenScheme:
    """A signed token in `Authorization: Bearer` or `x-api-key`."""

    def __init__(
        self, issuers: Sequence[Issuer], snapshot: Snapshot, provision: Provision, now_ns: Callable[[], int]
    ) -> None:
        self._issuers: Mapping[str, Issuer] = {issuer.trust.issuer: issuer for issuer in issuers}
        self._snapshot = snapshot
        self._provision = provision
        self._now_ns = now_ns
        self._max_bytes = max(issuer.options.max_token_bytes for issuer in issuers)

    def identify(self, head: RequestHead) -> Principal | None:
        for credential in credentials(head):
            if looks_like_token(credential):
                return self.principal_of(credential)
        return None

    def principal_of(self, credential: bytes) -> Principal:
        """Raises Refusal and NotYet."""
        digest = hashlib.sha256(credential).digest()
        now_s = self._now_ns() / 1e9
        for issuer in self._issuers.values():
            known = issuer.known.get(digest)
            if known is not None:
                principal = self._again(issuer, digest, known, now_s)
                if principal is not None:
                    return principal
            waiting = issuer.waiting.get(digest) or issuer.unchecked.get(digest)
            if waiting is not None:
                raise NotYet(waiting)
        try:
            token = open_token(credential, self._max_bytes)
            issuer = self._issuer_of(token)
            until_s = check_claims(token.claims, issuer.trust, now_s)
            waiting_room = issuer.unchecked
            if self._is_good(token, issuer):
                waiting_room = issuer.waiting
                claimed = _read(token, issuer)
                if not self._news(claimed, token, issuer):
                    return self._welcome(digest, claimed, until_s, issuer)
        except TokenError as error:
            raise unauthenticated(error.code, str(error)) from None
        if len(waiting_room) >= issuer.options.max_waiting:
            raise Refusal(503, "overloaded", "Too many new tokens are being looked at; try again.", retry_after_s=1)
        task = asyncio.get_running_loop().create_task(self._learn(digest, token, until_s, issuer))
        _wait(waiting_room, digest, task)
        raise NotYet(task)

    def _again(self, issuer: Issuer, digest: bytes, known: _Known, now_s: float) -> Principal | None:
        """Who showed this before; None when it must be looked at anew."""
        if now_s < known.until_s and issuer.keys.current() is not None and known.generation == issuer.keys.generation:
            principal = self._snapshot.of_user(known.user_id, issuer.name)
            if principal is not None:
                issuer.known.move_to_end(digest)
                check_welcome(principal)
                return principal
        del issuer.known[digest]
        return None

    def _issuer_of(self, token: Token) -> Issuer:
        name = token.claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            unknown = TokenError("The token is of an issuer that is not known here (iss).")
            raise client_refusal(token.text) or unknown
        if len(token.text) > issuer.options.max_token_bytes:
            most = issuer.options.max_token_bytes
            raise TokenError(f"The token has {len(token.text):,} bytes; at most {most:,} are read.")
        return issuer

    def _is_good(self, token: Token, issuer: Issuer) -> bool:
        """Whether a key of the issuer has signed it; False when no key that may have is here. Raises TokenError."""
        some = list(candidates(token, issuer.keys.current() or (), issuer.trust))[:MAX_CANDIDATES]
        if some and not any(is_signed_by(token, key) for key in some):
            raise TokenError("The token's signature is not good.")
        return bool(some)

    def _news(self, claimed: Claimed, token: Token, issuer: Issuer) -> bool:
        """Whether the directory must be asked."""
        if self._snapshot.of_user(claimed.user_id, issuer.name) is None:
            if not issuer.options.makes_users:
                why = "its user is not known here, and users are not made by tokens"
                raise TokenError(f"The token is good, but {why}.", "unknown_user")
            return True
        return issuer.has_news(claimed, issued_at_s(token.claims))

    def _welcome(self, digest: bytes, claimed: Claimed, until_s: float, issuer: Issuer) -> Principal:
        principal = self._snapshot.of_user(claimed.user_id, issuer.name)
        if principal is None:
            raise unauthenticated("unknown_user", "The token is good, but its user could not be made.")
        issuer.remember(digest, _Known(claimed.user_id, until_s, issuer.keys.generation))
        check_welcome(principal)
        return principal

    # --- what takes a while

    async def _learn(self, digest: bytes, token: Token, until_s: float, issuer: Issuer) -> Principal:
        """As `principal_of`, with all the asking there is to do. Raises Refusal."""
        try:
            if not self._is_good(token, issuer):
                await self._fetch_keys(issuer)
                if not self._is_good(token, issuer):
                    raise TokenError("The token is signed by a key that its issuer does not have.", "unknown_key")
            claimed = _read(token, issuer)
            async with issuer.making:
                if self._news(claimed, token, issuer):
                    await self._make(claimed)
                    issuer.heard(claimed, issued_at_s(token.claims))
        except TokenError as error:
            raise unauthenticated(error.code, str(error)) from None
        return self._welcome(digest, claimed, until_s, issuer)

    async def _fetch_keys(self, issuer: Issuer) -> None:
        fetching = issuer.keys.fetch()
        if fetching is not None:
            await asyncio.wait([fetching])
        if issuer.keys.current() is None:
            message = f"The keys of the issuer {issuer.name} cannot be fetched, so no token of it can be checked."
            raise Refusal(503, "issuer_unavailable", message, retry_after_s=5)

    async def _make(self, claimed: Claimed) -> None:
        try:
            await self._provision(claimed)
        except ValueError as error:
            raise unauthenticated("claims_refused", f"The token is good, but {error}.") from error
        except StorageError as error:
            log.warning("a user could not be made: %s", error)
            raise Refusal(503, "store_unavailable", "Users cannot be looked up right now.", retry_after_s=1) from error


def check_welcome(principal: Principal) -> None:
    """Raises Unwelcome: blocked, or an owner. No claims make an owner, so none may speak for one either: an issuer
    whose claim happens to hold an owner's user id would else open to its holder what applications open to owners.
    """
    check_blocked(principal)
    if principal.user.role is Role.OWNER:
        message = "This token names an owner of this gateway. Owners come signed in, or by a key."
        raise Unwelcome("owner_by_token", message, principal)


def _read(token: Token, issuer: Issuer) -> Claimed:
    try:
        return read_claims(token.claims, issuer.rules)
    except ValueError as error:
        raise TokenError(f"The token is good, but {error}.", "claims_refused") from None


def _put(book: "OrderedDict[Any, Any]", name: Any, value: Any, most: int) -> None:
    """The newest at the end; the one that was not used for longest goes when there are too many."""
    book[name] = value
    book.move_to_end(name)
    if len(book) > most:
        book.popitem(last=False)


def _wait(room: "dict[bytes, asyncio.Task[Principal]]", digest: bytes, task: "asyncio.Task[Principal]") -> None:
    """Keep the task where others with the same token find it, until it is done."""

    def done(task: "asyncio.Task[Principal]") -> None:
        del room[digest]
        if not task.cancelled():
            task.exception()  # who waited may have left: it was looked at

    room[digest] = task
    task.add_done_callback(done)
