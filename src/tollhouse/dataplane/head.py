"""The head of a data-plane request: what is refused whatever it asks, what it asks for, which of its headers travel on.

One pass over the headers sorts each by name: ours to read, ours to drop, or the provider's to get, byte for byte as the
client sent it.
"""

import re

import msgspec

from tollhouse.dataplane.snapshot import Proof
from tollhouse.terms.errors import TollhouseError
from tollhouse.terms.names import DialectName, Endpoint


class MalformedHead(TollhouseError):
    """The request cannot be trusted: answered with `status`, then the connection closes."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


NO_TRAILERS = "Trailers after a body are not accepted; send them as headers."

ASGI_MAX_BODY_BYTES = 1024 * 1024
"""Management requests are small."""


def check_asgi_body(size_bytes: int) -> None:
    """Raises MalformedHead (413): the management API never reads more."""
    if size_bytes > ASGI_MAX_BODY_BYTES:
        raise MalformedHead(413, "request_too_large", f"A management request has at most {ASGI_MAX_BODY_BYTES} bytes.")


class Route:
    """What a data-plane path means."""

    __slots__ = ("aside", "dialect", "endpoint", "endpoint_name", "methods")

    def __init__(self, endpoint: Endpoint, dialect: DialectName, *methods: bytes, name: str = "") -> None:
        self.endpoint = endpoint
        self.endpoint_name = name or endpoint.value
        """In the ledger."""
        self.aside = endpoint in (Endpoint.MODELS, Endpoint.CHAT)
        """It has a way of its own before that of every call, or instead."""
        self.dialect = dialect
        self.methods = methods


def _routes() -> dict[bytes, Route]:
    """Canonical paths and their aliases: clients disagree on whether a base URL ends in /v1."""
    anthropic, chat = DialectName.ANTHROPIC, DialectName.OPENAI_CHAT
    messages = Route(Endpoint.MESSAGES, anthropic, b"POST")
    count = Route(Endpoint.COUNT_TOKENS, anthropic, b"POST")
    completions = Route(Endpoint.CHAT_COMPLETIONS, chat, b"POST")
    responses = Route(Endpoint.RESPONSES, DialectName.OPENAI_RESPONSES, b"POST")
    embeddings = Route(Endpoint.EMBEDDINGS, DialectName.OPENAI_EMBEDDINGS, b"POST")
    models = Route(Endpoint.MODELS, chat, b"GET", b"HEAD")
    anthropic_models = Route(Endpoint.MODELS, anthropic, b"GET", b"HEAD")
    routes = {b"/api/chat": Route(Endpoint.CHAT, DialectName.PAGE, b"POST")}
    for root in (b"", b"/v1", b"/v1/v1", b"/anthropic", b"/anthropic/v1", b"/anthropic/v1/v1"):
        routes[root + b"/messages"] = messages
        routes[root + b"/messages/count_tokens"] = count
    for root in (b"", b"/v1", b"/v1/v1", b"/openai", b"/openai/v1", b"/openai/v1/v1"):
        routes[root + b"/chat/completions"] = completions
        routes[root + b"/responses"] = responses
        routes[root + b"/embeddings"] = embeddings
        routes[root + b"/models"] = models
    for root in (b"/anthropic", b"/anthropic/v1", b"/anthropic/v1/v1"):
        routes[root + b"/models"] = anthropic_models
    return routes


ROUTES = _routes()

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
"""RFC 9110 §7.6.1, and what clients send besides."""

NOT_FOR_PROVIDERS = frozenset(
    (
        b"accept-encoding",  # a compressed stream cannot be metered; `identity` is sent instead
        b"origin",
        b"referer",
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"openai-organization",  # would choose whose account of ours pays
        b"openai-project",
    )
)
NOT_FOR_PROVIDERS_PREFIXES = (b"x-forwarded-", b"x-openwebui-user-", b"x-tollhouse-", b"sec-", b"cf-")

END_USER_HEADER = b"x-openwebui-user-id"
"""Open WebUI's own user, where its operator has it tell (ENABLE_FORWARD_USER_INFO_HEADERS); not for providers."""
FORWARDED_FOR = b"x-forwarded-for"
"""Read of trusted proxies, to know from how many places a key is used."""
SESSION_HEADERS = (b"x-claude-code-session-id", b"x-session-id", b"session-id")
MAX_CLIENT_CHARS = 64
MAX_SESSION_CHARS = 128

_READ, _DROP = 1, 2
_FATE = dict.fromkeys(HOP_BY_HOP | NOT_FOR_PROVIDERS, _DROP) | dict.fromkeys(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"expect",
        b"x-api-key",
        b"authorization",
        b"content-encoding",
        b"cookie",
        b"origin",
        b"sec-fetch-site",
        b"x-csrf-token",
        b"user-agent",
        b"anthropic-version",
        b"upgrade",
        b"x-claude-code-session-id",
        b"x-session-id",
        b"session-id",
        END_USER_HEADER,
        FORWARDED_FOR,
    ),
    _READ,
)
_ALSO_FORWARDED = frozenset(
    (b"user-agent", b"anthropic-version", b"x-claude-code-session-id", b"x-session-id", b"session-id")
)
_ONLY_ONCE = frozenset(
    (b"host", b"x-api-key", b"authorization", b"content-length", b"transfer-encoding", b"content-encoding")
)
_HOST = re.compile(rb"\A(?:[A-Za-z0-9._~%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?\Z")


