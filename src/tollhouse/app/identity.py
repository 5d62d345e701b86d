"""By what people show who they are on the data plane: put together from the settings."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tollhouse.app import providers as setup
from tollhouse.dataplane.identify import Scheme
from tollhouse.dataplane.sessions import SessionScheme
from tollhouse.rules.claims import Claimed
from tollhouse.settings import read_secret
from tollhouse.settings.jwt import JwtIssuer
from tollhouse.storage.acting import acting
from tollhouse.storage.provision import provision
from tollhouse.terms.audit import Author
from tollhouse.terms.errors import SettingsError

if TYPE_CHECKING:
    from tollhouse.app.house import House


def schemes(house: "House") -> Sequence[Scheme]:
    """In the order in which they are asked."""
    found: list[Scheme] = [house.virtual_keys]
    if house.settings.jwt:
        found.append(_token_scheme(house))
    if house.sessions is not None:
        listen = house.settings.listen
        scheme = "http" if listen.tls_cert is None else "https"
        found.append(SessionScheme(house.sessions, house.snapshot, scheme=scheme, public_url=listen.public_url))
    return tuple(found)


def _token_scheme(house: "House") -> Scheme:
    """Raises SettingsError for a key that cannot be read."""
    # What checks signatures and fetches keys takes 25 MB, and only who has an issuer needs it.
    from tollhouse.dataplane.tokens import Issuer, IssuerOptions, TokenScheme  # noqa: PLC0415  as said
    from tollhouse.rules.tokens import Trust  # noqa: PLC0415  as said

    issuers = [
        Issuer(
            row.name,
            Trust(
                issuer=row.issuer,
                algorithms=frozenset(row.accepted),
                audiences=frozenset(row.audience),
                parties=frozenset(row.azp),
                leeway_s=row.leeway_s,
            ),
            row.rules(f"jwt:{row.name}"),
            _keys(house, row),
            IssuerOptions(**{name: getattr(row, name) for name in IssuerOptions.__struct_fields__}),
        )
        for row in house.settings.jwt
    ]

    async def make(claimed: Claimed) -> None:
        with acting(Author("issuer", claimed.source, "token")):
            user, changed = await house.store.database.run(
                lambda connection: provision(connection, claimed, time.time_ns())
            )
        if changed or house.snapshot.of_user(user.user_id) is None:
            await house.changed(user.user_id)

    return TokenScheme(issuers, house.snapshot, make, time.time_ns)


def _keys(house: "House", row: JwtIssuer) -> Any:
    from tollhouse.rules.tokens import read_public_key, shared_secret  # noqa: PLC0415  as above
    from tollhouse.upstream.issuer_keys import FetchedKeys, FetchOptions, WrittenKeys  # noqa: PLC0415  as above

    where = f"jwt.{row.name}"
    try:
        if row.public_key:
            return WrittenKeys(read_public_key(read_secret(row.public_key, where=f"{where}.public_key")))
        if row.secret:
            return WrittenKeys(shared_secret(read_secret(row.secret, where=f"{where}.secret"), row.accepted))
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error
    options = FetchOptions(
        ttl_s=row.jwks_ttl_s,
        keep_s=row.jwks_keep_s,
        min_refetch_s=row.jwks_min_refetch_s,
        timeout_s=row.jwks_timeout_s,
        max_bytes=row.jwks_max_bytes,
    )
    keys = FetchedKeys(row.jwks_url, options, setup.tls_context(house.settings))
    keys.fetch()
    return keys
