"""A provider that plays what each call's `Play` says: exact bytes in exact pieces, each a write of its own, and an end.

Which play a request is answered with, its mark says (see `lanes`). What comes is read strictly and kept.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum

from tests.wire.strict import Request, read_requests

RESET = struct.pack("ii", 1, 0)


class End(Enum):
    KEEP = "keep"
    """The connection stays open for the next request."""
    CLOSE = "close"
    """FIN."""
    RESET = "reset"
    """RST."""
    STAY = "stay"
    """Nothing more, until the gateway leaves or `go_on` is set; then `rest`, and the connection is kept."""


@dataclass
class Play:
    pieces: list[bytes]
    end: End = End.KEEP
    rest: bytes = b""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[Request] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Its last piece is out, or the gateway has left."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """The connection is no more."""


class Provider:
    """`plays` by mark."""

    def __init__(self) -> None:
        self.plays: dict[str, Play] = {}
        self.wrong: list[str] = []
        """What came that no provider should get."""
        self.port = 0
        self.transports: set[asyncio.Transport] = set()


class _Connection(asyncio.Protocol):
    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.loop = asyncio.get_running_loop()
        self.data = b""
        self.play: Play | None = None
        self.pieces: list[bytes] = []
        self.lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.provider.transports.add(transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        found, end = read_requests(self.data)
        if end == "part":
            return
        if end == "malformed" or len(found) != 1:
            self.provider.wrong.append(f"not one request: {self.data!r:.300}")
        elif self.play is not None:
            self.provider.wrong.append(f"a request behind a cut answer: {self.data!r:.300}")
        else:
            self._begin(found[0])
        self.data = b""

    def _begin(self, request: Request) -> None:
        marks = request.values(b"x-session-id")
        play = self.provider.plays.get(marks[0].decode()) if len(marks) == 1 else None
        if play is None:
            self.provider.wrong.append(f"a request of nobody: {request!r:.300}")
            self.transport.abort()
            return
        play.requests.append(request)
        self.play, self.pieces = play, play.pieces[::-1]
        self._go_on()

    def _go_on(self) -> None:
        """The next piece in each turn of the loop, so that each is read on its own."""
        play = self.play
        if play is None or self.lost:
            return
        if self.pieces:
            self.transport.write(self.pieces.pop())
            self.loop.call_soon(self._go_on)
        elif self.transport.get_write_buffer_size():
            self.loop.call_later(0.001, self._go_on)
        else:
            self._end(play)

    def _end(self, play: Play) -> None:
        if play.end is End.STAY:
            self.loop.create_task(self._stay(play))
        elif play.end is End.KEEP:
            self.play = None
        elif play.end is End.CLOSE:
            self.transport.write_eof()  # and would hear another request
        else:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()
        play.over.set()

    async def _stay(self, play: Play) -> None:
        await play.go_on.wait()
        if not self.lost:
            self.transport.write(play.rest)
            self.play = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.provider.transports.discard(self.transport)
        if self.play is not None:
            self.play.over.set()
            self.play.left.set()
            self.play.go_on.set()
        if self.data:
            self.provider.wrong.append(f"a part of a request: {self.data!r:.300}")


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """A provider that listens on its `port`."""
    made = Provider()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(made), "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for transport in list(made.transports):
            transport.abort()
        await asyncio.sleep(0.01)
