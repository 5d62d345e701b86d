"""Providers are data: a row says where it is, which dialects it speaks, how a credential is shown, and how it bills.

A new provider that speaks a known dialect is one row of `KINDS` (or only lines in the operator's settings).
"""

import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from tollhouse.rules.base_urls import BaseUrlError, normal_host
from tollhouse.rules.consumer_sites import site_problem
from tollhouse.terms.errors import SettingsError
from tollhouse.terms.names import DialectName, Endpoint
from tollhouse.upstream.origin import Origin, Proxy

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Kind(msgspec.Struct, frozen=True):
    """What all providers of one kind share."""

    base_url: str
    paths: dict[Endpoint, str]
    auth_header: bytes
    auth_prefix: bytes = b""
    default_path: str = ""
    """Appended to a base URL that has no path, as the vendor's own SDK reads it."""
    strip_path: str = ""
    """Cut from the end of a base URL: the commonest mistake with this vendor's SDKs."""
    cancel_stops_billing: bool = False
    """Whether the provider stops billing when a stream is cut (vendors' documents, November 2026)."""
    price_provider: str = ""
    """The id of this provider in genai-prices."""
    models: str = ""
    """Where it lists its models: the cheapest call that needs a credential."""
    version: bytes = b""
    """A header that every request needs, with its CRLF."""


KINDS: dict[str, Kind] = {
    "anthropic": Kind(
        base_url="https://api.anthropic.com",
        paths={
            Endpoint.MESSAGES: "/v1/messages",
            Endpoint.COUNT_TOKENS: "/v1/messages/count_tokens",
        },
        auth_header=b"x-api-key",
        strip_path="/v1",
        cancel_stops_billing=True,
        price_provider="anthropic",
        models="/v1/models?limit=1",
        version=b"anthropic-version: 2023-06-01\r\n",
    ),
    "openai": Kind(
        base_url="https://api.openai.com/v1",
        paths={
            Endpoint.CHAT_COMPLETIONS: "/chat/completions",
            Endpoint.RESPONSES: "/responses",
            Endpoint.EMBEDDINGS: "/embeddings",
        },
        auth_header=b"authorization",
        auth_prefix=b"Bearer ",
        default_path="/v1",
        cancel_stops_billing=True,
        price_provider="openai",
        models="/models",
    ),
}
"""One kind a vendor. The embedded model has the lanes of all of them (see `Provider.lanes`)."""


class Lane(msgspec.Struct, frozen=True):
    """One endpoint of one provider, with the head of a request as bytes up to the forwarded headers."""

    path: bytes
    fixed_headers: bytes
    """Host, credential, `accept-encoding: identity`, each with its CRLF."""
    unavailable: str = ""
    """Why nothing can be sent with the provider's own credential just now, for people; empty while it is there."""


class Provider(msgspec.Struct, frozen=True, eq=False):
    """A provider ready to be called."""

    name: str
    kind: str
    origin: Origin
    lanes: dict[Endpoint, Lane]
    models: tuple[str, ...]
    """Patterns of the models it serves (see rules.access)."""
    advertised: tuple[str, ...]
    """Models to list by name in /v1/models."""
    cancel_stops_billing: bool
    price_provider: str
    credential_hint: str
    """Last four characters of the credential, for people; empty without one."""

    @property
    def dialects(self) -> tuple[DialectName, ...]:
        found = (DIALECT_OF[endpoint] for endpoint in self.lanes)
        return tuple(dict.fromkeys(found))


DIALECT_OF = {
    Endpoint.MESSAGES: DialectName.ANTHROPIC,
    Endpoint.COUNT_TOKENS: DialectName.ANTHROPIC,
    Endpoint.CHAT_COMPLETIONS: DialectName.OPENAI_CHAT,
    Endpoint.RESPONSES: DialectName.OPENAI_RESPONSES,
    Endpoint.EMBEDDINGS: DialectName.OPENAI_EMBEDDINGS,
}


class Address(msgspec.Struct, frozen=True):
    """A base URL taken apart."""

    scheme: str
    host: str
    port: int
    path: str


