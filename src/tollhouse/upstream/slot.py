"""The connections of one origin: reuse, a cap, a bounded queue, the keep-alive race. The rules are those of `pool`."""

import asyncio
import ssl
from collections import deque
from typing import TYPE_CHECKING

from tollhouse.terms.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from tollhouse.upstream.connection import Call, Connection
from tollhouse.upstream.origin import Origin

if TYPE_CHECKING:
    from tollhouse.upstream.pool import Pool


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
        """An idle connection, a new one, or wait for either. Raises UpstreamUnreachable, UpstreamTimeout(connect)."""
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
                    f"{options.max_waiting_per_origin} wait (upstream.max_connections_per_origin, "
                    "max_waiting_per_origin)"
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
                f"no connection to {self.origin.host} within {self.pool.options.connect_timeout_s:g} s",
                phase="connect",
                sent=False,
            ) from error
        except ssl.SSLError as error:
            raise UpstreamUnreachable(f"TLS with {self.origin.host} failed: {error.reason or error}") from error
        except OSError as error:
            raise UpstreamUnreachable(
                f"cannot connect to {self.origin.host}:{self.origin.port}: {error.strerror or error}"
            ) from error
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
