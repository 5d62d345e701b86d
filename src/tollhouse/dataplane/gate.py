"""What all client connections share: options, counters, and the one sweep that keeps time for all of them."""

import asyncio
from collections.abc import Callable
from enum import IntEnum
from math import ceil
from typing import TYPE_CHECKING

import msgspec

from tollhouse.dataplane.head import RequestHead
from tollhouse.dataplane.turn import Turn
from tollhouse.dataplane.visitor import Visitor
from tollhouse.terms.names import Endpoint

if TYPE_CHECKING:
    from tollhouse.dataplane.edge import Edge

SWEEP_S = 0.25
"""How often deadlines are looked at: no timeout is early, and none as much as two of these late."""
SLICE = 200
"""Connections looked at in one go: about 0.3 ms."""
LINGER_S = 2.0
"""How long the rest of a refused body is still read and thrown away."""
STALL_BYTES = 16 * 1024
"""A client that has this much to take, and does not within the stall timeout, is not reading."""


class Phase(IntEnum):
    IDLE = 0
    HEAD = 1
    BODY = 2
    WORK = 3
    LINGER = 4


IDLE, HEAD, BODY, WORK, LINGER = Phase
"""A member by its own name costs a fifth of one by the name of its class (CPython 3.11)."""


class EdgeOptions(msgspec.Struct, frozen=True):
    """Numbers of the edge; every one is a setting under `listen`."""

    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    keep_alive_s: float = 75.0
    stall_timeout_s: float = 120.0
    max_head_bytes: int = 65_536
    max_body_bytes: int = 32 * 1024 * 1024
    max_buffered_bytes: int = 1024 * 1024 * 1024
    max_connections: int = 20_000
    closed: frozenset[Endpoint] = frozenset((Endpoint.CHAT,))
    """Of the data plane's, those that are not open here."""


class Gate:
    """What all connections share: options, counters, the sweep, and how a visitor is made."""

    def __init__(
        self,
        options: EdgeOptions,
        make_visitor: Callable[["Edge", RequestHead], Visitor],
        loop: asyncio.AbstractEventLoop,
        turn: Turn,
    ) -> None:
        self.options = options
        self.turn = turn
        self.make_visitor = make_visitor
        self.loop = loop
        self.edges: set[Edge] = set()
        self.left_behind: set[Visitor] = set()
        """Calls whose client is gone, but whose story is not over: their cost is still being learnt."""
        self.ticks = 0
        self.buffered_bytes = 0
        self.draining = False
        self.refused_connections = 0
        self._limits = {
            HEAD: ceil(options.head_timeout_s / SWEEP_S),
            BODY: ceil(options.body_timeout_s / SWEEP_S),
            LINGER: ceil(LINGER_S / SWEEP_S),
        }
        self._keep_alive_ticks = ceil(options.keep_alive_s / SWEEP_S)
        self._stall_ticks = ceil(options.stall_timeout_s / SWEEP_S)
        idle = min(self._keep_alive_ticks, self._limits[HEAD])
        self._soonest = (idle, self._limits[HEAD], self._limits[BODY], -1, -1)
        """By phase: so many ticks after its beginning nothing can be due."""
        self._to_sweep: list[Edge] = []
        self._pause_s = SWEEP_S
        self._timer: asyncio.TimerHandle | None = loop.call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Look at every connection once in SWEEP_S; at many of them in slices, so that no call waits for thousands."""
        if not self._to_sweep:
            self.ticks += 1
            self._to_sweep = list(self.edges)
            self._pause_s = SWEEP_S / max(1, -(-len(self._to_sweep) // SLICE))
        now = self.loop.time()
        ticks = self.ticks
        for edge in self._to_sweep[-SLICE:]:
            if edge.rests_until > ticks:
                continue  # nearly always, of very many
            if edge in self.edges and not self._rests(edge):
                self._look_at(edge, now)
        del self._to_sweep[-SLICE:]
        self._timer = self.loop.call_later(self._pause_s, self._sweep)

    def _rests(self, edge: "Edge") -> bool:
        """Whether nothing is due, nothing is answered and nothing waits to be taken. Then it need not be looked at
        before something can be due: whatever begins meanwhile ends the rest (`Edge.set_phase`, `Edge.whole`).
        """
        phase, running = edge.phase, edge.running
        due = edge.phase_tick + self._soonest[phase] + 1
        rests = (
            due > self.ticks
            and (running is None or running.response_complete or (phase is BODY and running is edge.cycle))
            and not edge.flow.write_paused
            and not edge.transport.is_closing()
        )
        if rests:
            edge.rests_until = due
        return rests

    def _look_at(self, edge: "Edge", now: float) -> None:
        age = self.ticks - edge.phase_tick
        phase = edge.phase
        if (edge.flow.write_paused or edge.transport.is_closing()) and self.stalled(edge):
            edge.transport.abort()
        elif edge.working and isinstance(edge.running, Visitor):
            edge.running.tick(now)
        if phase is WORK:
            if not edge.working:
                edge.set_phase(IDLE)
        elif phase is IDLE:
            if age > (self._keep_alive_ticks if edge.served else self._limits[HEAD]):
                edge.transport.close()
        elif age > self._limits[phase]:
            edge.overdue()

    def stalled(self, edge: "Edge") -> bool:
        """Whether a client that has bytes to take took less than STALL_BYTES of them for too long."""
        unsent_bytes = edge.transport.get_write_buffer_size()
        if edge.unsent_bytes - unsent_bytes >= STALL_BYTES or unsent_bytes > edge.unsent_bytes:
            edge.unsent_bytes = unsent_bytes
            edge.stalled_tick = self.ticks
        return self.ticks - edge.stalled_tick > self._stall_ticks

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def working(self) -> list[Visitor]:
        """Data-plane requests being received or answered right now, or left behind by their client."""
        running = [edge.running for edge in self.edges if edge.working and isinstance(edge.running, Visitor)]
        return [*running, *self.left_behind]