def parse_base_url(url: str, *, where: str, allow_plain_http: bool) -> Address:
    """Read a base URL. Raises SettingsError naming `where` it stands.

    Plain HTTP is for loopback only, unless allowed: a provider key must not cross a network in clear.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"{where}: the base URL has no valid host and port") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{where}: {url!r} is not a base URL; write for example https://api.anthropic.com")
    if "@" in parts.netloc:
        raise SettingsError(f"{where}: no user or password belongs into a base URL; use api_key")
    if parts.query or parts.fragment:  # not repeated: a key may stand there
        raise SettingsError(f"{where}: a base URL has no ? or #; a key goes into api_key")
    if not parts.path.isascii() or any(character <= " " or character == "\x7f" for character in parts.path):
        raise SettingsError(f"{where}: the path of a base URL is ASCII without white space: {url!r}")
    try:
        host = normal_host(parts.hostname, local_names=True)
    except BaseUrlError as error:
        raise SettingsError(f"{where}: {error}") from error
    if parts.scheme == "http" and host not in LOOPBACK and not allow_plain_http:
        raise SettingsError(
            f"{where}: {url} would send the provider key in clear text; use https:// or set "
            "upstream.allow_plain_http: true"
        )
    problem = site_problem(host)
    if problem is not None:
        raise SettingsError(f"{where}: {problem}")
    default_port = 443 if parts.scheme == "https" else 80
    return Address(parts.scheme, host, port or default_port, parts.path.rstrip("/"))


def lanes_of(
    kind: Kind, address: Address, origin: Origin, credential: str, unavailable: str = ""
) -> dict[Endpoint, Lane]:
    """Every endpoint of a kind under an address, with its constant headers."""
    authority = origin.authority
    path = address.path.removesuffix(kind.strip_path) if kind.strip_path else address.path
    path = path or kind.default_path
    fixed = fixed_headers(kind, origin, credential)
    if origin.proxy is not None and origin.tls is None:  # a plain proxy takes the absolute form
        path = f"http://{authority}{path}"
    return {
        endpoint: Lane((path + suffix).encode("ascii"), fixed, unavailable) for endpoint, suffix in kind.paths.items()
    }


def fixed_headers(kind: Kind, origin: Origin, credential: str) -> bytes:
    """Of every request to this origin: host, credential, `accept-encoding`, and what a plain proxy wants to see."""
    fixed = f"host: {origin.authority}\r\naccept-encoding: identity\r\n".encode("ascii")
    if credential:
        fixed += kind.auth_header + b": " + kind.auth_prefix + credential.encode("ascii") + b"\r\n"
    if origin.proxy is not None and origin.tls is None and origin.proxy.authorization:
        fixed += b"proxy-authorization: " + origin.proxy.authorization + b"\r\n"
    return fixed


def with_credential(provider: Provider, credential: str) -> Provider:
    """The same provider, called with another credential. Raises SettingsError for one that cannot be sent there."""
    kind = KINDS.get(provider.kind)
    if kind is None:
        raise SettingsError(f"the provider {provider.name} takes no credential")
    problem = unusable(credential)
    if problem is not None:
        raise SettingsError(f"the credential {problem}")
    fixed = fixed_headers(kind, provider.origin, credential)
    lanes = {endpoint: Lane(lane.path, fixed) for endpoint, lane in provider.lanes.items()}
    return msgspec.structs.replace(provider, lanes=lanes, credential_hint=credential[-4:])


class ProviderSpec(msgspec.Struct, frozen=True):
    """What the settings say of one provider; the credential already read."""

    name: str
    kind: str
    base_url: str
    credential: str
    models: tuple[str, ...]
    advertised: tuple[str, ...] = ()
    price_provider: str | None = None
    cancel_stops_billing: bool | None = None
    keep_alive_s: float | None = None
    max_connections: int | None = None
    unavailable: str = ""
    """Why there is no credential yet although there should be one, for people."""


def unusable(credential: str) -> str | None:
    """Why this cannot stand in a header; None when it can."""
    if not credential.isascii() or any(c <= " " or c == "\x7f" for c in credential):
        return "contains white space or characters that cannot stand in a header"
    return None


def build_provider(
    spec: ProviderSpec,
    *,
    allow_plain_http: bool,
    tls: ssl.SSLContext,
    proxy_for: Callable[[str, str], Proxy | None],
    origin: Origin | None = None,
) -> Provider:
    """A provider from its settings. `origin`: of the same one before its credential changed; its connections go on.

    Raises SettingsError for an unknown kind, a bad URL or an unusable credential.
    """
    where = f"providers.{spec.name}"
    kinds = [KINDS[spec.kind]] if spec.kind in KINDS else list(KINDS.values()) if spec.kind == "local" else []
    if not kinds:
        raise SettingsError(f"{where}.kind: {spec.kind!r} is not one of {', '.join([*KINDS, 'local'])}")
    problem = unusable(spec.credential)
    if problem is not None:
        raise SettingsError(f"{where}.api_key: {problem}")
    address = parse_base_url(
        spec.base_url or kinds[0].base_url, where=f"{where}.base_url", allow_plain_http=allow_plain_http
    )
    origin = origin or Origin(
        address.host,
        address.port,
        tls if address.scheme == "https" else None,
        proxy_for(address.scheme, address.host),
        spec.keep_alive_s,
        spec.max_connections,
    )
    lanes: dict[Endpoint, Lane] = {}
    for kind in kinds:
        lanes |= lanes_of(kind, address, origin, spec.credential, spec.unavailable)
    cancel = kinds[0].cancel_stops_billing if spec.cancel_stops_billing is None else spec.cancel_stops_billing
    return Provider(
        name=spec.name,
        kind=spec.kind,
        origin=origin,
        lanes=lanes,
        models=spec.models,
        advertised=spec.advertised,
        cancel_stops_billing=cancel,
        price_provider=kinds[0].price_provider if spec.price_provider is None else spec.price_provider,
        credential_hint=spec.credential[-4:] if len(spec.credential) >= 12 else "",
    )


def models_request(provider: Provider, credential: str) -> bytes:
    """The request that lists a provider's models with this credential, which stands in for the provider's own."""
    kind, origin = KINDS[provider.kind], provider.origin
    endpoint, suffix = next(iter(kind.paths.items()))
    path = provider.lanes[endpoint].path.removesuffix(suffix.encode("ascii"))
    head = b"GET %b%b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b%b: %b%b\r\n" % (
        path,
        kind.models.encode("ascii"),
        origin.authority.encode("ascii"),
        kind.version,
        kind.auth_header,
        kind.auth_prefix,
        credential.encode("ascii"),
    )
    if origin.proxy is not None and origin.tls is None and origin.proxy.authorization:
        head += b"proxy-authorization: " + origin.proxy.authorization + b"\r\n"
    return head + b"\r\n"
