"""The one HTTP client that talks to providers: HTTP/1.1 over asyncio.Protocol, parsed by httptools (llhttp).

Rules
1. Bytes flow by callbacks: a `Sink` gets the head, then the body in the pieces the network gave, and no coroutine wakes per piece. All pieces of
   one read are joined, so a busy stream costs one write for many events.
2. Time is kept by one sweep a connection pool, not by timers per call: each call carries deadlines, the sweep looks four times a second.
3. A connection is reused when the answer ended cleanly, both sides keep it alive and nothing came behind the answer. A reused connection that
   turns out closed before a byte of the answer came is the keep-alive race of RFC 9112 §9.3.1: the call is sent once more on a fresh
   connection, but only if the end came within `stale_retry_s` of sending; later it may have been work, and is the caller's to judge.
4. Every failure is an UpstreamError that says whether a byte may have been sent.
5. No redirects, no cookies, no decompression. TLS verifies the certificate and the name.
"""

import asyncio
import base64
import ssl
from collections import deque
from typing import Protocol, cast
from urllib.parse import SplitResult

import httptools
import msgspec

from tollhouse.terms.errors import UpstreamClosed, UpstreamError, UpstreamGarbled, UpstreamTimeout, UpstreamUnreachable
from tollhouse.terms.holds import Permit

Headers = list[tuple[bytes, bytes]]

SWEEP_S = 0.25
"""How often deadlines are looked at: every timeout is at most this much late."""


class PoolOptions(msgspec.Struct, frozen=True):
    """Numbers of the pool; every one is a setting."""

    connect_timeout_s: float = 10.0
    first_byte_timeout_s: float = 300.0
    idle_timeout_s: float = 300.0
    total_timeout_s: float = 3600.0
    keep_alive_s: float = 30.0
    stale_retry_s: float = 1.0
    max_connections_per_origin: int = 512
    max_waiting_per_origin: int = 1024
    max_head_bytes: int = 65_536


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy: plain calls go to it in absolute form, TLS through CONNECT."""

    host: str
    port: int
    authorization: bytes = b""

    @classmethod
    def from_url(cls, url: SplitResult) -> "Proxy":
        credentials = f"{url.username or ''}:{url.password or ''}" if url.username else ""
        authorization = b"Basic " + base64.b64encode(credentials.encode()) if credentials else b""
        return cls(url.hostname or "", url.port or 80, authorization)


class Origin(msgspec.Struct, frozen=True, eq=False):
    """Where connections go: host, port, TLS or not, through a proxy or not. Compared by identity; one per provider."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None
    keep_alive_s: float | None = None
    """Shorter than the pool's where the server is known to close idle connections early."""
    max_connections: int | None = None

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class Sink(Protocol):
    """Who receives an answer. Called from the event loop; must not raise and must not block."""

    def head(self, status: int, headers: Headers) -> None:
        """The final status (never 1xx) and headers, names in lower case."""

    def body(self, data: bytes) -> None:
        """Some bytes of the body."""


class Call:
    """One request on its way: what to send, who listens, when to give up."""

    __slots__ = ("connection", "deadline", "done", "first_byte_at", "message", "sent_at", "sink")

    def __init__(self, message: bytes, sink: Sink, done: "asyncio.Future[None]") -> None:
        self.message = message
        self.sink = sink
        self.done = done
        self.connection: Connection | None = None
        self.sent_at = 0.0
        self.first_byte_at = 0.0
        self.deadline = 0.0

    def pause(self) -> None:
        """The client reads too slowly: stop reading from the provider."""
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        if self.connection is not None:
            self.connection.resume()

    def abort(self, error: UpstreamError) -> None:
        """Give up now: the connection is cut and `done` fails with this error."""
        if self.connection is not None:
            self.connection.fail(error)
        elif not self.done.done():
            self.done.set_exception(error)


