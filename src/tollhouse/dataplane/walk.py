"""The ways of one call, tried one after another while no byte of the answer has reached the client.

Before the next one begins the last one is settled (a provider that refuses a key has done no work, so it is voided) and
its place in the limits given back; where both ways take theirs of the same limit, it is kept and not taken twice.
"""

from typing import TYPE_CHECKING

from tollhouse.dataplane.admission import admit, estimate_tokens
from tollhouse.dataplane.attempts import ended, send
from tollhouse.dataplane.free_calls import count_tokens
from tollhouse.dataplane.page_chat import as_pinned
from tollhouse.dataplane.payers import Payers, Said, Ways
from tollhouse.dataplane.plan import Attempt
from tollhouse.dataplane.relay import Relay
from tollhouse.ports import LimitHolder, LimitStanding, Ticket
from tollhouse.rules.metering import NOT_SENT, error_status
from tollhouse.terms.ask import Ask
from tollhouse.terms.credentials import PaidBy
from tollhouse.terms.errors import Refusal, VaultError
from tollhouse.terms.names import Endpoint

if TYPE_CHECKING:
    from tollhouse.dataplane.exchange import Exchange

OWN = PaidBy.OWN.value.encode()
CHAT = Endpoint.CHAT.value
COUNT_TOKENS = Endpoint.COUNT_TOKENS


class BothTickets:
    """Places of one call in the limits of two ways; both are taken."""

    __slots__ = ("earlier", "later", "pending")

    def __init__(self, earlier: Ticket, later: Ticket) -> None:
        self.earlier = earlier
        self.later = later
        self.pending = None

    def settle(self, tokens_used: int) -> None:
        self.earlier.settle(tokens_used)
        self.later.settle(tokens_used)

    def remaining(self) -> LimitStanding | None:
        return self.later.remaining() or self.earlier.remaining()


class Walk:
    """Of one exchange. `face` and `attempt` are those of the way that is tried now."""

    __slots__ = (
        "_asked",
        "_kept",
        "_number",
        "_payers",
        "_planned",
        "_trouble",
        "_ways",
        "attempt",
        "exchange",
        "face",
    )

    def __init__(self, exchange: "Exchange", payers: Payers, attempt: Attempt) -> None:
        """Raises Refusal: nobody may pay."""
        self.exchange = exchange
        self._payers = payers
        self._planned = attempt
        self._ways: Ways | None = None
        """Asked for once there is need of a second."""
        self._number = 1
        self._kept: tuple[LimitHolder, ...] = ()
        """Whose places the call has from an earlier way."""
        self._trouble = ""
        """What went wrong with an earlier way, in words."""
        self._asked: tuple[list[bytes], Ask | None] | None = None
        """What a page asked for, where an earlier way was to send no more than is pinned."""
        self.face, self.attempt = payers.best(attempt, exchange.plane.open_key)
        if exchange.plane.chat is not None:
            self._recast()

    async def tell(self) -> None:
        """As the story of a call that only one key may pay, with more than one try. Raises Refusal, UpstreamError."""
        exchange = self.exchange
        plane = exchange.plane
        while True:
            face, attempt, ask = self.face, self.attempt, exchange.ask
            assert ask is not None, "it was read before it was planned"
            try:
                admit(face, attempt)
                if exchange.route.endpoint is COUNT_TOKENS:
                    await count_tokens(exchange, face, attempt)
                    return
                ticket = self._take(estimate_tokens(ask))
                if ticket.pending is not None:
                    await ticket.pending
                hold = plane.accounts.reserve(face, ask, attempt, exchange, f"-{self._number}")
                if plane.accounts.strict:
                    await plane.accounts.synced(hold)
                exchange.hold = hold
                exchange.relay = relay = plane.captured(exchange) if face.capture_days else Relay(exchange)
                await send(exchange, hold, relay, attempt, ask)
                ended(exchange, relay, attempt)
            except Refusal as refusal:
                if not self._goes_on(refusal):
                    raise
                continue
            if relay.status < 300:
                if attempt.credential_id:
                    plane.credential_worked(attempt.credential_id)
            elif self._goes_on_after(relay):
                continue
            exchange.finish(relay)
            return

    def _take(self, tokens_estimate: int) -> Ticket:
        """As the limiter does; what the call has from an earlier way is not taken again. Raises Refusal (429)."""
        exchange, holders = self.exchange, self.face.holders
        earlier = exchange.ticket
        if earlier is None:
            ticket = exchange.ticket = exchange.plane.limiter.take(holders, tokens_estimate)
            return ticket
        taken = exchange.plane.limiter.take([one for one in holders if one not in self._kept], tokens_estimate)
        exchange.ticket = BothTickets(earlier, taken)
        return taken

    # --- what ended a way, and whether there is another one

    def _goes_on(self, refusal: Refusal) -> bool:
        """After a refusal of ours; the last one says what went wrong before."""
        if self._turn(refusal.code, ""):
            return True
        refusal.message += self._trouble
        if self._number > 1 and self.exchange.hold is None:
            refusal.attempt = self._number  # it stands in the log instead of the one before
        return False

    def _goes_on_after(self, relay: Relay) -> bool:
        """After the provider's answer."""
        if relay.begun or relay.status < 400:
            return False
        whose = "Your own key" if self.attempt.payer == OWN else "The key of this gateway"
        return self._turn(relay.status, f" {whose} was refused by {self.attempt.provider.name} ({relay.status}).")

    def _turn(self, said: Said, trouble: str) -> bool:
        provider, taken = self.attempt.provider.name, self.face.holders
        try:
            if self._ways is None:
                self._ways = self._payers.ways(self._planned, self.exchange.plane.open_key)
                next(self._ways)  # the one that was tried
            self.face, self.attempt = self._ways.send(said)
        except StopIteration:
            return False
        except VaultError as error:
            self._trouble = f" Your own key for {provider} cannot be used: {error}."
            return False
        self._trouble = trouble
        self._end_way(said)
        self._keep(taken)
        self._recast()
        return True

    def _keep(self, taken: tuple[LimitHolder, ...]) -> None:
        """Of the places taken, those that the next way takes too; when there are none, they are all given back."""
        ticket = self.exchange.ticket
        self._kept = () if ticket is None else tuple([one for one in taken if one in self.face.holders])
        if ticket is not None and not self._kept:
            ticket.settle(0)
            self.exchange.ticket = None

    def _end_way(self, said: Said) -> None:
        """Settle what it held; its ticket is another matter."""
        exchange = self.exchange
        ticket, exchange.ticket = exchange.ticket, None
        if isinstance(said, int):
            exchange.settle(error_status(said), f"upstream_{said}", said)
        else:
            exchange.settle(NOT_SENT, said)
        exchange.ticket = ticket
        if exchange.hold is not None:
            self._number += 1
        exchange.hold = exchange.relay = None

    def _recast(self) -> None:
        """A page's chat may be longer than pinned only where the user's own key pays."""
        exchange = self.exchange
        if exchange.route.endpoint_name != CHAT:
            return
        if self.attempt.payer != OWN:
            self._asked = exchange.body, exchange.ask
            as_pinned(exchange)
        elif self._asked is not None:
            exchange.body, exchange.ask = self._asked
