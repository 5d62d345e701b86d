"""How a provider's credential is stored: looked at, bound to its provider's address, sealed.

Write-only: once stored, nobody is told the secret again. What is told is its kind, its last four characters and a
fingerprint, a keyed hash by which the same secret is known again.
"""

import hmac
import ipaddress
from typing import Annotated

import msgspec
from pydantic import Field, SecretStr
from sqlalchemy import Connection

from tollhouse.controlplane.deps import ControlDeps
from tollhouse.controlplane.problems import Problem, invalid
from tollhouse.rules.addresses import address_problem
from tollhouse.rules.base_urls import BaseUrl, BaseUrlError, read_base_url
from tollhouse.rules.credential_kinds import classify, row_of, upstream_problem
from tollhouse.storage import credentials as stored
from tollhouse.terms.credentials import MANAGED_PREFIX, OWN_PREFIX, Credential
from tollhouse.terms.errors import VaultError
from tollhouse.terms.names import DEFAULT_ORG
from tollhouse.upstream.providers import unusable
from tollhouse.vault import Binding, version_of

VENDORS = {"https://api.anthropic.com:443": "Anthropic", "https://api.openai.com:443": "OpenAI"}
"""Addresses that take no other vendor's keys."""
HINT_CHARS = 4
MIN_HINTED_CHARS = 12
"""Of a shorter secret the last four characters would tell too much."""
MAX_SECRET_CHARS = 32_768
FINGERPRINT_BYTES = 16
_ID_BYTES = 10

SecretText = Annotated[
    SecretStr,
    Field(
        max_length=MAX_SECRET_CHARS,
        description="The provider's API key; never told again",
        json_schema_extra={"writeOnly": True},
    ),
]


class Checked(msgspec.Struct, frozen=True):
    """A secret that may be stored, and what it is for."""

    provider: str
    host: str
    kind: str
    secret: str
    base_url: str = ""
    """Of the user's own endpoint."""

    def __repr__(self) -> str:
        return f"Checked({self.provider!r}, {self.kind!r})"


def checked(deps: ControlDeps, provider: str, shown: SecretStr, base_url: str | None, host: str) -> Checked:
    """What somebody wants stored for a provider at this address, or for their own endpoint. Raises Problem: 400, 403 or
    409.
    """
    if not deps.vault.ready:
        raise no_master_key()
    own = None if base_url is None else _own_endpoint(deps, base_url)
    secret = shown.get_secret_value().strip()
    most = deps.credentials.max_secret_bytes
    if len(secret.encode("utf-8", "surrogatepass")) > most:
        raise invalid("secret", f"has more than {most:,} bytes (vault.max_secret_bytes)")
    problem = upstream_problem(secret)
    if problem is not None:
        raise Problem(400, "not_an_api_key", f"secret: {problem}", field="secret")
    problem = unusable(secret)
    if problem is not None:
        raise invalid("secret", f"{problem}; paste the API key alone")
    problem = _astray(secret, host if own is None else own.origin)
    if problem is not None:
        raise Problem(400, "another_providers_key", f"secret: {problem}", field="secret")
    kind = classify(secret).value
    return (
        Checked(provider, host, kind, secret) if own is None else Checked(provider, own.origin, kind, secret, own.text)
    )


def _astray(secret: str, host: str) -> str | None:
    """Why this would tell a provider another one's key; None where its form does not say whose it is."""
    row, whose = row_of(secret), VENDORS.get(host)
    if row is None or row.guess or whose is None or whose in row.provider:
        return None
    return f"This is {row.what}, but {host} is {whose}'s, who would only learn it. Store it for the provider it is of."


def no_master_key() -> Problem:
    return Problem(
        409,
        "no_master_key",
        "This gateway has no master key, and nothing is ever stored in clear: its operator runs `tollhouse vault "
        "init` once.",
    )


def _own_endpoint(deps: ControlDeps, text: str) -> BaseUrl:
    """Raises Problem. What its name leads to is looked at when it is called."""
    if not deps.credentials.own_base_urls:
        raise Problem(403, "own_base_url", "base_url: this gateway takes no endpoints of users' own.", field="base_url")
    try:
        url = read_base_url(text)
    except BaseUrlError as error:
        raise Problem(400, "bad_base_url", f"base_url: {error}", field="base_url") from None
    try:
        problem = address_problem(ipaddress.ip_address(url.host), deps.credentials.addresses)
    except ValueError:
        return url  # a name
    if problem is not None:
        raise Problem(
            400,
            "bad_base_url",
            f"base_url: {url.host} is an address {problem}; an endpoint of your own must be public, or in "
            "vault.allowed_networks.",
            field="base_url",
        )
    return url


def fresh(deps: ControlDeps, what: Checked, *, user_id: str, name: str, created_by: str) -> Credential:
    """A new one, not yet sealed."""
    prefix = OWN_PREFIX if user_id else MANAGED_PREFIX
    credential = Credential(
        f"{prefix}{deps.random_bytes(_ID_BYTES).hex()}",
        what.provider,
        what.host,
        user_id=user_id,
        org_id=DEFAULT_ORG,
        name=name,
        created_by=created_by,
    )
    return told(deps, credential, what)


def told(deps: ControlDeps, credential: Credential, what: Checked) -> Credential:
    """With what is told of this secret; it was stored now, and nobody refused it yet."""
    text = what.secret
    return msgspec.structs.replace(
        credential,
        host=what.host,
        base_url=what.base_url,
        kind=what.kind,
        hint=text[-HINT_CHARS:] if len(text) >= MIN_HINTED_CHARS else "",
        fingerprint=fingerprint(deps.server_secret, text),
        created_at_ns=deps.now_ns(),
        refused_at_ns=None,
    )


def fingerprint(server_secret: bytes, secret: str) -> str:
    """By which the same secret is known again; tells nothing to who has not the server's secret."""
    return hmac.digest(server_secret, b"credential\0" + secret.encode(), "sha256")[:FINGERPRINT_BYTES].hex()


def put_new(connection: Connection, deps: ControlDeps, credential: Credential, secret: str) -> Credential:
    """Seal and store it. In the transaction, so that whoever counts envelopes there counts this one. Raises Problem."""
    credential = _sealed(deps, credential, secret)
    stored.create_credential(connection, credential, sealed_under=version_of(credential.sealed))
    return credential


def put_again(connection: Connection, deps: ControlDeps, credential: Credential, secret: str) -> Credential:
    """As `put_new`, in place of what was stored under its id."""
    credential = _sealed(deps, credential, secret)
    stored.update_credential(connection, credential)
    stored.reseal(connection, credential.credential_id, credential.sealed, sealed_under=version_of(credential.sealed))
    return credential


def _sealed(deps: ControlDeps, credential: Credential, secret: str) -> Credential:
    try:
        sealed = deps.vault.seal(secret.encode(), binding_of(credential))
    except VaultError as error:
        raise no_master_key() from error
    return msgspec.structs.replace(credential, sealed=sealed)


def binding_of(credential: Credential) -> Binding:
    """What its envelope is bound to."""
    return Binding(credential.org_id, credential.credential_id, credential.provider, credential.host)
