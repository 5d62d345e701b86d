"""The keys of a token issuer: a set that is fetched from a URL (JWKS) and kept, or one that the operator has written
down.

A fetched set is used for `ttl_s`; the first look after that starts a fetch beside, and the old set is used until it has
come, at most `keep_s` long. A token whose key is not in the set may have one that is newer than the set: then it is
fetched at once, but never twice within `min_refetch_s`, whatever tokens come. A fetch has a deadline and a largest
size, follows no redirect, and one serves all who wait for it.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from typing import Protocol

import httpx
import msgspec

from tollhouse.rules.tokens import SigningKey, read_key_set

log = logging.getLogger("tollhouse.tokens")


class IssuerKeys(Protocol):
    """`generation` changes when a key was taken out: what was found good before must be looked at again."""

    generation: int

    def current(self) -> tuple[SigningKey, ...] | None:
        """The keys that count now; None when there are none: never come, or too old."""

    def fetch(self) -> "asyncio.Task[None] | None":
        """Look for newer ones; None when that was just done. The task never fails and is not to be cancelled."""


class WrittenKeys:
    """Of the operator's settings."""

    generation = 0

    def __init__(self, key: SigningKey) -> None:
        self._keys = (key,)

    def current(self) -> tuple[SigningKey, ...]:
        return self._keys

    def fetch(self) -> None:
        return None


class FetchOptions(msgspec.Struct, frozen=True):
    """Numbers of fetching; settings of each issuer under `jwt`."""

    ttl_s: float = 600.0
    keep_s: float = 86_400.0
    min_refetch_s: float = 30.0
    timeout_s: float = 5.0
    max_bytes: int = 256 * 1024


class FetchedKeys:
    """Of a JWKS URL."""

    def __init__(
        self,
        url: str,
        options: FetchOptions,
        tls: ssl.SSLContext,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.generation = 0
        self._url = url
        self._options = options
        self._clock = clock
        self._tls = tls
        self._keys: tuple[SigningKey, ...] = ()
        self._fetched_at = -float("inf")
        self._tried_at = -float("inf")
        self._fetching: asyncio.Task[None] | None = None

    def current(self) -> tuple[SigningKey, ...] | None:
        age_s = self._clock() - self._fetched_at
        if age_s > self._options.ttl_s:
            self.fetch()
            if age_s > self._options.keep_s:
                return None
        return self._keys

    def fetch(self) -> "asyncio.Task[None] | None":
        if self._fetching is None:
            now = self._clock()
            if now - self._tried_at < self._options.min_refetch_s:
                return None
            self._tried_at = now
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        return self._fetching

    def _fetched(self, _task: "asyncio.Task[None]") -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._options.timeout_s):
                keys = read_key_set(await self._body())
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError) as error:
            log.warning("the keys of %s could not be fetched: %s", self._url, str(error) or type(error).__name__)
            return
        left = {(key.kid, key.thumbprint) for key in self._keys} - {(key.kid, key.thumbprint) for key in keys}
        if left:
            self.generation += 1
        self._keys = keys
        self._fetched_at = self._clock()

    async def _body(self) -> bytes:
        """Raises ValueError for an answer that is not 200, or too large."""
        limit = self._options.max_bytes
        body = bytearray()
        async with httpx.AsyncClient(verify=self._tls) as client, client.stream("GET", self._url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"it answered {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > limit:
                    raise ValueError(f"it has more than {limit} bytes")
        return bytes(body)
