"""Two ends of real sockets for the tests of the edge and the pool: a client that sends any bytes, an upstream that
answers any bytes; both in the test's own loop, which reports what nobody caught.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Self

import uvloop

TEST_S = 200.0
"""For one story; only one that hangs takes as long."""
CLIENTS: ContextVar[list["Peer"]] = ContextVar("clients")
"""Every client of the running test, so that none stays open."""
END_CHUNK = b"0\r\n\r\n"


def run(
    story: Coroutine[Any, Any, None], new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
) -> None:
    """Run on the loop the gateway runs on, or another. Errors nobody caught fail the test."""
    uncaught: list[dict[str, Any]] = []

    async def timed() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: uncaught.append(context))
        clients: list[Peer] = []
        CLIENTS.set(clients)
        try:
            async with asyncio.timeout(TEST_S):
                await story
        finally:
            for client in clients:
                client.writer.transport.abort()
            await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(timed())
    assert not uncaught, uncaught


async def until(holds: Callable[[], Any], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.005)


class Answer:
    """What came back: status line and headers as bytes, names in lower case; the body without its framing."""

    def __init__(self, head: bytes, body: bytes, interim: list[bytes], *, whole: bool) -> None:
        self.head = head
        self.body = body
        self.interim = interim
        self.whole = whole
        self.status = int(head.split(b" ", 2)[1])
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
        }


class Peer:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *pieces: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionError("the other side is gone")
        self.writer.write(b"".join(pieces))

    async def drain(self) -> None:
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Tear the connection down with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def eof(self) -> bool:
        """Whether the other side ended without another byte (a reset counts as an end)."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read(1) == b""
        return True

    async def until_gone(self) -> None:
        """Read and forget until the other side ends."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass

    async def request(self) -> tuple[bytes, bytes]:
        """The next request: its head, its body by Content-Length. EOFError when there is none."""
        head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4]
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return head, await self.reader.readexactly(length)

    async def answer(self, method: bytes = b"POST") -> Answer:
        """The next answer; `whole` is False when the connection ended before it did."""
        interim = []
        while True:
            head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4]
            if not head.startswith(b"HTTP/1.1 1"):
                break
            interim.append(head)
        found = Answer(head, b"", interim, whole=True)
        if method == b"HEAD" or found.status in (204, 304):
            return found
        try:
            if b"content-length" in found.headers:
                found.body = await self.reader.readexactly(int(found.headers[b"content-length"]))
            elif b"transfer-encoding" in found.headers:
                while size := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
                    found.body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
            else:
                found.body = await self.reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            found.whole = False
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)


async def connect(port: int, *, receive_buffer_bytes: int | None = None) -> Peer:
    sock = socket.socket()
    if receive_buffer_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    limit = 65_536 if receive_buffer_bytes is None else receive_buffer_bytes
    client = Peer(*await asyncio.open_connection(sock=sock, limit=limit))
    CLIENTS.get().append(client)
    return client


Script = Callable[[Peer], Awaitable[None]]


class Upstream:
    """A server whose every connection follows `script`; it ends with an exception of the socket or by itself."""

    def __init__(self) -> None:
        self.script: Script = refuse
        self.port = 0
        self.connections = 0
        self.requests: list[tuple[bytes, bytes]] = []
        self.peers: list[Peer] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server | None = None

    def stop_listening(self) -> None:
        if self.server is not None:
            self.server.close()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        peer = Recording(reader, writer, self)
        self.peers.append(peer)
        try:
            with contextlib.suppress(ConnectionError, EOFError, asyncio.CancelledError):
                await self.script(peer)
                await writer.drain()
                if not writer.is_closing():
                    writer.close()
                    await writer.wait_closed()
        finally:
            writer.transport.abort()
            self.tasks.discard(task)


class Recording(Peer):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: Upstream) -> None:
        super().__init__(reader, writer)
        self.upstream = upstream

    async def request(self) -> tuple[bytes, bytes]:
        request = await super().request()
        self.upstream.requests.append(request)
        return request


async def refuse(peer: Peer) -> None:
    raise ConnectionError("no script")


@contextlib.asynccontextmanager
async def upstream(script: Script = refuse, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    found = Upstream()
    found.script = script
    server = await asyncio.start_server(found.accept, "127.0.0.1", 0, ssl=tls)
    found.server = server
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        tasks = list(found.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def reply(body: bytes, status: int = 200, *lines: bytes, content_type: bytes = b"application/json") -> bytes:
    """A whole answer."""
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 %d Scripted\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status,
        content_type,
        fields,
        len(body),
        body,
    )


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def always(*answers: bytes) -> Script:
    """Every request of a connection gets these bytes."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(*answers)

    return script


async def silent(peer: Peer) -> None:
    """Takes a request and says nothing."""
    await peer.request()
    await peer.until_gone()
