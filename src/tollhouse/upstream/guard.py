"""Connections to where users say, and only to public addresses or those the operator allows.

A name is resolved once for a connection, every answer is looked at, and the connection is made to an address that was
looked at: never to the name, which could have another answer a moment later (DNS rebinding). One answer that may not be
called refuses them all, for who answers so is up to something. TLS still checks the name's certificate, and `Host` says
the name.

Through an HTTP proxy the tunnel is asked for the checked address, so that the proxy resolves nothing. A proxy that only
lets names through refuses that; the operator then has the gateway reach out itself (NO_PROXY).
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import msgspec

from tollhouse.rules.addresses import AddressRules, IPAddress, address_problem
from tollhouse.terms.errors import UpstreamUnreachable

MAX_ANSWERS = 64
"""A name with more addresses is refused: each is looked at, and none is worth so much time."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port → addresses as text, in the order to try them. Raises OSError."""


LOOKUPS: Final = 8
"""Names that are looked up at once."""
_lookups: Final = ThreadPoolExecutor(LOOKUPS, "tollhouse-names")
"""Threads of their own: a user's name server that keeps silent would take those that everything else shares, among it
the names of providers.
"""


async def resolve(host: str, port: int) -> list[str]:
    """As this machine resolves names."""
    look = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    found = await asyncio.get_running_loop().run_in_executor(_lookups, look)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class AddressGuard(msgspec.Struct, frozen=True):
    """Which addresses may be called, and how names are resolved."""

    rules: AddressRules = AddressRules()
    resolve: Resolve = resolve
    whose: str = "an endpoint of a user's own"
    setting: str = "vault.allowed_networks"
    """Both for whoever is refused."""

    async def addresses(self, host: str, port: int) -> list[str]:
        """Where a connection may be made, in the order to try. Raises UpstreamUnreachable; OSError as `resolve`."""
        literal = _read(host)
        answers = [host] if literal is not None else await self.resolve(host, port)
        if not answers or len(answers) > MAX_ANSWERS:
            raise UpstreamUnreachable(f"{host} has {len(answers)} addresses; from 1 to {MAX_ANSWERS} are looked at")
        checked = []
        for answer in answers:
            address = _read(answer)
            problem = "that cannot be read" if address is None else address_problem(address, self.rules)
            if problem is not None:
                raise UpstreamUnreachable(
                    f"{host} leads to an address {problem}; {self.whose} must be public, or in {self.setting}"
                )
            checked.append(str(address))
        return checked


def _read(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
