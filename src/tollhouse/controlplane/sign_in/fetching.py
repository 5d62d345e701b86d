"""Asking an issuer: JSON in answer, within a time and a size, and from nowhere else than where we asked."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from typing import Any

import msgspec

MAX_BYTES = 256 * 1024
MAX_URL_CHARS = 2_000
LOOPBACK = ("http://127.0.0.1:", "http://localhost:")


class IssuerError(Exception):
    """The issuer, or what came from it, is not as it must be: for the log; people are told less."""


class Reach(msgspec.Struct, frozen=True):
    """How an issuer is asked. `tls` checks certificates and names."""

    timeout_s: float
    tls: ssl.SSLContext
    max_bytes: int = MAX_BYTES
    min_refetch_s: float = 5.0
    """Between two looks for new keys."""


async def ask(
    reach: Reach,
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """What a URL answers; with a form, by POST. Raises IssuerError."""
    import httpx  # noqa: PLC0415  serving needs it when somebody signs in by an issuer

    try:
        async with (
            asyncio.timeout(reach.timeout_s),
            httpx.AsyncClient(verify=reach.tls, timeout=reach.timeout_s) as client,
            client.stream(
                "GET" if form is None else "POST",
                url,
                data=None if form is None else dict(form),
                headers={"accept": "application/json", **(headers or {})},
            ) as answer,
        ):
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > reach.max_bytes:
                    raise IssuerError(f"{url} answered more than {reach.max_bytes} bytes")
            if answer.status_code != httpx.codes.OK:
                raise IssuerError(f"{url} answered {answer.status_code}{_error_of(bytes(body))}")
            return json.loads(bytes(body))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError, RecursionError) as error:
        raise IssuerError(f"{url}: {str(error) or type(error).__name__}") from error


def check_url(url: Any, like: str) -> str:
    """An endpoint that an issuer names: reached by TLS, unless all of it is this machine. Raises IssuerError."""
    local = like.startswith(LOOPBACK)
    if (
        isinstance(url, str)
        and len(url) < 2_000
        and (url.startswith("https://") or (local and url.startswith(LOOPBACK)))
    ):
        return url
    raise IssuerError("the issuer names an endpoint that is not reached by https://")


def _error_of(body: bytes) -> str:
    """OAuth's word for what is wrong, if there is one."""
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return f" ({error[:60]!r})" if isinstance(error, str) else ""