class Connection(asyncio.Protocol):
    """One TCP or TLS connection; carries one call at a time."""

    __slots__ = (
        "bytes_in",
        "call",
        "ended",
        "fresh",
        "head_done",
        "headers",
        "idle_since",
        "keep",
        "message_done",
        "parser",
        "paused",
        "pieces",
        "pool",
        "reused",
        "slot",
        "status",
        "transport",
        "until_close",
    )

    def __init__(self, slot: "Slot") -> None:
        self.slot = slot
        self.pool = slot.pool
        self.call: Call | None = None
        self.transport: asyncio.Transport | None = None
        self.ended = False
        self.reused = False
        self.idle_since = 0.0
        self.pieces: list[bytes] = []
        self.parser = httptools.HttpResponseParser(self)
        self.headers: Headers = []
        self.status = 0
        self.bytes_in = 0
        self.fresh = False
        self.head_done = False
        self.message_done = False
        self.until_close = False
        self.keep = False
        self.paused = False

    # --- sending

    def send(self, call: Call) -> None:
        assert self.transport is not None
        self.call = call
        call.connection = self
        call.sent_at = self.pool.loop.time()
        self.pool.busy.add(self)
        self.transport.write(call.message)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        call = self.call
        if call is None:
            self.close()  # bytes nobody asked for: the connection cannot be trusted
            return
        self.fresh = True
        if not self.bytes_in:
            call.first_byte_at = self.pool.loop.time()
            call.message = b""  # can no longer be needed; a long stream must not hold a large body
        self.bytes_in += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail(UpstreamGarbled("the provider switched protocols", sent=True))
            return
        except httptools.HttpParserCallbackError:
            raise  # a bug of ours: let the event loop report it and close the connection
        except httptools.HttpParserError as error:
            self.deliver(call)
            if self.message_done:
                self.keep = False
                self.complete(call)
            else:
                self.fail(UpstreamGarbled(f"the provider's answer is not HTTP: {error}", sent=True))
            return
        if self.pieces:
            self.deliver(call)
        if self.message_done:
            self.complete(call)
        elif not self.head_done and self.bytes_in > self.pool.options.max_head_bytes:
            self.fail(UpstreamGarbled(f"the answer's head exceeds {self.pool.options.max_head_bytes} bytes", sent=True))

    def eof_received(self) -> None:
        return None  # the transport closes; connection_lost decides what it meant

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        self.slot.forget(self)
        call = self.call
        if call is None:
            return
        if self.head_done and self.until_close and error is None:
            self.complete(call)
            return
        reason = f"the provider closed the connection ({error or 'end of stream'})"
        stale = self.reused and not self.bytes_in and self.pool.loop.time() - call.sent_at < self.pool.options.stale_retry_s
        self.detach(call)
        if stale and not call.done.done():
            self.slot.send_again(call)
        elif not call.done.done():
            call.done.set_exception(UpstreamClosed(reason, sent=True))

    # --- httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_done:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:
            return  # an interim answer; on_message_complete clears it
        self.status = status
        self.head_done = True
        self.keep = self.parser.should_keep_alive()
        names = {name for name, _ in self.headers}
        self.until_close = b"content-length" not in names and b"transfer-encoding" not in names and status not in (204, 304)
        assert self.call is not None
        self.call.sink.head(status, self.headers)

    def on_body(self, data: bytes) -> None:
        self.pieces.append(data)

    def on_message_complete(self) -> None:
        if self.head_done:
            self.message_done = True
        else:
            self.headers = []

    # --- ends

    def deliver(self, call: Call) -> None:
        pieces = self.pieces
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            call.sink.body(data)

    def complete(self, call: Call) -> None:
        """The answer is whole: the connection goes back to its slot or is closed."""
        keep = self.keep and not self.until_close and not self.ended
        self.detach(call)
        if not call.done.done():
            call.done.set_result(None)
        if keep:
            self.resume()
            self.reset_for_reuse()
            self.slot.give_back(self)
        else:
            self.close()

    def reset_for_reuse(self) -> None:
        self.headers = []
        self.bytes_in = 0
        self.fresh = self.head_done = self.message_done = self.until_close = self.keep = False
        self.reused = True

    def detach(self, call: Call) -> None:
        self.call = None
        call.connection = None
        self.pool.busy.discard(self)

    def fail(self, error: UpstreamError) -> None:
        call = self.call
        if call is not None:
            self.detach(call)
            if not call.done.done():
                call.done.set_exception(error)
        self.close()

    def close(self) -> None:
        """Cut the connection. Abort, not close: a graceful close waits for unsent bytes nobody wants."""
        if not self.ended:
            self.ended = True
            self.slot.forget(self)
            if self.transport is not None:
                self.transport.abort()

    # --- back-pressure

    def pause(self) -> None:
        if not self.paused and self.transport is not None and not self.ended:
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.paused and self.transport is not None:
            self.paused = False
            if not self.ended:
                self.transport.resume_reading()

    # --- time

    def overdue(self, now: float) -> UpstreamTimeout | None:
        """Called by the sweep. A call has one deadline at a time: first byte, then idle, and the total above both."""
        call, options = self.call, self.pool.options
        if call is None:
            return None
        if now - call.sent_at > options.total_timeout_s:
            return UpstreamTimeout(f"the answer was not whole within {options.total_timeout_s:g} s", phase="total")
        if self.fresh or self.paused or not call.deadline:
            self.fresh = False
            call.deadline = now + (options.idle_timeout_s if self.bytes_in else options.first_byte_timeout_s)
        elif now > call.deadline:
            phase = "idle" if self.bytes_in else "first_byte"
            limit_s = options.idle_timeout_s if self.bytes_in else options.first_byte_timeout_s
            return UpstreamTimeout(f"the provider was silent for {limit_s:g} s", phase=phase)
        return None


