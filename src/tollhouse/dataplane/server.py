"""uvicorn's server with two things more: a shutdown that lets answers finish, and an owner-only Unix socket for
management.

uvicorn cancels tasks when its own timeout is over and does not wait for them, so the drain comes first: stop listening,
wait for every exchange up to `drain_s`, end the rest (each settles), and only then let uvicorn shut down what is left.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, cast

import uvicorn

from tollhouse.dataplane.exchange import Exchange
from tollhouse.dataplane.gate import Gate

log = logging.getLogger("tollhouse.server")

ABORT_GRACE_S = 2.0
"""How long exchanges have to settle and say goodbye after they were ended."""
POLL_S = 0.05


class Server(uvicorn.Server):
    """Runs until SIGTERM or SIGINT; a second one ends the drain."""

    def __init__(
        self,
        config: uvicorn.Config,
        gate: Gate,
        *,
        admin_socket: str,
        drain_s: float,
        on_ready: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(config)
        self._gate = gate
        self._admin_socket = admin_socket
        self._drain_s = drain_s
        self._on_ready = on_ready

    def ask_to_stop(self) -> None:
        """As SIGTERM does."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn's, but the signal is not raised again afterwards: that would end the process before the house is
        closed.
        """
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        protocol_class = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)

        def build() -> asyncio.Protocol:
            state: dict[str, Any] = self.lifespan.state
            return protocol_class(config=self.config, server_state=self.server_state, app_state=state, _loop=loop)

        self._remove_socket()  # left behind by a crash: the home's lock is ours, so nobody listens
        mask = os.umask(0o177)
        try:
            self.servers.append(await loop.create_unix_server(build, self._admin_socket))
        finally:
            os.umask(mask)
        await self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gate.draining = True
        self._gate.turn.end()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._drain()
        self._remove_socket()
        await super().shutdown(sockets)

    def _remove_socket(self) -> None:
        if os.path.lexists(self._admin_socket):
            os.unlink(self._admin_socket)

    async def _drain(self) -> None:
        """Wait for exchanges, those whose client left included; then end what is still there."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_s
        told = False
        while self._busy() and loop.time() < deadline and not self.force_exit:
            if not told:
                log.info(
                    "letting %d answers finish, for at most %g s (again Ctrl-C: end them now)",
                    self._busy(),
                    self._drain_s,
                )
                told = True
            await asyncio.sleep(POLL_S)
        for visitor in self._gate.working:
            if isinstance(visitor, Exchange):
                visitor.abort()
        deadline = loop.time() + ABORT_GRACE_S
        while self._busy() and loop.time() < deadline:  # noqa: ASYNC110  two conditions, no event says both
            await asyncio.sleep(POLL_S)

    def _busy(self) -> int:
        return max(len(self._gate.working), len(self.server_state.tasks))
