"""A provider as its operator writes it down; what is made of it stands in `upstream.providers`."""

import msgspec


class ProviderRow(msgspec.Struct, frozen=True):
    """Where a provider is and what it serves.

    api_key               `env:NAME` or `file:/path`, never the key itself; empty for none
    models                patterns of the models it serves, such as `claude-*`
    list_models           names to show in `/v1/models`; empty: names among the patterns, and known models they admit
    price_provider        id in the price data; None: the kind's own
    cancel_stops_billing  None: as with the kind's vendor
    place                 its place in its file: of providers that serve one model, the first does
    """

    name: str
    kind: str
    models: tuple[str, ...]
    base_url: str = ""
    api_key: str = ""
    list_models: tuple[str, ...] = ()
    price_provider: str | None = None
    cancel_stops_billing: bool | None = None
    owned_by: str = ""
    created_at_ns: int = 0
    place: int = 0
