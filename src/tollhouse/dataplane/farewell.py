"""How an answer, and with it sometimes the client's connection, ends: in order, refused, broken off or overdue."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tollhouse.dataplane import reply
from tollhouse.dataplane.gate import BODY, HEAD, LINGER, Gate, Phase
from tollhouse.dataplane.visitor import Visitor


class Farewell(HttpToolsProtocol):
    """The half of `Edge` that says goodbye."""

    __slots__ = (
        "asgi_body_bytes",
        "client",
        "cycle",
        "deaf",
        "flow",
        "gate",
        "half_read",
        "head_bytes",
        "heads",
        "lacking_bytes",
        "lingered_bytes",
        "phase",
        "phase_tick",
        "pipeline",
        "rests_until",
        "running",
        "served",
        "server_state",
        "stalled_tick",
        "transport",
        "turning",
        "unsent_bytes",
    )
    """Of this class, of `Edge`, and those of uvicorn's that every call looks at: side by side, where a dictionary of
    fifty names has them in as many places, which are out of the processor's cache when this connection's turn comes.
    """

    gate: Gate
    phase: Phase
    phase_tick: int
    rests_until: int
    """The tick of the sweep before which nothing can be due."""
    deaf: bool
    """Nothing more is read from this client."""
    running: Any
    """The request whose turn it is: a Visitor or one of uvicorn's cycles. None, mostly, while
    nothing is owed.
    """
    cycle: Any
    """The request that is being read, or was last; None, mostly, once it is answered."""

    def set_phase(self, phase: Phase) -> None:
        self.phase = phase
        self.phase_tick = self.gate.ticks
        self.rests_until = 0

    def write(self, data: bytes) -> None:
        """Bytes for this client, behind those that still wait for the end of the turn."""
        self.gate.turn.write(self.transport, data)

    @property
    def working(self) -> bool:
        """An answer is owed."""
        return self.running is not None and not self.running.response_complete

    # --- ends of an answer

    def finish(self, visitor: Visitor) -> None:
        visitor.response_complete = True
        visitor.forget_body()
        if visitor.keep_alive:
            self.on_response_complete()
        elif visitor.body_pending or self.deaf:
            self.linger()
        else:
            self.transport.close()
            self.on_response_complete()

    def linger(self) -> None:
        """Say that no more comes, and throw away what still does: a close with unread bytes would reset the connection
        and lose the answer (RFC 9112 §9.6).
        """
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.set_phase(LINGER)
        self.flow.resume_reading()

    # --- what is wrong

    def broken(self, status: int, code: str, message: str) -> None:
        """Bytes that are not a request: answer, in order, whoever can still be answered, then close."""
        self.deaf = True
        half = self.cycle if self.phase is BODY else None
        if half is not None and half is self.running:
            self.broken_off(half, status, code, message)
            return
        waiting = [entry for entry in self.pipeline if entry[0] is not half]
        self.pipeline.clear()
        self.pipeline.extend(waiting)
        last = waiting[0][0] if waiting else self.running
        if last is not None and not last.response_complete:
            last.keep_alive = False  # answered first; then the connection closes
            self.flow.pause_reading()
        elif self.phase is not LINGER:  # else it has had its answer, and no more is written
            self.refuse_plain(status, message)

    def broken_off(self, half: Any, status: int, code: str, message: str) -> None:
        """The body of the request whose turn it is will not come to its end."""
        half.keep_alive = False
        if half.response_complete:
            self.linger()
        elif isinstance(half, Visitor):
            half.refuse(status, code, message)
        else:
            half.disconnected = True
            half.message_event.set()
            self.transport.close() if half.response_started else self.refuse_plain(status, message)

    def overdue(self) -> None:
        """The sweep found the phase's time is up."""
        if self.pipeline or (self.phase is HEAD and self.working):
            self.phase_tick = self.gate.ticks  # reading is paused or an answer is under way: not the client's fault
        elif self.phase is LINGER:
            self.transport.close()
        elif self.phase is HEAD:
            self.refuse_plain(408, f"the request head was not complete within {self.gate.options.head_timeout_s:g} s")
        else:
            self.broken(
                408, "body_timeout", f"The request body was not complete within {self.gate.options.body_timeout_s:g} s."
            )

    def refuse_plain(self, status: int, message: str) -> None:
        """Before a request is known there is no dialect: plain text, and the connection closes."""
        self.deaf = True
        self.write(reply.plain(status, message))
        self.linger()
