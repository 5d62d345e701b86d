"""httpx with the guard of `guard`: for what is not a model's call, such as webhooks.

Each request opens a connection of its own, to an address that was looked at just before; none is kept, so that a
connection to one name never serves another that has the same address. Redirects are not followed, and proxies of the
environment are not used: both would lead past the guard.
"""

import ssl

import httpx

from tollhouse.terms.errors import UpstreamUnreachable
from tollhouse.upstream.guard import AddressGuard


class GuardedTransport(httpx.AsyncBaseTransport):
    """Raises httpx.ConnectError where the guard refuses, with its words, and where nothing answers."""

    def __init__(self, guard: AddressGuard, tls: ssl.SSLContext) -> None:
        self._guard = guard
        none_kept = httpx.Limits(max_keepalive_connections=0)
        self._transport = httpx.AsyncHTTPTransport(verify=tls, limits=none_kept, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = await self._guard.addresses(url.raw_host.decode("ascii").strip("[]"), port)
        except (UpstreamUnreachable, OSError) as error:
            raise httpx.ConnectError(str(error), request=request) from error
        for address in addresses[:-1]:
            try:
                return await self._send(request, address)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent: the next may answer
        return await self._send(request, addresses[-1])

    async def _send(self, request: httpx.Request, address: str) -> httpx.Response:
        """To this address, as to the name: `Host` and the certificate are the name's."""
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": request.url.raw_host.decode("ascii").strip("[]")},
        )
        answer = await self._transport.handle_async_request(pinned)
        answer.request = request
        return answer

    async def aclose(self) -> None:
        await self._transport.aclose()


def guarded_client(guard: AddressGuard, tls: ssl.SSLContext, *, timeout_s: float) -> httpx.AsyncClient:
    """A client whose every connection goes where the guard lets it."""
    return httpx.AsyncClient(transport=GuardedTransport(guard, tls), timeout=timeout_s, follow_redirects=False)
