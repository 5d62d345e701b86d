"""The head of a provider's answer: what of it travels on, and where in it stands what is read here.

Both depend on the names of its headers alone, and a provider has a handful of such heads; so they are found once.
"""

from functools import lru_cache

from tollhouse.dataplane.head import HOP_BY_HOP

DROPPED = HOP_BY_HOP | {
    b"content-length",
    b"set-cookie",
    b"alt-svc",
    b"strict-transport-security",
    b"anthropic-organization-id",
    b"openai-organization",
    b"openai-project",
}
"""Not for our clients: framing is ours, cookies and organisation belong to the operator's account."""
DROPPED_PREFIXES = (b"anthropic-ratelimit-", b"x-ratelimit-", b"access-control-", b"x-tollhouse-")
"""Limits of the shared key say nothing to one of its users; CORS is decided here."""

EVENT_STREAM = b"text/event-stream"
"""With this a content type begins, in any case and whatever follows."""
HEADS_REMEMBERED = 128
"""By the names in them."""


class HeadShape:
    """What heads with these names have in common. The places are of the last header of that name, None without one."""

    __slots__ = ("encoding_at", "forwarded", "request_id_at", "type_at")

    def __init__(self, names: tuple[bytes, ...]) -> None:
        places = {name: place for place, name in enumerate(names)}
        self.encoding_at = places.get(b"content-encoding")
        self.type_at = places.get(b"content-type")
        self.request_id_at = places.get(b"request-id", places.get(b"x-request-id"))
        self.forwarded = b"".join([line_of(name) for name in names])
        """The format of the lines that travel on, for all values."""


shape_of = lru_cache(maxsize=HEADS_REMEMBERED)(HeadShape)
NO_HEADERS = HeadShape(())


def line_of(name: bytes) -> bytes:
    """The format of a line; of a value that is dropped it takes no byte (`%.0b`)."""
    if name in DROPPED or name.startswith(DROPPED_PREFIXES):
        return b"%.0b"
    return name.replace(b"%", b"%%") + b": %b\r\n"
