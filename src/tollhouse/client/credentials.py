"""Stored credentials of providers. A secret is sent once and told by nobody again."""

from datetime import datetime

import msgspec

from tollhouse.client.asks import UNSET, Ask, PageAsk, Unset, ask, page, segment


class Credential(msgspec.Struct, frozen=True):
    """What is told of a stored credential; `user_id` None: the operator's. It is sent to `host` and nowhere else."""

    credential_id: str
    provider: str
    name: str
    host: str
    kind: str
    hint: str
    fingerprint: str
    stored_by: str
    user_id: str | None = None
    base_url: str | None = None
    stored_at: datetime | None = None
    last_used_at: datetime | None = None
    refused_at: datetime | None = None


class CredentialDetail(Credential, frozen=True):
    assigned_to: tuple[str, ...] = ()


class CredentialTest(msgspec.Struct, frozen=True):
    """What a provider said of a credential; `status` 0: it could not be asked."""

    ok: bool
    status: int
    message: str
    host: str
    duration_ms: float


class Assignment(msgspec.Struct, frozen=True):
    user_id: str
    provider: str
    credential_id: str


class MyCredentials(msgspec.Struct, frozen=True):
    """`assigned` and `providers` are names of providers: where the operator gave one, and where one can be stored."""

    items: tuple[Credential, ...]
    assigned: tuple[str, ...]
    providers: tuple[str, ...]
    can_store: bool


def create(provider: str, secret: str, *, user_id: str | Unset = UNSET, name: str | Unset = UNSET) -> Ask[Credential]:
    """A user's own (Conflict where they have one for this provider), or, without `user_id`, one of the operator's."""
    body = {"provider": provider, "secret": secret, "user_id": user_id, "name": name}
    return ask("POST", "/credentials", Credential, body)


def get(credential_id: str) -> Ask[CredentialDetail]:
    return ask("GET", f"/credentials/{segment(credential_id)}", CredentialDetail)


def find(*, user: str | None = None, provider: str | None = None, managed: bool | None = None) -> PageAsk[Credential]:
    return page("/credentials", Credential, user=user, provider=provider, managed=managed)


def rename(credential_id: str, name: str, *, if_match: str | None = None) -> Ask[CredentialDetail]:
    path = f"/credentials/{segment(credential_id)}"
    return ask("PATCH", path, CredentialDetail, {"name": name}, if_match=if_match)


def replace(credential_id: str, secret: str) -> Ask[CredentialDetail]:
    """Put another secret in its place: calls from now on are sent with it."""
    return ask("PUT", f"/credentials/{segment(credential_id)}/secret", CredentialDetail, {"secret": secret})


def remove(credential_id: str) -> Ask[None]:
    return ask("DELETE", f"/credentials/{segment(credential_id)}", type(None))


def test(credential_id: str) -> Ask[CredentialTest]:
    """Ask its provider whether it takes it: one call that costs nothing."""
    return ask("POST", f"/credentials/{segment(credential_id)}/test", CredentialTest)


def assign(user_id: str, provider: str, credential_id: str) -> Ask[Assignment]:
    """Send the user's calls to the provider with this credential of the operator's."""
    return ask("PUT", _assignment(user_id, provider), Assignment, {"credential_id": credential_id})


def unassign(user_id: str, provider: str) -> Ask[None]:
    return ask("DELETE", _assignment(user_id, provider), type(None))


def mine() -> Ask[MyCredentials]:
    """What the caller stored; by a virtual key, too."""
    return ask("GET", "/me/credentials", MyCredentials)


def _assignment(user_id: str, provider: str) -> str:
    return f"/users/{segment(user_id)}/credentials/{segment(provider)}"
