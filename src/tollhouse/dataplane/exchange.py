"""The story of one exchange, top to bottom in `tell`:

    bytes in ─ identify ─ admit ─ plan ─ reserve ─ attempt ─ relay ─ settle ─ bytes out

`arrived` identifies as soon as the head is there, so that a stranger's body is never collected; `tell` runs when the
body is complete. Money is settled exactly once, by whoever learns first how the call ended: the relay on the closing
event, or `finally`.
"""

import asyncio
import logging
from time import monotonic

from tollhouse.dataplane import answer_headers, notes
from tollhouse.dataplane.admission import admit, estimate_tokens
from tollhouse.dataplane.attempts import ended, send
from tollhouse.dataplane.edge import Edge
from tollhouse.dataplane.free_calls import answer_models, count_tokens
from tollhouse.dataplane.head import RequestHead
from tollhouse.dataplane.holds import MoneyHold
from tollhouse.dataplane.identify import NotYet, Unwelcome, identify
from tollhouse.dataplane.page_chat import recast
from tollhouse.dataplane.plane import Plane
from tollhouse.dataplane.relay import NOTHING_SEEN, Relay
from tollhouse.dataplane.snapshot import Principal
from tollhouse.dataplane.visitor import Visitor
from tollhouse.dataplane.walk import Walk
from tollhouse.ports import Ticket
from tollhouse.rules.metering import CLIENT_GONE, COMPLETE, CUT_BY_UPSTREAM, NOT_SENT, Ending, error_status
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import Refusal, UpstreamClosed, UpstreamError, UpstreamTimeout
from tollhouse.terms.events import Settlement
from tollhouse.terms.names import Endpoint

COUNT_TOKENS, MODELS = Endpoint.COUNT_TOKENS, Endpoint.MODELS

log = logging.getLogger("tollhouse.dataplane")


