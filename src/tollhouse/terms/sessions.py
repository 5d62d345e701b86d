"""A signed-in browser, and how it shows that it is."""

from typing import Final

import msgspec

SESSION_COOKIE: Final = "__Host-tollhouse"
"""Carries the session's token; the prefix makes browsers keep it to this host, HTTPS and the whole path."""
CSRF_HEADER: Final = "x-csrf-token"
"""Carries the session's CSRF token with every request that is not a plain read: other sites cannot send it."""


class Session(msgspec.Struct, frozen=True):
    """One sign-in of one browser. Its token is known by its hash only; `session_id` is for people to look at.

    `expires_at_ns` moves on with use, up to `ends_at_ns`.
    """

    session_id: str
    user_id: str
    csrf: str
    created_at_ns: int
    seen_at_ns: int
    expires_at_ns: int
    ends_at_ns: int
    address: str = ""
    client: str = ""
    """What the browser says it is."""
