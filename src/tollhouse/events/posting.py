"""Sends one message to one receiver: within a time, without redirects, and without a look at the answer's body."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tollhouse import __version__

if TYPE_CHECKING:
    import httpx

MAX_RETRY_AFTER_S = 86_400


class Outcome(msgspec.Struct, frozen=True):
    """`status` 0: there was no answer. `error` is empty when the receiver took the message."""

    status: int
    error: str = ""
    retry_after_s: int | None = None

    @property
    def taken(self) -> bool:
        return not self.error


class Poster:
    """`transport` makes the way to receivers; it may refuse addresses. Closed by `close`."""

    def __init__(
        self,
        *,
        timeout_s: float,
        tls: ssl.SSLContext,
        parallel: int,
        transport: "Callable[[], httpx.AsyncBaseTransport] | None" = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._tls = tls
        self._parallel = parallel
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    def _open(self) -> "httpx.AsyncClient":
        import httpx  # noqa: PLC0415  serving needs it when there is somebody to tell

        how: dict[str, Any] = {} if self._transport is None else {"transport": self._transport()}
        return httpx.AsyncClient(
            verify=self._tls,
            timeout=self._timeout_s,
            follow_redirects=False,
            trust_env=self._transport is None,
            limits=httpx.Limits(max_connections=self._parallel, max_keepalive_connections=self._parallel),
            headers={"user-agent": f"Tollhouse/{__version__}", "accept": "*/*", "accept-encoding": "identity"},
            **how,
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Never raises for what the receiver or the way to it does. Of the answer only its head is read."""
        import httpx  # noqa: PLC0415  as above

        if self._client is None:
            self._client = self._open()
        sent = {**headers, "content-type": "application/json"}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("POST", url, content=body, headers=sent) as answer,
            ):
                return _outcome(answer.status_code, answer.headers.get("retry-after"))
        except (TimeoutError, httpx.TimeoutException):
            return Outcome(0, f"no answer within {self._timeout_s:g} s")
        except httpx.InvalidURL:
            return Outcome(0, "its address is no URL")  # whose words would hold it, and it may be a secret
        except (httpx.HTTPError, OSError, ValueError) as error:
            return Outcome(0, f"{type(error).__name__}: {_one_line(str(error))}".rstrip(": "))

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _outcome(status: int, retry_after: str | None) -> Outcome:
    if 200 <= status < 300:
        return Outcome(status)
    after_s = None
    if retry_after is not None and retry_after.isascii() and retry_after.isdecimal():
        after_s = min(int(retry_after[:9]), MAX_RETRY_AFTER_S)
    if 300 <= status < 400:
        return Outcome(status, f"answered {status}: redirects are not followed, give the webhook its final address")
    return Outcome(status, f"answered {status}", after_s)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
