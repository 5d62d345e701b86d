"""Providers: those of the settings, those that files declare, and the embedded model. No credential is ever told, only
where it is read from, and how that goes.
"""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from tollhouse.controlplane.deps import Deps
from tollhouse.controlplane.problems import Problem, not_found
from tollhouse.controlplane.times import iso_ns

router = APIRouter(prefix="/api/v1/providers", tags=["providers"])

SEE = "GET /api/v1/providers tells which there are."


class ProviderCredentialOut(BaseModel):
    """A provider's own credential, as it is read and read again."""

    source: str
    kind: str
    """What it is by its form: anthropic_api, openai_project, …; empty while there is none."""
    read_at: str | None
    """When it was last read well."""
    changed_at: str | None
    """When another one than before was read."""
    expires_at: str | None
    """When its lifetime ends; null for what has none. One that cannot be read again serves on beyond that."""
    next_read_at: str | None
    overlap_until: str | None
    """Until when the one before is kept, to go back to if the provider refuses this one."""
    failure: str
    """Why it could not be read the last time; empty when it could."""
    failing_since: str | None
    refused_status: int | None
    """By which the provider last refused the one in use."""
    older_serves: bool
    """The provider refused the newest one, so the one before it is in use."""


class ProviderOut(BaseModel):
    name: str
    kind: str
    base_url: str
    api_key: str
    """Where its credential is read from: `env:NAME`, `file:/path`, `cmd:HELPER …`, `vault:MOUNT/PATH#FIELD`,
    `stored:NAME`; empty for none.
    """
    credential_hint: str = ""
    """The credential's last four characters, where it is long enough."""
    credential: ProviderCredentialOut | None = None
    """How it is read; null where none is, and where no gateway runs."""
    models: list[str]
    listed_models: list[str]
    """What `/v1/models` shows of it."""
    source: str
    """settings (or a key in the server's environment) | file | embedded"""
    owned_by: str = ""
    """The file that declares it."""


class ProvidersOut(BaseModel):
    """In the order in which they are asked for a model."""

    items: list[ProviderOut]


@router.get("")
async def list_providers(deps: Deps) -> ProvidersOut:
    """The providers that are in use."""
    return ProvidersOut(items=[_provider_out(row) for row in deps.providers.rows()])


@router.post("/{name}/refresh")
async def refresh_credential(name: str, deps: Deps) -> ProviderCredentialOut:
    """Read the provider's credential now, as after a rotation that should not wait. When that fails, `failure` says
    why, and the one read before serves on.
    """
    if all(row["name"] != name for row in deps.providers.rows()):
        raise not_found("provider", name, SEE)
    facts = await deps.providers.refresh(name)
    if facts is None:
        raise Problem(409, "no_credential", f"The provider {name} has no credential that is read from anywhere.")
    await deps.record("read again", "provider credential", provider=name, failure=bool(facts.get("failure")))
    return _credential_out(facts)


def _provider_out(row: dict[str, Any]) -> ProviderOut:
    facts = row.get("credential")
    return ProviderOut.model_validate({**row, "credential": None if facts is None else _credential_out(facts)})


def _credential_out(facts: dict[str, Any]) -> ProviderCredentialOut:
    """Of the keyring's facts, whose instants are in nanoseconds."""
    told = {name.removesuffix("_ns"): iso_ns(value) for name, value in facts.items() if name.endswith("_ns")}
    return ProviderCredentialOut.model_validate({**facts, **told})
