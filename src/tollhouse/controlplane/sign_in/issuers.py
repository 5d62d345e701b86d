"""Issuers: who says that somebody is who they are. OpenID Connect by discovery, and GitHub, which speaks OAuth only.

What is checked of an OpenID provider (OpenID Connect Core 1.0, 3.1.3.7; RFC 9700): the discovery document is of the
issuer that the operator wrote; the code is exchanged with PKCE (S256) and is of our own trip; the ID token is signed by
one of the issuer's keys and an allowed algorithm, is of this issuer, for this client and no other party, of this trip
(nonce), and not over.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

import msgspec

from tollhouse.controlplane.sign_in.fetching import IssuerError, Reach, ask, check_url
from tollhouse.rules.claims import ClaimRules

if TYPE_CHECKING:
    from tollhouse.rules.tokens import SigningKey, Token
    from tollhouse.upstream.issuer_keys import FetchedKeys

DISCOVERY_S = 3_600.0
MAX_TOKEN_BYTES = 65_536
MAX_SUBJECT_CHARS = 255
"""OpenID Connect Core 1.0, 2."""


class IssuerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the settings; `sign_up`, `link_by_email` as there."""

    name: str
    issuer: str
    client_id: str
    client_secret: str
    scopes: str
    algorithms: frozenset[str]
    rules: ClaimRules
    sign_up: bool = True
    link_by_email: bool = False
    leeway_s: int = 60
    extra: tuple[tuple[str, str], ...] = ()
    """More parameters of the authorization request."""


class Trip(msgspec.Struct, frozen=True):
    """One way to an issuer and back, known to the browser that makes it."""

    name: str
    state: str
    nonce: str
    verifier: str
    onward: str
    ends_s: int


class Issuer(Protocol):
    """`claims` are believed: `sub`, `email`, …"""

    options: IssuerOptions

    async def way(self, trip: Trip, redirect_uri: str) -> str:
        """Where to send the browser. Raises IssuerError."""

    async def claims(self, trip: Trip, query: Mapping[str, str], redirect_uri: str) -> Mapping[str, Any]:
        """Of who came back with this query. Raises IssuerError."""


def _authorization(options: IssuerOptions, endpoint: str, trip: Trip, redirect_uri: str, **more: str) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(trip.verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": options.client_id,
        "redirect_uri": redirect_uri,
        "scope": options.scopes,
        "state": trip.state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **more,
        **dict(options.extra),
    }
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"


