"""TLS through an HTTP proxy."""

import asyncio

from tollhouse.upstream.connection import Connection
from tollhouse.upstream.origin import Proxy
from tollhouse.upstream.slot import Slot


class _ConnectAnswer(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT, nothing else."""

    def __init__(self, answered: "asyncio.Future[bytes]", max_bytes: int) -> None:
        self.answered = answered
        self.max_bytes = max_bytes
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.answered.done():
            return
        if b"\r\n\r\n" in self.received:
            self.answered.set_result(self.received.split(b"\r\n", 1)[0])
        elif len(self.received) > self.max_bytes:
            self.answered.set_exception(OSError("the proxy's answer is too long"))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(OSError(f"the proxy closed the connection ({error or 'end of stream'})"))


async def tunnel(loop: asyncio.AbstractEventLoop, slot: Slot, proxy: Proxy, where: str) -> Connection:
    """A TLS connection through an HTTP proxy (CONNECT, RFC 9110 §9.3.6) to `where`: the origin's host, or an address of
    it.
    """
    origin = slot.origin
    assert origin.tls is not None
    answered: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_connection(
        lambda: _ConnectAnswer(answered, slot.pool.options.max_head_bytes), proxy.host, proxy.port
    )
    try:
        target = f"{f'[{where}]' if ':' in where else where}:{origin.port}".encode()
        head = b"CONNECT " + target + b" HTTP/1.1\r\nhost: " + target + b"\r\n"
        if proxy.authorization:
            head += b"proxy-authorization: " + proxy.authorization + b"\r\n"
        transport.write(head + b"\r\n")
        status_line = await answered
        if not status_line.partition(b" ")[2].startswith(b"2"):
            raise OSError(f"the proxy {proxy.host}:{proxy.port} refused the tunnel: {status_line.decode('latin-1')}")
        connection = Connection(slot)
        secured = await loop.start_tls(transport, connection, origin.tls, server_hostname=origin.host)
        if secured is None:
            raise OSError("the proxy closed the connection during the TLS handshake")
        connection.connection_made(secured)
        return connection
    except BaseException:
        transport.abort()
        raise
