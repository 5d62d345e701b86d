"""Providers: those of the settings, those that files declare, and the embedded model. No credential is ever told, only
where it is read from.
"""

from fastapi import APIRouter
from pydantic import BaseModel

from tollhouse.controlplane.deps import Deps

router = APIRouter(prefix="/api/v1/providers", tags=["providers"])


class ProviderOut(BaseModel):
    name: str
    kind: str
    base_url: str
    api_key: str
    """Where its credential is read from: `env:NAME` or `file:/path`; empty for none."""
    credential_hint: str = ""
    """The credential's last four characters, where it is long enough."""
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
    return ProvidersOut(items=[ProviderOut.model_validate(row) for row in deps.providers.rows()])
