"""A provider that keeps every byte it is sent, answers each request it can read strictly, and complains of all else."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

from tests.planes.plane import MESSAGE
from tests.planes.wire import reply
from tests.wire.strict import Request, read_requests

_ANSWER = reply(MESSAGE)
_MARK = re.compile(rb'"user_id": ?"(.{4})"')
KEY = b"upstream-secret"


def mark_of(request: Request) -> str:
    """Whose request this is, by its body."""
    found = _MARK.search(request.body)
    return found[1].decode() if found else ""


class Recorder:
    """What came, over all connections."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bad: list[bytes] = []
        """What cannot be read as requests, and what a connection ended within."""
        self.port = 0
        self.transports: set[asyncio.Transport] = set()

    def marked(self, *marks: str) -> list[Request]:
        return [request for request in self.requests if mark_of(request) in marks]

    def complaints(self) -> list[str]:
        """Each way in which what came is not what a provider should get."""
        found = [f"not a request: {data!r:.300}" for data in self.bad]
        for request in self.requests:
            once = (b"host", b"content-length", b"x-api-key")
            found += [
                f"{name!r} {len(values)} times: {request!r:.300}"
                for name in once
                if len(values := request.values(name)) != 1
            ]
            if (request.method, request.target.partition(b"?")[0]) != (b"POST", b"/v1/messages"):
                found.append(f"asks for something else: {request!r:.300}")
            if request.values(b"x-api-key") != [KEY] or request.values(b"authorization"):
                found.append(f"with other credentials: {request!r:.300}")
            if {name for name, _ in request.fields} & {b"transfer-encoding", b"upgrade", b"trailer", b"te", b"expect"}:
                found.append(f"with a hop-by-hop field: {request!r:.300}")
        return found


class _Connection(asyncio.Protocol):
    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.data = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.recorder.transports.add(transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        found, end = read_requests(self.data)
        if end == "part":
            return
        self.recorder.requests += found
        if end == "malformed":
            self.recorder.bad.append(self.data)
            self.transport.abort()
        else:
            self.transport.write(_ANSWER * len(found))
        self.data = b""

    def connection_lost(self, exc: Exception | None) -> None:
        self.recorder.transports.discard(self.transport)
        if self.data:
            self.recorder.bad.append(self.data)


@contextlib.asynccontextmanager
async def recording() -> AsyncIterator[Recorder]:
    """A recorder that listens on its `port`."""
    recorder = Recorder()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(recorder), "127.0.0.1", 0)
    recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        server.close()
        for transport in list(recorder.transports):
            transport.abort()
        await asyncio.sleep(0.01)
