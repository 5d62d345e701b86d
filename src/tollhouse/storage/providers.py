"""Providers that a file declares: plain functions of a Connection, as in `directory`. A credential is never in here,
only where it is read from.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from tollhouse.storage.rows import decode_globs, encode
from tollhouse.storage.tables import providers
from tollhouse.terms.providers import ProviderRow


def create_provider(connection: Connection, provider: ProviderRow) -> None:
    connection.execute(insert(providers).values(_provider_row(provider)))


def all_providers(connection: Connection) -> tuple[ProviderRow, ...]:
    """All there are: a handful, file by file, each in its own order."""
    query = select(providers).order_by(providers.c.owned_by, providers.c.place, providers.c.name)
    return tuple(map(_provider, connection.execute(query)))


def update_provider(connection: Connection, provider: ProviderRow) -> bool:
    """Write all of a provider's fields; False when there is none of this name."""
    query = update(providers).where(providers.c.name == provider.name).values(_provider_row(provider))
    return connection.execute(query).rowcount == 1


def delete_provider(connection: Connection, name: str) -> bool:
    """Remove a provider; False when there is none of this name."""
    return connection.execute(delete(providers).where(providers.c.name == name)).rowcount == 1


def _provider_row(provider: ProviderRow) -> dict[str, Any]:
    flag = provider.cancel_stops_billing
    return {
        **msgspec.structs.asdict(provider),
        "models": encode(provider.models),
        "list_models": encode(provider.list_models),
        "cancel_stops_billing": None if flag is None else int(flag),
    }


def _provider(row: Row[Any]) -> ProviderRow:
    flag = row.cancel_stops_billing
    return ProviderRow(
        row.name,
        row.kind,
        models=decode_globs(row.models),
        base_url=row.base_url,
        api_key=row.api_key,
        list_models=decode_globs(row.list_models),
        price_provider=row.price_provider,
        cancel_stops_billing=None if flag is None else bool(flag),
        owned_by=row.owned_by,
        created_at_ns=row.created_at_ns,
        place=row.place,
    )
