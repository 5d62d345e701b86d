"""The connections of one origin: reuse, a cap, a bounded queue, the keep-alive race. The rules are those of `pool`."""

import asyncio
import ssl
from collections import deque
from typing import TYPE_CHECKING

from tollhouse.terms.errors import UpstreamClosed, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from tollhouse.upstream.answer_form import MAX_FORMS, AnswerForm, learn
from tollhouse.upstream.connection import Call, Connection
from tollhouse.upstream.origin import Origin

if TYPE_CHECKING:
    from tollhouse.upstream.pool import Pool

CLOSING = "the gateway is shutting down"


class Slot:
    """The connections of one origin: idle ones, how many are open, who waits."""

    def __init__(self, pool: "Pool", origin: Origin) -> None:
        self.pool = pool
        self.origin = origin
        self.idle: list[Connection] = []
        self.open: set[Connection] = set()
        self.connecting = 0
        self.waiting: deque[asyncio.Future[Connection | None]] = deque()
        """Who is handed a connection, or None: the right to open one, already counted in `connecting`."""
        self.form: AnswerForm | None = None
        """Of its last whole answer; the next is probably like it."""
        self._forms: dict[tuple[bytes, ...], AnswerForm | None] = {}
        self.max_connections = origin.max_connections or pool.options.max_connections_per_origin
        self.keep_alive_s = origin.keep_alive_s or pool.options.keep_alive_s

    @property
    def unused(self) -> bool:
        """Nothing is open, on its way or waited for."""
        return not (self.open or self.connecting or self.waiting)

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
        """Hand a free place on; it counts as taken at once, so that no newcomer slips in before."""
        while self.waiting and not self.pool.closed and len(self.open) + self.connecting < self.max_connections:
            waiter = self.waiting.popleft()
            if not waiter.done():
                self.connecting += 1
                waiter.set_result(None)
                return

    def learn(self, data: bytes, status: int, names: tuple[bytes, ...], values: list[bytes]) -> None:
        """A whole answer that the parser has read in one piece: know the next by its form."""
        kind = (data[: data.find(b"\r")], *names)
        if kind not in self._forms and len(self._forms) < MAX_FORMS:
            self._forms[kind] = learn(data, status, names, values)
        self.form = self._forms.get(kind)

    def close(self) -> None:
        """The pool closes: calls under way and whoever waits end."""
        for connection in list(self.open):
            call = connection.call
            connection.fail(UpstreamClosed(CLOSING, sent=call is not None and call.sent_at > 0))
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_exception(UpstreamUnreachable(CLOSING))

    async def acquire(self) -> Connection:
        """An idle connection, a new one, or wait for either. Raises UpstreamUnreachable, UpstreamTimeout(connect)."""
        options = self.pool.options
        deadline = self.pool.loop.time() + options.connect_timeout_s
        while True:
            connection = self.take_idle()
            if connection is not None:
                return connection
            if self.pool.closed:
                raise UpstreamUnreachable(CLOSING)
            if len(self.open) + self.connecting < self.max_connections:
                self.connecting += 1
                return await self.connect(deadline)
            if len(self.waiting) >= options.max_waiting_per_origin:
                raise UpstreamUnreachable(
                    f"{self.max_connections} calls to {self.origin.host} are under way and "
                    f"{options.max_waiting_per_origin} wait (upstream.max_connections_per_origin, "
                    "max_waiting_per_origin)"
                )
            given = await self.wait(deadline)
            if given is None:
                return await self.connect(deadline)
            if not given.ended:
                return given

    async def wait(self, deadline: float) -> Connection | None:
        """Queue up: a connection handed over by who is done, or None when a place for a new one is free."""
        waiter: asyncio.Future[Connection | None] = self.pool.loop.create_future()
        self.waiting.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                given = waiter.result()  # handed over while we gave up: pass it on
                self.give_back(given) if given is not None else self.free_place()
            elif waiter in self.waiting:
                self.waiting.remove(waiter)
            if isinstance(error, TimeoutError):
                limit_s = self.pool.options.connect_timeout_s
                message = f"no free connection to {self.origin.host} within {limit_s:g} s"
                raise UpstreamTimeout(message, phase="connect", sent=False) from error
            raise

    def free_place(self) -> None:
        self.connecting -= 1
        self.wake_one()

    async def connect(self, deadline: float) -> Connection:
        """A new connection in a place that the caller has counted in `connecting`."""
        origin = self.origin
        at = origin.authority if origin.proxy is None else f"{origin.authority} through the proxy {origin.proxy.host}"
        try:
            async with asyncio.timeout_at(deadline):
                connection = await self.pool.open_connection(self)
            if connection.ended:
                raise UpstreamUnreachable(f"{at} closed the connection at once")
            if self.pool.closed:
                connection.close()
                raise UpstreamUnreachable(CLOSING)
        except BaseException as error:
            self.free_place()
            if isinstance(error, TimeoutError):
                limit_s = self.pool.options.connect_timeout_s
                raise UpstreamTimeout(
                    f"no connection to {at} within {limit_s:g} s", phase="connect", sent=False
                ) from error
            if isinstance(error, ssl.SSLError):
                why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
                raise UpstreamUnreachable(f"TLS with {at} failed: {why or error}") from error
            if isinstance(error, OSError):
                raise UpstreamUnreachable(f"cannot connect to {at}: {error.strerror or error}") from error
            raise
        self.connecting -= 1
        self.open.add(connection)
        return connection

    def may_send_again(self, call: Call) -> bool:
        """Not sent yet, or too lately for the provider to have begun to work on it."""
        if self.pool.closed:
            return False
        return not call.sent_at or self.pool.loop.time() - call.sent_at < self.pool.options.stale_retry_s

    def send_again(self, connection: Connection, call: Call) -> None:
        """The keep-alive race: once more, on a connection that is certainly new, in the place of the dead one."""
        self.open.discard(connection)
        self.connecting += 1
        task = self.pool.loop.create_task(self._send_again(call))
        self.pool.tasks.add(task)
        task.add_done_callback(self.pool.tasks.discard)

    async def _send_again(self, call: Call) -> None:
        try:
            connection = await self.connect(self.pool.loop.time() + self.pool.options.connect_timeout_s)
        except UpstreamError as error:
            error.sent = True  # the dead connection may have carried it to someone
            call.end(error)
            return
        except asyncio.CancelledError:
            call.abort(UpstreamClosed(CLOSING, sent=True))
            raise
        if call.ended:  # the client left meanwhile
            self.give_back(connection)
        else:
            connection.call = call
            call.connection = connection
            call.transmit()
