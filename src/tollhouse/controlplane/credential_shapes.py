"""What is told of a stored credential: never its secret."""

from typing import Annotated

import msgspec
from pydantic import BaseModel, Field

from tollhouse.controlplane.times import iso_ns
from tollhouse.terms.credentials import Credential

ProviderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


class CredentialOut(BaseModel):
    credential_id: str
    provider: str
    user_id: str | None
    """Whose own it is; null: the operator's."""
    name: str
    host: str
    """Scheme, host and port it is bound to: it is sent nowhere else."""
    base_url: str | None
    """Of the user's own endpoint; null: the provider's."""
    kind: str
    """What the secret is, by its form; `unknown` where that does not tell."""
    hint: str
    """The last four characters, of secrets that are long enough."""
    fingerprint: str
    """Equal for equal secrets of this gateway; tells nothing else."""
    stored_by: str
    """User id; empty: the operator."""
    stored_at: str | None
    last_used_at: str | None
    """To the minute."""
    refused_at: str | None
    """When its provider last refused it; null since it last worked."""


class CredentialDetail(CredentialOut):
    assigned_to: list[str]
    """The users whose calls are sent with it, the first 500."""


class TestOut(BaseModel):
    """What the provider said. `ok`: it takes the credential."""

    ok: bool
    status: int
    """Of the provider's answer; 0: it could not be asked."""
    message: str
    """The provider's own words, cut, and without the secret."""
    host: str
    duration_ms: float


def credential_out(credential: Credential) -> CredentialOut:
    return CredentialOut(
        credential_id=credential.credential_id,
        provider=credential.provider,
        user_id=credential.user_id or None,
        name=credential.name,
        host=credential.host,
        base_url=credential.base_url or None,
        kind=credential.kind,
        hint=credential.hint,
        fingerprint=credential.fingerprint,
        stored_by=credential.created_by,
        stored_at=iso_ns(credential.created_at_ns),
        last_used_at=iso_ns(credential.last_used_at_ns),
        refused_at=iso_ns(credential.refused_at_ns),
    )


def credential_detail(credential: Credential, users: tuple[str, ...]) -> CredentialDetail:
    return CredentialDetail(**credential_out(credential).model_dump(), assigned_to=list(users))


def untold(credential: Credential) -> Credential:
    """What its version is made of: not the envelope, and not what calls change."""
    return msgspec.structs.replace(credential, sealed=b"", last_used_at_ns=None, refused_at_ns=None)
