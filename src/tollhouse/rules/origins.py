"""Whether a browser's request comes from a page of the gateway's own origin (RFC 6454).

Browsers send `Origin` with every request that may change something, and `Sec-Fetch-Site` with every request to a
trustworthy origin; a page can set neither. What carries a cookie and changes something must show one of them.
"""

from collections.abc import Collection

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
"""They change nothing, and what they answer another origin's page cannot read."""


def is_same_origin(origin: str | None, fetch_site: str | None, own: Collection[str]) -> bool | None:
    """None when the request shows neither header: then no browser of today made it.

    origin       the `Origin` header; None when it is not sent
    fetch_site   the `Sec-Fetch-Site` header
    own          the origins at which browsers reach this gateway, such as `https://llm.example`
    """
    if origin is not None:
        return origin.lower() in own
    if fetch_site is not None:
        return fetch_site == "same-origin"
    return None


def own_origins(scheme: str, host: str, public_url: str) -> tuple[str, ...]:
    """The request's own origin by its Host, and the one that stands in the settings (without a slash at its end)."""
    here = f"{scheme}://{host}".lower()
    return (here, public_url.lower()) if public_url else (here,)


def is_local_path(path: str) -> bool:
    """Whether a browser that is sent there stays at this origin: what begins with one slash, and holds nothing that
    some browser reads as a second one (WHATWG URL: backslashes count as slashes, tabs and newlines are dropped).
    """
    return (
        path.startswith("/")
        and not path.startswith("//")
        and "\\" not in path
        and all(character > " " and character != "\x7f" for character in path)
    )