class Slot:
    """The connections of one origin: idle ones, how many are open, who waits."""

    def __init__(self, pool: "Pool", origin: Origin) -> None:
        self.pool = pool
        self.origin = origin
        self.idle: list[Connection] = []
        self.open: set[Connection] = set()
        self.connecting = 0
        self.waiting: deque[asyncio.Future[Connection | None]] = deque()
        self.max_connections = origin.max_connections or pool.options.max_connections_per_origin
        self.keep_alive_s = origin.keep_alive_s or pool.options.keep_alive_s

    def take_idle(self) -> Connection | None:
        """The most recently used idle connection, so that unused ones grow old and close."""
        while self.idle:
            connection = self.idle.pop()
            assert connection.transport is not None
            if not connection.ended and not connection.transport.is_closing():
                return connection
        return None

    def give_back(self, connection: Connection) -> None:
        if self.pool.closed:
            connection.close()
            return
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        connection.idle_since = self.pool.loop.time()
        self.idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """A connection is gone: its place is free for whoever waits."""
        if connection in self.open:
            self.open.discard(connection)
            if connection in self.idle:
                self.idle.remove(connection)
            self.wake_one()

    def wake_one(self) -> None:
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def acquire(self) -> Connection:
        """An idle connection, or a new one, or wait for either. Raises UpstreamUnreachable or UpstreamTimeout(connect)."""
        options = self.pool.options
        deadline = self.pool.loop.time() + options.connect_timeout_s
        while True:
            connection = self.take_idle()
            if connection is not None:
                return connection
            if len(self.open) + self.connecting < self.max_connections:
                return await self.connect(deadline)
            if len(self.waiting) >= options.max_waiting_per_origin:
                raise UpstreamUnreachable(
                    f"{self.max_connections} calls to {self.origin.host} are under way and "
                    f"{options.max_waiting_per_origin} wait (upstream.max_connections_per_origin, max_waiting_per_origin)"
                )
            given = await self.wait(deadline)
            if given is not None and not given.ended:
                return given

    async def wait(self, deadline: float) -> Connection | None:
        """Queue up: a connection handed over by who is done, or None when a place for a new one is free."""
        waiter: asyncio.Future[Connection | None] = self.pool.loop.create_future()
        self.waiting.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():  # handed over while we gave up: pass it on
                given = waiter.result()
                self.give_back(given) if given is not None else self.wake_one()
            waiter.cancel()
            if isinstance(error, TimeoutError):
                limit_s = self.pool.options.connect_timeout_s
                message = f"no free connection to {self.origin.host} within {limit_s:g} s"
                raise UpstreamTimeout(message, phase="connect", sent=False) from error
            raise

    async def connect(self, deadline: float) -> Connection:
        self.connecting += 1
        try:
            async with asyncio.timeout_at(deadline):
                connection = await self.pool.open_connection(self)
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"no connection to {self.origin.host}:{self.origin.port} within {self.pool.options.connect_timeout_s:g} s",
                phase="connect",
                sent=False,
            ) from error
        except ssl.SSLError as error:
            raise UpstreamUnreachable(f"TLS with {self.origin.host} failed: {error.reason or error}") from error
        except OSError as error:
            raise UpstreamUnreachable(f"cannot connect to {self.origin.host}:{self.origin.port}: {error.strerror or error}") from error
        finally:
            self.connecting -= 1
        if connection.ended:
            raise UpstreamUnreachable(f"{self.origin.host}:{self.origin.port} closed the connection at once")
        self.open.add(connection)
        return connection

    def send_again(self, call: Call) -> None:
        """The keep-alive race: once more, on a connection that is certainly new."""
        task = self.pool.loop.create_task(self._send_again(call))
        self.pool.tasks.add(task)
        task.add_done_callback(self.pool.tasks.discard)

    async def _send_again(self, call: Call) -> None:
        try:
            connection = await self.connect(self.pool.loop.time() + self.pool.options.connect_timeout_s)
        except UpstreamError as error:
            if not call.done.done():
                call.done.set_exception(error)
            return
        if call.done.done():  # the client left meanwhile
            self.give_back(connection)
        else:
            connection.send(call)