class Exchange(Visitor):
    """One data-plane request and its answer."""

    __slots__ = (
        "ask",
        "at_ns",
        "dialect",
        "gate",
        "hold",
        "patience",
        "plane",
        "principal",
        "provider_name",
        "relay",
        "request_id",
        "route",
        "ticket",
    )

    def __init__(self, plane: Plane, edge: Edge, head: RequestHead) -> None:
        Visitor.__init__(self, edge, head)  # `super()` costs as much as all of this
        self.plane = plane
        self.gate = edge.gate
        assert head.route is not None
        self.route = head.route
        self.dialect = plane.dialects[head.route.dialect]
        now_ns, request_id = plane.now_ns, plane.request_id
        at_ns = self.at_ns = now_ns()
        self.request_id = request_id(at_ns)
        self.principal: Principal | None = None
        self.ask: Ask | None = None
        self.ticket: Ticket | None = None
        self.hold: MoneyHold | None = None
        self.relay: Relay | None = None
        self.patience: asyncio.TimerHandle | None = None
        """Ends a call that is read on though its client is gone."""
        self.provider_name = ""

    # --- THE STORY

    def arrived(self) -> None:
        """identify: who is it. A head that may not go on is answered before its body is read."""
        head = self.head
        proof = head.proof
        if proof.version == self.plane.directory.version and not self.gate.draining:
            self.principal = proof.principal  # as of the same head before, which passed all that is asked below
            return
        try:
            if head.method not in self.route.methods:
                self.answer_preflight() if head.method == b"OPTIONS" else self.refuse_method()
                return
            if self.gate.draining:
                raise Refusal(503, "shutting_down", "Shutting down; try again in a moment.", retry_after_s=1)
            if head.encoded:
                raise Refusal(
                    415, "unsupported_encoding", "Send the body uncompressed: its cost is bounded by what it says."
                )
            self.principal = identify(self.plane.schemes, head)
        except Refusal as refusal:
            self.answer_refusal(refusal)
        except NotYet as not_yet:
            not_yet.claim.add_done_callback(self.known)

    def known(self, claim: "asyncio.Future[Principal]") -> None:
        """identify, where somebody had to be asked first: now it is known who it is, or that it is nobody."""
        if self.disconnected or self.response_complete:
            return
        error = claim.exception()
        if error is None:
            self.principal = claim.result()
            if self.body_done:
                self.begin()
        elif isinstance(error, Refusal):
            self.answer_refusal(error)
        else:
            log.error("a call ended in a bug of ours", exc_info=error)
            self.failed()

    def completed(self) -> None:
        """identify anew: while the body came, the key may have been revoked, or its user given another plan."""
        if self.principal is None:
            return  # it is still being asked
        try:
            self.principal = identify(self.plane.schemes, self.head)
        except Refusal as refusal:
            self.answer_refusal(refusal)
        except NotYet as not_yet:
            self.principal = None
            not_yet.claim.add_done_callback(self.known)
        self.begin()

    async def tell(self, principal: Principal) -> None:
        plane = self.plane
        try:
            ask = self.ask = self.dialect.read(self.whole_body())
            attempt = plane.planner.plan(ask.model, self.route.endpoint)[0]
            if principal.payers is not None:
                await Walk(self, principal.payers, attempt).tell()
                return
            admit(principal, attempt)
            if self.route.endpoint is COUNT_TOKENS:
                await count_tokens(self, principal, attempt)
                return
            ticket = self.ticket = plane.limiter.take(principal.holders, estimate_tokens(ask))
            if ticket.pending is not None:
                await ticket.pending
            hold = plane.accounts.reserve(principal, ask, attempt, self)
            if plane.accounts.strict:
                await plane.accounts.synced(hold)
            self.hold = hold
            self.relay = relay = plane.captured(self) if principal.capture_days else Relay(self)
            await send(self, hold, relay, attempt, ask)
            ended(self, relay, attempt)
            self.finish(relay)
        except Refusal as refusal:
            self.settle(NOT_SENT, refusal.code, refusal.status)
            self.answer_refusal(refusal)
        except UpstreamError as error:
            self.upstream_failed(error)
        finally:
            if self.hold is not None and self.hold.settlement is None:
                self.settle(CUT_BY_UPSTREAM, "internal_error")
            self.release()

    def finish(self, relay: Relay) -> None:
        """The answer is whole: settle, then let its last bytes go."""
        if relay.begun:
            if relay.broke_off():
                raise UpstreamClosed("the provider closed the connection within the stream", sent=True)
            relay.close()
            ending = COMPLETE if relay.seen.complete or not relay.streaming else CUT_BY_UPSTREAM
            self.settle(ending if relay.status < 300 else error_status(relay.status), relay.seen.failed)
            self.end_stream()
        else:
            body = relay.whole()
            ok = relay.status < 300
            settlement = self.settle(
                COMPLETE if ok else error_status(relay.status), "" if ok else f"upstream_{relay.status}", relay.status
            )
            headers = relay.forwarded() + answer_headers.own(self, settlement)
            self.answer(relay.status, headers, body)

    # --- settle

    def settle(self, ending: Ending, code: str = "", status: int | None = None) -> Settlement | None:
        """Post the real cost and release the hold; only the first call counts. A plain function: nothing can come
        between.
        """
        hold, relay, plane = self.hold, self.relay, self.plane
        if hold is None:
            return None
        if hold.settlement is not None:
            return hold.settlement
        started_at = self.started_at
        duration_us = int((monotonic() - started_at) * 1e6)
        if relay is None:
            settlement = plane.accounts.settle(hold, NOTHING_SEEN, ending, False, status or 0, code, duration_us)
        else:
            first_byte_at = relay.first_byte_at
            settlement = plane.accounts.settle(
                hold,
                relay.seen,
                ending,
                ending is CLIENT_GONE and self.cancel_stops_billing(hold),
                relay.status if status is None else status,
                code,
                duration_us,
                int((first_byte_at - started_at) * 1e6) if first_byte_at else 0,
                relay.upstream_request_id,
                relay.relayed_bytes,
            )
        plane.telemetry.settled(settlement)
        if self.ticket is not None:
            self.ticket.settle(settlement.settle.tokens)
        return settlement

    def cancel_stops_billing(self, hold: MoneyHold) -> bool:
        """Whether cutting this call off ends the provider's bill at what was seen: so providers say of streams."""
        relay, ask = self.relay, self.ask
        if relay is None or relay.unreadable or not hold.attempt.provider.cancel_stops_billing:
            return False
        return relay.streaming if relay.status else ask is not None and ask.stream

    def release(self) -> None:
        """The end, however it came: a place in a limit that no settlement gave back is given back."""
        if self.disconnected:
            self.gate.left_behind.discard(self)
        if self.patience is not None:
            self.patience.cancel()  # it would keep all of this in memory for nothing
        if self.hold is None and self.ticket is not None:
            self.ticket.settle(0)
        if self.response_complete:
            self.relay = None  # it knows us too: without the circle both are freed at once, without the collector

    def upstream_failed(self, error: UpstreamError) -> None:
        """The provider or the way to it failed, or we cut it because the client left."""
        relay = self.relay
        gone = self.disconnected
        ending = NOT_SENT if not error.sent else CLIENT_GONE if gone else CUT_BY_UPSTREAM
        status = 504 if isinstance(error, UpstreamTimeout) else 502
        begun = relay is not None and relay.begun
        self.settle(ending, "client_gone" if gone else error.code, None if begun else 0 if gone else status)
        if gone:
            if self.hold is None:
                self.note(0, "client_gone")
            return
        refusal = Refusal(
            status, error.code, f"The provider {self.provider_name} did not answer: {error}.", scope="upstream"
        )
        if relay is None or not relay.begun:
            self.answer_refusal(refusal)
        elif relay.streaming and relay.at_boundary:
            _, body = self.dialect.refusal(refusal, self.request_id)
            self.write_stream(b"event: error\ndata: " + body + b"\n\n")
            self.end_stream()
        else:
            self.cut_stream()

    # --- what the edge tells

    def begin(self) -> None:
        principal = self.principal
        if principal is None or self.response_complete:
            return
        if self.route.aside:
            if self.route.endpoint is MODELS:
                answer_models(self, principal)
                return
            if not recast(self):
                return
        self.story = self.tell(principal).__await__()
        self.go_on()

    def failed(self) -> None:
        log.error("request %s failed here", self.request_id)
        if self.relay is not None and self.relay.begun:
            self.cut_stream()
        else:
            self.answer_refusal(
                Refusal(500, "internal_error", "Something went wrong here; the operator's log says what.")
            )

    def departed(self) -> None:
        """The client is gone: stop the provider's meter where that works, else read on a while to know the cost."""
        if self.story is None:
            if self.principal is not None:
                self.note(0, "client_gone")
            return
        self.gate.left_behind.add(self)  # a shutdown waits until its story is over
        relay, hold = self.relay, self.hold
        if relay is None:
            return
        relay.resume()
        gone = UpstreamClosed("the client is gone", sent=True)
        if hold is None or not relay.sent_at or (hold.settlement is None and self.cancel_stops_billing(hold)):
            relay.abort(gone)
        else:
            self.patience = self.edge.loop.call_later(self.plane.options.drain_s, relay.abort, gone)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer_refusal(Refusal(status, code, message))

    def pause(self) -> None:
        if self.relay is not None:
            self.relay.pause()

    def resume(self) -> None:
        if self.relay is not None:
            self.relay.resume()

    def tick(self, now: float) -> None:
        if self.relay is not None:
            self.relay.tick(now)

    def abort(self) -> None:
        """The drain is over: end this answer now; `tell` settles it."""
        relay = self.relay
        if relay is not None:
            if relay.sent_at:
                self.settle(CLIENT_GONE, "shutting_down")
            relay.abort(UpstreamClosed("the gateway is shutting down", sent=True))

    # --- answers of our own

    def answer_refusal(self, refusal: Refusal) -> None:
        """Refuse in the caller's dialect and note it in the request log."""
        if isinstance(refusal, Unwelcome):
            self.principal = refusal.principal
        self.plane.telemetry.refused(self.route.endpoint, refusal)
        status, body = self.dialect.refusal(refusal, self.request_id)
        if self.hold is None:
            self.note(status, refusal.code, attempts=refusal.attempt)
        if refusal.close:
            self.keep_alive = False
        self.answer(status, answer_headers.of_refusal(refusal, self.request_id) + answer_headers.own(self), body)

    def refuse_method(self) -> None:
        allowed = ", ".join(method.decode() for method in self.route.methods)
        if self.head.read.get(b"upgrade", b"").lower() == b"websocket":
            message = f"There are no WebSockets here; answers are streamed over HTTP. Use {allowed}."
            raise Refusal(426, "upgrade_required", message, should_retry=False, close=True)
        raise Refusal(405, "method_not_allowed", f"Use {allowed} here.")

    def answer_preflight(self) -> None:
        """CORS: only origins on the list, without credentials, for an hour."""
        origin = self.head.read.get(b"origin")
        if origin is None or origin not in self.plane.options.cors_origins:
            raise Refusal(403, "origin_not_allowed", "This origin is not on the list (listen.cors_origins).")
        self.answer(204, answer_headers.preflight(origin, b", ".join(self.route.methods)), b"")

    def note(self, status: int, code: str, credential_id: str = "", attempts: int = 0) -> None:
        """A row of the request log for a call that never held money, or whose last attempt did not."""
        self.plane.note_refused(notes.row(self, status, code, credential_id, attempts))