class RequestHead(msgspec.Struct, eq=False):
    """A head that passed all checks. `read` holds the headers of ours by name; `forwarded` are whole lines for the
    provider.
    """

    method: bytes
    path: bytes
    query: bytes
    version: str
    keep_alive: bool
    content_length: int = 0
    expect_continue: bool = False
    read: dict[bytes, bytes] = {}
    forwarded: bytes = b""
    encoded: bool = False
    """Its body is compressed, or changed in another way."""
    client: str = ""
    """By which tool: `claude-cli/2.1 (…)` is `claude-cli`."""
    session: str = ""
    """The tool's own name of the conversation, for attribution."""
    end_user: str = ""
    """Of the application's own users, as it says in a header; a body that names one counts before it."""
    peer: str = ""
    """The address that the connection comes from; empty for one without."""
    route: Route | None = None
    """None: the path is not of the data plane and goes to ASGI."""
    proof: Proof = msgspec.field(default_factory=Proof)

    @property
    def has_body(self) -> bool:
        return self.content_length > 0 or b"transfer-encoding" in self.read


def read_head(
    method: bytes, url: bytes, headers: list[tuple[bytes, bytes]], version: str, keep_alive: bool, max_bytes: int
) -> RequestHead:
    """Check and sort a head. Raises MalformedHead (400, 417, 431, 505) for what must not go any further."""
    if version != "1.1" and version != "1.0":
        raise MalformedHead(505, "unsupported_version", f"HTTP/{version} is not spoken here; use HTTP/1.1.")
    if not url.startswith(b"/"):
        raise MalformedHead(
            400, "malformed_target", "The request target must be a path (origin form, RFC 9112 section 3.2.1)."
        )
    path, _, query = url.partition(b"?")
    head = RequestHead(method, path, query, version, keep_alive and version == "1.1")
    read = head.read
    forwarded = []
    size = len(url)
    for name, value in headers:
        size += len(name) + len(value) + 4
        value = value.rstrip(b" \t")  # no part of it (RFC 9110 section 5.5), and llhttp leaves it there
        fate = _FATE.get(name)
        if fate is None:
            if not name.startswith(NOT_FOR_PROVIDERS_PREFIXES):
                forwarded.append(b"%b: %b\r\n" % (name, value))
        elif fate == _READ:
            if name in read and name in _ONLY_ONCE:
                raise MalformedHead(400, "duplicate_header", f"The header {name.decode()} stands twice.")
            read[name] = value if name not in read else read[name] + (b"; " if name == b"cookie" else b", ") + value
            if name in _ALSO_FORWARDED:
                forwarded.append(b"%b: %b\r\n" % (name, value))
    if size > max_bytes:
        raise MalformedHead(
            431, "head_too_large", f"The request line and headers exceed {max_bytes} bytes (listen.max_head_bytes)."
        )
    _check_framing(head, version)
    head.encoded = read.get(b"content-encoding", b"identity").lower() != b"identity"
    if b"connection" in read:
        forwarded = _without_connection_options(forwarded, read[b"connection"])
    head.forwarded = b"".join(forwarded)
    agent = read.get(b"user-agent", b"").decode("latin-1")
    head.client = agent.split("/", 1)[0].split(" ", 1)[0][:MAX_CLIENT_CHARS]
    head.session = next((read[name] for name in SESSION_HEADERS if read.get(name)), b"").decode("latin-1")
    head.session = head.session[:MAX_SESSION_CHARS]
    if END_USER_HEADER in read:
        head.end_user = read[END_USER_HEADER].decode("utf-8", "replace")[:MAX_SESSION_CHARS]
    head.route = route_of(head)
    return head


def _check_framing(head: RequestHead, version: str) -> None:
    """Host, Transfer-Encoding, Content-Length, Expect: what decides where a request ends and whom it is for."""
    read = head.read
    host = read.get(b"host")
    if host is None:
        if version == "1.1":
            raise MalformedHead(400, "missing_host", "An HTTP/1.1 request needs exactly one Host header.")
    elif not _HOST.match(host):
        raise MalformedHead(400, "malformed_host", "The Host header is not a host name with an optional port.")
    if b"transfer-encoding" in read:
        if version == "1.0" or b"content-length" in read or read[b"transfer-encoding"].strip().lower() != b"chunked":
            raise MalformedHead(
                400,
                "unsupported_transfer_encoding",
                "The only Transfer-Encoding accepted is `chunked`, in HTTP/1.1, without Content-Length.",
            )
    elif b"content-length" in read:
        length = read[b"content-length"]
        if not length.isdigit() or len(length) > 18:
            raise MalformedHead(400, "malformed_length", "Content-Length is not a number.")
        head.content_length = int(length)
    if b"expect" in read:
        if read[b"expect"].lower() != b"100-continue":
            raise MalformedHead(417, "unsupported_expectation", "The only expectation accepted is 100-continue.")
        head.expect_continue = version == "1.1"


def _without_connection_options(forwarded: list[bytes], connection: bytes) -> list[bytes]:
    """Headers named by Connection are hop-by-hop too (RFC 9110 §7.6.1)."""
    named = tuple(token.strip().lower() + b": " for token in connection.split(b",") if token.strip())
    return [line for line in forwarded if not line.startswith(named)] if named else forwarded


def route_of(head: RequestHead) -> Route | None:
    """The route of a data-plane path, or None for everything that goes to ASGI. Model pages are `/models/{id}`."""
    route = ROUTES.get(head.path)
    if route is None:
        parent, _, name = head.path.partition(b"/models/")
        if not name or (route := ROUTES.get(parent + b"/models")) is None:
            return None
    if route.endpoint is Endpoint.MODELS and b"anthropic-version" in head.read:
        return Route(Endpoint.MODELS, DialectName.ANTHROPIC, *route.methods)
    return route