class Pool:
    """All connections to all providers of this process."""

    def __init__(self, options: PoolOptions) -> None:
        self.options = options
        self.loop = asyncio.get_running_loop()
        self.busy: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.closed = False
        self._slots: dict[Origin, Slot] = {}
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    async def start(self, permit: Permit, origin: Origin, message: bytes, sink: Sink) -> Call:
        """Send one request and return at once; the answer goes to the sink, `call.done` ends when it does.

        `permit` is the proof that money is held (or none is needed): without it nothing can be sent. `message` is the whole
        request. Raises UpstreamError before anything was sent; later failures come out of `call.done`.
        """
        assert permit is not None
        slot = self._slots.get(origin) or self._slots.setdefault(origin, Slot(self, origin))
        connection = slot.take_idle() or await slot.acquire()
        call = Call(message, sink, self.loop.create_future())
        connection.send(call)
        return call

    async def open_connection(self, slot: Slot) -> Connection:
        origin = slot.origin
        if origin.proxy is None:
            _, connection = await self.loop.create_connection(
                lambda: Connection(slot),
                origin.host,
                origin.port,
                ssl=origin.tls,
                server_hostname=origin.host if origin.tls else None,
            )
            return connection
        proxy = origin.proxy
        if origin.tls is None:
            _, connection = await self.loop.create_connection(lambda: Connection(slot), proxy.host, proxy.port)
            return connection
        return await tunnel(self.loop, slot, proxy)

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in list(self.busy):
            error = connection.overdue(now)
            if error is not None:
                connection.fail(error)
        for slot in self._slots.values():
            oldest = now - slot.keep_alive_s
            for connection in [c for c in slot.idle if c.idle_since < oldest or c.ended]:
                connection.close()
            slot.idle = [c for c in slot.idle if not c.ended]
        if not self.closed:
            self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def standing(self) -> dict[str, dict[str, int]]:
        """Connections per origin, for metrics and `doctor`."""
        return {
            f"{slot.origin.host}:{slot.origin.port}": {
                "open": len(slot.open),
                "idle": len(slot.idle),
                "waiting": len(slot.waiting),
            }
            for slot in self._slots.values()
        }

    def close(self) -> None:
        """Cut everything; calls under way end with UpstreamClosed."""
        self.closed = True
        self._sweeper.cancel()
        for task in list(self.tasks):
            task.cancel()
        for slot in self._slots.values():
            for connection in list(slot.open):
                connection.fail(UpstreamClosed("the gateway is shutting down", sent=True))


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


async def tunnel(loop: asyncio.AbstractEventLoop, slot: Slot, proxy: Proxy) -> Connection:
    """A TLS connection through an HTTP proxy (CONNECT, RFC 9110 §9.3.6)."""
    origin = slot.origin
    assert origin.tls is not None
    answered: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_connection(
        lambda: _ConnectAnswer(answered, slot.pool.options.max_head_bytes), proxy.host, proxy.port
    )
    try:
        target = f"{origin.host}:{origin.port}".encode()
        head = b"CONNECT " + target + b" HTTP/1.1\r\nhost: " + target + b"\r\n"
        if proxy.authorization:
            head += b"proxy-authorization: " + proxy.authorization + b"\r\n"
        transport.write(head + b"\r\n")
        status_line = await answered
        if status_line.split(b" ")[1:2] != [b"200"]:
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
