"""By what people show who they are on the data plane: put together from the settings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tollhouse.dataplane.identify import Scheme
from tollhouse.dataplane.sessions import SessionScheme

if TYPE_CHECKING:
    from tollhouse.app.house import House


def schemes(house: "House") -> Sequence[Scheme]:
    """In the order in which they are asked."""
    found: list[Scheme] = [house.virtual_keys]
    if house.sessions is not None:
        listen = house.settings.listen
        scheme = "http" if listen.tls_cert is None else "https"
        found.append(SessionScheme(house.sessions, house.snapshot, scheme=scheme, public_url=listen.public_url))
    return tuple(found)
