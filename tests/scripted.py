"""A provider that does what a test says: for each request a script of bytes, pauses and accidents. It records every
request byte for byte.

    upstream.script = lambda received: [head(200), b"…", 0.1, RESET]

A script is a list of steps: `bytes` to write, a number of seconds to wait, a `Gate` to wait at until the test opens it,
RESET (the connection is torn down with RST), CLOSE (ended with FIN), HANG (nothing more, until the gateway leaves).
After a script without accident the connection stays open for the next request.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

RESET: Final = "reset"
CLOSE: Final = "close"
HANG: Final = "hang"
WAIT_S = 30.0


class Gate:
    """A place in a script: `reached` is set when the script comes to it, `open()` lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()


Step = bytes | float | Gate | Literal["reset", "close", "hang"]
Script = Callable[["Received"], Iterable[Step]]


class Received:
    """A request as it came. Names of headers are as sent."""

    def __init__(self, head: bytes, body: bytes, connection: int) -> None:
        self.head = head
        self.body = body
        self.connection = connection
        first, *lines = head.split(b"\r\n")
        self.method, self.target, _ = first.decode("latin-1").split(" ", 2)
        self.headers = [tuple(line.decode("latin-1").split(": ", 1)) for line in lines if line]
        self.gone = threading.Event()
        """Set when the gateway left before the script's end."""

    def header(self, name: str) -> str | None:
        """The one value of a header; None when it was not sent."""
        values = [pair[1] for pair in self.headers if pair[0].lower() == name]
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedUpstream:
    """An HTTP/1.1 server on a loopback port, in a thread of its own. Use as a context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: Script = lambda received: [reply(404, b'{"type":"error"}')]
        self.received: list[Received] = []
        self.port = 0
        self._tls = tls
        self._connections = 0
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    @property
    def url(self) -> str:
        return f"{'https://localhost' if self._tls else 'http://127.0.0.1'}:{self.port}"

    @property
    def last(self) -> Received:
        return self.received[-1]

    def __enter__(self) -> "ScriptedUpstream":
        self._thread.start()
        assert self._started.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        number = self._connections
        first: bytes | None = b""
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                while first is not None:
                    first = await self._answer(first, reader, writer, number)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bytes | None:
        """One request, whose `first` byte was read already, and its script. The next one's first byte; None at the
        end.
        """
        head = first + (await reader.readuntil(b"\r\n\r\n"))[:-4]
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        received = Received(head, await reader.readexactly(length), number)
        self.received.append(received)
        watch = asyncio.ensure_future(reader.read(1))  # the next request's first byte, or that the gateway has left
        try:
            for step in self.script(received):
                if not await self._step(step, writer, watch):
                    received.gone.set() if watch.done() else None
                    return None
            return await watch or None
        finally:
            watch.cancel()

    async def _step(self, step: Step, writer: asyncio.StreamWriter, watch: "asyncio.Future[bytes]") -> bool:
        """Take a step; False when the script is over by it or the gateway has left."""
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif isinstance(step, Gate):
            step.reached.set()
            while not step.is_open and not watch.done():
                await asyncio.sleep(0.005)
        elif step == RESET:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        elif step == CLOSE:
            writer.close()
            await writer.wait_closed()
            return False
        else:
            await asyncio.wait([watch], timeout=None if step == HANG else float(step))
        return not watch.done()


# What scripts are made of


def reply(status: int, body: bytes, *headers: tuple[str, str], content_type: str = "application/json") -> bytes:
    """A whole answer."""
    return head(status, *headers, ("content-length", str(len(body))), content_type=content_type) + body


def head(status: int, *headers: tuple[str, str], content_type: str = "application/json") -> bytes:
    lines = [("content-type", content_type), *headers]
    text = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"HTTP/1.1 {status} Scripted\r\n{text}\r\n".encode("latin-1")


def stream_head(*headers: tuple[str, str]) -> bytes:
    """The head of an event stream in chunks."""
    return head(200, ("transfer-encoding", "chunked"), *headers, content_type="text/event-stream; charset=utf-8")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"
