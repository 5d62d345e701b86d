"""Where connections go: an origin, and the proxy in between if there is one."""

import base64
import ssl
from urllib.parse import SplitResult

import msgspec

from tollhouse.upstream.guard import AddressGuard


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy: plain calls go to it in absolute form, TLS through CONNECT."""

    host: str
    port: int
    authorization: bytes = b""

    @classmethod
    def from_url(cls, url: SplitResult) -> "Proxy":
        credentials = f"{url.username or ''}:{url.password or ''}" if url.username else ""
        authorization = b"Basic " + base64.b64encode(credentials.encode()) if credentials else b""
        return cls(url.hostname or "", url.port or 80, authorization)


class Origin(msgspec.Struct, frozen=True, eq=False):
    """Where connections go: host, port, TLS or not, through a proxy or not. Compared by identity; one per provider."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None
    keep_alive_s: float | None = None
    """Shorter than the pool's where the server is known to close idle connections early."""
    max_connections: int | None = None
    guard: AddressGuard | None = None
    """Where users say: connections go only where this lets them. Such an origin is reached by TLS."""

    @property
    def address(self) -> str:
        """Scheme, host and port, always all three: what a stored credential is bound to."""
        return address_of("https" if self.tls else "http", self.host, self.port)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def address_of(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
