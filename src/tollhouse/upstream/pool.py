"""The one HTTP client that talks to providers: HTTP/1.1 over asyncio.Protocol, parsed by httptools (llhttp).

Rules
1. Bytes flow by callbacks: a `Call` gets the head, then the body in the pieces the network gave, and no coroutine wakes
   per piece. All pieces of one read are joined, so a busy stream costs one write for many events.
2. Time is kept by one sweep a pool, not by timers per call: the sweep looks at every call four times a second.
3. A connection is reused when the answer ended cleanly, both sides keep it alive and nothing came behind the answer.
   A reused connection that turns out closed before a byte of the answer came is the keep-alive race of RFC 9112 §9.3.1:
   the call is sent once more on a fresh connection, but only if the end came within `stale_retry_s` of sending; later
   it may have been work, and is the caller's to judge.
4. Every failure is an UpstreamError that says whether a byte may have been sent.
5. No redirects, no cookies, no decompression. TLS verifies the certificate and the name.
6. An origin with a guard (a user's own endpoint) is connected to by addresses that the guard has looked at.
"""

import asyncio
import ssl
from collections.abc import Callable

import msgspec

from tollhouse.terms.errors import UpstreamUnreachable
from tollhouse.terms.holds import Permit
from tollhouse.upstream.connection import Call, Connection
from tollhouse.upstream.guard import AddressGuard
from tollhouse.upstream.origin import Origin
from tollhouse.upstream.slot import Slot
from tollhouse.upstream.tunnel import tunnel

SWEEP_S = 0.25
"""How often deadlines are looked at: every timeout is at most this much late."""
OWN_ENDPOINTS = "own endpoints"
"""What `standing` calls all of them together."""


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


def at_once(permit: Permit, call: Call) -> None:
    """Send it without waiting for anything."""
    call.transmit()


class Pool:
    """All connections to all providers of this process. `depart` has a call sent (`Call.transmit`) once its permit
    allows.
    """

    def __init__(self, options: PoolOptions, depart: Callable[[Permit, Call], None] = at_once) -> None:
        self.options = options
        self._depart = depart
        self.loop = asyncio.get_running_loop()
        self.busy: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.closed = False
        self._slots: dict[Origin, Slot] = {}
        self._retired: set[Origin] = set()
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def start(self, permit: Permit, origin: Origin, call: Call) -> "asyncio.Task[None] | None":
        """Send it: now if a connection is free, else by the Task that is to be awaited. The call is told of the answer.

        `permit` is the proof that money is held (or none is needed): without it nothing can be sent. The Task raises
        UpstreamError before anything was sent; of later failures the call is told. Who no longer wants to wait for the
        Task gives the call up.
        """
        assert permit is not None
        slot = self._slots.get(origin) or self._slots.setdefault(origin, Slot(self, origin))
        connection = slot.take_idle()
        if connection is None:
            return self.loop.create_task(self._start_later(slot, permit, call))
        if call.ended:
            slot.give_back(connection)
        else:
            connection.call = call  # which this connection is for alone from now on
            call.connection = connection
            depart = self._depart
            depart(permit, call)
        return None

    async def _start_later(self, slot: Slot, permit: Permit, call: Call) -> None:
        """In a Task of its own: the timeouts of `acquire` need one around them, and who calls here may have none."""
        slot = self._slots.setdefault(slot.origin, slot)  # it may have been forgotten since `start`
        connection = await slot.acquire()
        if call.ended:  # given up meanwhile
            slot.give_back(connection)
        else:
            connection.call = call
            call.connection = connection
            self._depart(permit, call)

    async def open_connection(self, slot: Slot) -> Connection:
        origin = slot.origin
        if origin.guard is not None:
            return await self._open_guarded(slot, origin.guard)
        if origin.proxy is None:
            return await self._connect(slot, origin.host)
        proxy = origin.proxy
        if origin.tls is None:
            _, connection = await self.loop.create_connection(lambda: Connection(slot), proxy.host, proxy.port)
            return connection
        return await tunnel(self.loop, slot, proxy, origin.host)

    async def _open_guarded(self, slot: Slot, guard: AddressGuard) -> Connection:
        """To an address that was looked at, and not to the name; the first that answers."""
        origin = slot.origin
        if origin.tls is None:
            raise UpstreamUnreachable(f"{origin.authority} is a user's own endpoint, and those are called by TLS alone")
        *others, last = await guard.addresses(origin.host, origin.port)
        for address in others:
            try:
                return await self._open_at(slot, address)
            except ssl.SSLError:
                raise  # it answered, and is not who it should be
            except OSError:
                continue
        return await self._open_at(slot, last)

    async def _open_at(self, slot: Slot, address: str) -> Connection:
        proxy = slot.origin.proxy
        if proxy is None:
            return await self._connect(slot, address)
        return await tunnel(self.loop, slot, proxy, address)

    async def _connect(self, slot: Slot, where: str) -> Connection:
        origin = slot.origin
        _, connection = await self.loop.create_connection(
            lambda: Connection(slot),
            where,
            origin.port,
            ssl=origin.tls,
            server_hostname=origin.host if origin.tls else None,
        )
        return connection

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
        for origin in [origin for origin, slot in self._slots.items() if slot.unused and self._may_go(origin)]:
            self._retired.discard(origin)
            del self._slots[origin]
        if not self.closed:
            self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def _may_go(self, origin: Origin) -> bool:
        """There are as many users' own endpoints as users: what is not in use is forgotten."""
        return origin.guard is not None or origin in self._retired

    def retire(self, origin: Origin) -> None:
        """Nobody will call it any more: calls under way end as they would, then all of it is forgotten."""
        slot = self._slots.get(origin)
        if slot is not None:
            self._retired.add(origin)
            for connection in list(slot.idle):
                connection.close()

    def standing(self) -> dict[str, dict[str, int]]:
        """Connections per origin, for metrics and `doctor`. Users' own endpoints are nobody else's to see: one sum."""
        found: dict[str, dict[str, int]] = {}
        for origin, slot in self._slots.items():
            name = f"{origin.host}:{origin.port}" if origin.guard is None else OWN_ENDPOINTS
            counts = found.setdefault(name, {"open": 0, "idle": 0, "waiting": 0})
            counts["open"] += len(slot.open)
            counts["idle"] += len(slot.idle)
            counts["waiting"] += len(slot.waiting)
        return found

    def close(self) -> None:
        """Cut everything; calls under way end with UpstreamClosed."""
        self.closed = True
        self._sweeper.cancel()
        for task in list(self.tasks):
            task.cancel()
        for slot in self._slots.values():
            slot.close()
