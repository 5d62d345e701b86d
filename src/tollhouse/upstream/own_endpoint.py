"""Providers at endpoints of users' own: the same dialects and paths at another address, reached through the guard."""

import ssl
from collections.abc import Callable

import msgspec

from tollhouse.rules.base_urls import BaseUrl, read_base_url
from tollhouse.upstream.guard import AddressGuard
from tollhouse.upstream.origin import Origin, Proxy
from tollhouse.upstream.providers import KINDS, Address, Provider, lanes_of


class OwnEndpoints(msgspec.Struct, frozen=True):
    """How they are reached. `max_connections` is for each of them."""

    guard: AddressGuard
    tls: ssl.SSLContext
    proxy_for: Callable[[str, str], Proxy | None]
    max_connections: int = 32

    def of(self, provider: Provider, base_url: str) -> Provider:
        """The provider as it is at this base URL, without a credential. Raises BaseUrlError, and SettingsError for a
        proxy of the environment that cannot be used.
        """
        return self._at(provider, read_base_url(base_url))

    def _at(self, provider: Provider, url: BaseUrl) -> Provider:
        kind = KINDS[provider.kind]
        origin = Origin(
            url.host,
            url.port,
            self.tls,
            self.proxy_for("https", url.host),
            max_connections=self.max_connections,
            guard=self.guard,
        )
        lanes = lanes_of(kind, Address("https", url.host, url.port, url.path), origin, "")
        return msgspec.structs.replace(provider, origin=origin, lanes=lanes, credential_hint="")
