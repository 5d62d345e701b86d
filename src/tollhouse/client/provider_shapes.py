"""What the management API answers about providers."""

from datetime import datetime

import msgspec


class ProviderCredential(msgspec.Struct, frozen=True):
    """How a provider's own credential is read, and read again. `failure`: why it could not be, the last time."""

    source: str
    kind: str
    failure: str
    older_serves: bool
    read_at: datetime | None = None
    changed_at: datetime | None = None
    expires_at: datetime | None = None
    next_read_at: datetime | None = None
    overlap_until: datetime | None = None
    failing_since: datetime | None = None
    refused_status: int | None = None


class Provider(msgspec.Struct, frozen=True):
    name: str
    kind: str
    base_url: str
    api_key: str
    models: tuple[str, ...]
    listed_models: tuple[str, ...]
    source: str
    owned_by: str = ""
    credential: ProviderCredential | None = None


class Providers(msgspec.Struct, frozen=True):
    items: tuple[Provider, ...]
