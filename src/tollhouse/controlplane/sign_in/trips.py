"""The way to an issuer and back, in a cookie of the browser that makes it: signed, for ten minutes, for one return.

The cookie is Lax, for the browser comes back from another site. The session's is Strict: it is set by a page of ours,
which then goes on by itself, so that the next request comes from here.
"""

import base64
import hmac
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from tollhouse.controlplane.sign_in.issuers import Trip
from tollhouse.controlplane.sign_in.tokens import TOKEN_BYTES, Tokens

TRIP_COOKIE = "__Host-tollhouse-trip"
TRIP_S = 600
MAX_RETURNED = 10_000
MAX_ONWARD_CHARS = 1_000


class Trips:
    def __init__(self, server_secret: bytes, now_s: Callable[[], int], random_bytes: Callable[[int], bytes]) -> None:
        self._secret = hmac.digest(server_secret, b"tollhouse trip", "sha256")
        self._now_s = now_s
        self._random_bytes = random_bytes
        self._returned: OrderedDict[str, int] = OrderedDict()
        """States that came back, until they end anyway."""

    def begin(self, name: str, onward: str) -> tuple[Trip, str]:
        """A trip, and its cookie's value."""
        state, nonce, verifier = (Tokens.mint(self._random_bytes(TOKEN_BYTES)) for _ in range(3))
        trip = Trip(name, state, nonce, verifier, onward[:MAX_ONWARD_CHARS], self._now_s() + TRIP_S)
        body = _text(msgspec.json.encode(trip))
        return trip, f"{body}.{self._seal(body)}"

    def returned(self, name: str, state: str, cookie: str) -> Trip | None:
        """The trip of this browser, once; None for another's, or none, or one that is over or came back before."""
        body, _, seal = cookie.partition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(body).encode()):
            return None
        trip = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=Trip)
        now_s = self._now_s()
        if trip.name != name or now_s >= trip.ends_s or not hmac.compare_digest(trip.state.encode(), state.encode()):
            return None
        if trip.state in self._returned:
            return None
        while self._returned and (len(self._returned) >= MAX_RETURNED or next(iter(self._returned.values())) <= now_s):
            self._returned.popitem(last=False)
        self._returned[trip.state] = trip.ends_s
        return trip

    def _seal(self, body: str) -> str:
        return _text(hmac.digest(self._secret, body.encode("utf-8", "replace"), "sha256"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