class OpenIdProvider:
    def __init__(self, options: IssuerOptions, reach: Reach, now_s: Callable[[], float] = time.time) -> None:
        self.options = options
        self._reach = reach
        self._now_s = now_s
        self._document: Mapping[str, Any] = {}
        self._read_at_s = -float("inf")
        self._keys: FetchedKeys | None = None
        self._keys_url = ""

    async def way(self, trip: Trip, redirect_uri: str) -> str:
        document = await self._discovered()
        return _authorization(self.options, document["authorization_endpoint"], trip, redirect_uri, nonce=trip.nonce)

    async def claims(self, trip: Trip, query: Mapping[str, str], redirect_uri: str) -> Mapping[str, Any]:
        document = await self._discovered()
        iss = query.get("iss")
        if iss is None and document.get("authorization_response_iss_parameter_supported") is True:
            raise IssuerError("the answer does not say which issuer it is from (RFC 9207)")
        if iss is not None and iss != self.options.issuer:
            raise IssuerError("the answer is from another issuer (RFC 9207)")
        form = {
            "grant_type": "authorization_code",
            "code": query.get("code", ""),
            "redirect_uri": redirect_uri,
            "code_verifier": trip.verifier,
        }
        headers = self._authenticate(form, document)
        tokens = await ask(self._reach, document["token_endpoint"], form=form, headers=headers)
        if not isinstance(tokens, dict) or not isinstance(tokens.get("id_token"), str):
            raise IssuerError("the issuer gave no ID token")
        claims = await self._believed(tokens["id_token"], trip)
        return await self._with_userinfo(claims, tokens.get("access_token"), document)

    def _authenticate(self, form: dict[str, str], document: Mapping[str, Any]) -> dict[str, str]:
        """As the client (RFC 6749, 2.3.1): by Basic, or in the form where the issuer takes nothing else."""
        secret, client_id = self.options.client_secret, self.options.client_id
        methods = document.get("token_endpoint_auth_methods_supported")
        if secret and (not isinstance(methods, list) or "client_secret_basic" in methods):
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
            return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        form["client_id"] = client_id
        if secret:
            form["client_secret"] = secret
        return {}

    async def _discovered(self) -> Mapping[str, Any]:
        """The issuer's own description; an old one rather than none."""
        issuer = self.options.issuer
        if self._now_s() - self._read_at_s < DISCOVERY_S:
            return self._document
        try:
            found = await ask(self._reach, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if not isinstance(found, dict) or found.get("issuer") != issuer:
                raise IssuerError(f"the discovery document of {issuer} is of another issuer")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                check_url(found.get(name), issuer)
        except IssuerError:
            if not self._document:
                raise
            return self._document
        self._document, self._read_at_s = found, self._now_s()
        return found

    async def _believed(self, text: str, trip: Trip) -> Mapping[str, Any]:
        """An ID token's claims. Raises IssuerError."""
        from tollhouse.rules import tokens  # noqa: PLC0415  joserfc and cryptography, when somebody signs in by an issuer

        options = self.options
        trust = tokens.Trust(
            issuer=options.issuer,
            algorithms=options.algorithms,
            audiences=frozenset((options.client_id,)),
            leeway_s=options.leeway_s,
        )
        try:
            token = tokens.open_token(text.encode("ascii", "replace"), MAX_TOKEN_BYTES)
            if not await self._is_signed(token, trust):
                raise IssuerError("the ID token is not signed by a key of its issuer")
            tokens.check_claims(token.claims, trust, self._now_s())
        except tokens.TokenError as error:
            raise IssuerError(f"the ID token: {error}") from error
        claims = token.claims
        several = isinstance(claims.get("aud"), list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else options.client_id) != options.client_id:
            raise IssuerError("the ID token was made for another party (azp)")
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), trip.nonce.encode()):
            raise IssuerError("the ID token is of another trip (nonce)")
        return claims

    async def _is_signed(self, token: "Token", trust: Any) -> bool:
        """By a key of the issuer; a new one is looked for once."""
        keys = self._issuer_keys()
        if keys.current() is None:
            await self._fetch(keys)
        if self._fits(token, keys.current() or (), trust):
            return True
        await self._fetch(keys)
        return self._fits(token, keys.current() or (), trust)

    @staticmethod
    async def _fetch(keys: "FetchedKeys") -> None:
        task = keys.fetch()
        if task is not None:
            await task

    @staticmethod
    def _fits(token: "Token", keys: "tuple[SigningKey, ...]", trust: Any) -> bool:
        from tollhouse.rules import tokens  # noqa: PLC0415  as in `_believed`

        return any(tokens.is_signed_by(token, key) for key in tokens.candidates(token, keys, trust))

    def _issuer_keys(self) -> "FetchedKeys":
        from tollhouse.upstream import issuer_keys  # noqa: PLC0415  as in `_believed`

        url = self._document["jwks_uri"]
        if self._keys is None or self._keys_url != url:
            options = issuer_keys.FetchOptions(
                timeout_s=self._reach.timeout_s,
                max_bytes=self._reach.max_bytes,
                min_refetch_s=self._reach.min_refetch_s,
            )
            self._keys, self._keys_url = issuer_keys.FetchedKeys(url, options, self._reach.tls), url
        return self._keys

    async def _with_userinfo(
        self, claims: Mapping[str, Any], access_token: Any, document: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Some issuers keep e-mail and groups out of the ID token. What it says itself counts before."""
        rules, endpoint = self.options.rules, document.get("userinfo_endpoint")
        wanted = {rules.email_claim, *((rules.groups_claim,) if rules.teams or rules.roles or rules.plans else ())}
        if wanted <= claims.keys() or endpoint is None or not isinstance(access_token, str):
            return claims
        headers = {"authorization": f"Bearer {access_token}"}
        told = await ask(self._reach, check_url(endpoint, self.options.issuer), headers=headers)
        if not isinstance(told, dict) or told.get("sub") != claims.get("sub"):
            raise IssuerError("userinfo is of somebody else (sub)")
        addresses = {str(words[rules.email_claim]).lower() for words in (claims, told) if rules.email_claim in words}
        if len(addresses) > 1:
            told.pop(rules.verified_claim, None)  # it is of the other address
        return {**told, **claims}


class GitHub:
    """OAuth 2.0 without an ID token: who it is, GitHub's API says. An address counts where GitHub has verified it."""

    def __init__(
        self,
        options: IssuerOptions,
        reach: Reach,
        web: str = "https://github.com",
        api: str = "https://api.github.com",
    ) -> None:
        self.options = options
        self._reach = reach
        self._web = web
        self._api = api

    async def way(self, trip: Trip, redirect_uri: str) -> str:
        return _authorization(self.options, f"{self._web}/login/oauth/authorize", trip, redirect_uri)

    async def claims(self, trip: Trip, query: Mapping[str, str], redirect_uri: str) -> Mapping[str, Any]:
        form = {
            "client_id": self.options.client_id,
            "client_secret": self.options.client_secret,
            "code": query.get("code", ""),
            "redirect_uri": redirect_uri,
            "code_verifier": trip.verifier,
        }
        tokens = await ask(self._reach, f"{self._web}/login/oauth/access_token", form=form)
        token = tokens.get("access_token") if isinstance(tokens, dict) else None
        if not isinstance(token, str) or not token:
            raise IssuerError("GitHub gave no access token")  # an error is a 200 there
        user = await self._api_says("/user", token)
        if not isinstance(user, dict) or not isinstance(user.get("id"), int) or isinstance(user.get("id"), bool):
            raise IssuerError("GitHub does not say who it is")
        found: dict[str, Any] = {"sub": str(user["id"]), "name": user.get("name") or user.get("login")}
        found["preferred_username"] = user.get("login")
        if "user:email" in self.options.scopes:
            found |= _main_address(await self._api_says("/user/emails", token))
        if "read:org" in self.options.scopes:
            rows = await self._api_says("/user/orgs?per_page=100", token)
            found["groups"] = [row["login"] for row in rows if isinstance(row, dict) and "login" in row]
        return found

    async def _api_says(self, path: str, token: str) -> Any:
        headers = {
            "authorization": f"Bearer {token}",
            "accept": "application/vnd.github+json",
            "user-agent": "tollhouse",
        }
        return await ask(self._reach, self._api + path, headers=headers)


def _main_address(rows: Any) -> dict[str, Any]:
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("primary") is True:
            return {"email": row.get("email"), "email_verified": row.get("verified") is True}
    return {}
