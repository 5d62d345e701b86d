"""A client's connection, read strictly while it comes: what is there of an answer is known at every byte."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterable

from tests.wire.provider import RESET
from tests.wire.strict import Fields, MalformedError, read_answers

WAIT_S = 20.0
"""For what normally comes at once."""
_SIZE = re.compile(rb"[0-9a-f]+\Z")


class Caller(asyncio.Protocol):
    """One answer at a time: `status` is 0 until its head is there, `body` what of it has come, `whole` its end."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended = False
        self.was_reset = False
        self.waiter: asyncio.Future[None] | None = None
        self.expect_another()

    def expect_another(self) -> None:
        self.received = bytearray()
        self.status = 0
        self.fields: Fields = ()
        self.body = bytearray()
        self.whole = False
        self._at = 0
        self._length: int | None = None

    # --- sending

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    async def send(self, pieces: Iterable[bytes]) -> None:
        """Each piece in a turn of the loop of its own."""
        for piece in pieces:
            self.transport.write(piece)
            await asyncio.sleep(0)

    def leave(self, *, reset: bool) -> None:
        if reset:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    # --- receiving

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.whole:
            self._read()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.was_reset = isinstance(exc, ConnectionResetError)
        self._wake()

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def _read(self) -> None:
        if not self.status:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._take_head(bytes(self.received[:end]), end + 4)
        if self._length is not None:
            self.body = self.received[self._at : self._at + self._length]
            self.whole = len(self.body) == self._length
        else:
            while not self.whole and self._take_chunk():
                pass

    def _take_head(self, head: bytes, at: int) -> None:
        line, *lines = head.split(b"\r\n")
        self.status = int(line.split(b" ", 2)[1])
        pairs = [each.partition(b":") for each in lines]
        self.fields = tuple((name.lower(), value.strip(b" \t")) for name, _, value in pairs)
        self._at = at
        lengths = [int(value) for name, value in self.fields if name == b"content-length"]
        self._length = 0 if self.status in (204, 304) else lengths[0] if lengths else None

    def _take_chunk(self) -> bool:
        """The next chunk, if it is there."""
        end = self.received.find(b"\r\n", self._at)
        if end < 0:
            return False
        line = bytes(self.received[self._at : end])
        if not _SIZE.match(line):
            raise MalformedError(f"no chunk size: {line!r:.80}")
        size = int(line, 16)
        if len(self.received) < end + 2 + size + 2:
            return False
        self.body += self.received[end + 2 : end + 2 + size]
        self._at = end + 2 + size + 2
        self.whole = not size
        return True

    async def until(self, holds: Callable[[], bool]) -> bool:
        """Whether it came to hold before the connection ended. Raises TimeoutError."""
        if not holds() and not self.ended:
            async with asyncio.timeout(WAIT_S):
                while not holds() and not self.ended:
                    self.waiter = self.loop.create_future()
                    await self.waiter
        return holds()

    async def answer(self) -> None:
        """To the answer's end, or the connection's. A whole one is read a second time, by somebody else."""
        if await self.until(lambda: self.whole):
            read = read_answers(bytes(self.received))
            if [(one.status, one.body) for one in read] != [(self.status, bytes(self.body))]:
                raise MalformedError(f"more than an answer: {bytes(self.received)!r:.300}")

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known == name]


@contextlib.asynccontextmanager
async def caller(port: int) -> AsyncIterator[Caller]:
    """A connection to this port."""
    _, made = await asyncio.get_running_loop().create_connection(Caller, "127.0.0.1", port)
    try:
        yield made
    finally:
        made.transport.abort()
