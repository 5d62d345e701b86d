"""The doors' shapes, where two real implementations exist or will: who calls knows only these.

Money   `Ledger`  is the database of one process today; leases of several slot in behind the same calls.
Rates   `Limiter` is this process's memory today; Valkey slots in behind the same calls (hence `Ticket.pending`).
Secrets `Source` is the environment, a file, a helper, a HashiCorp Vault; a cloud's secret manager is one more file.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from tollhouse.rules.limits import Room
from tollhouse.terms.events import Refused, Settlement
from tollhouse.terms.people import Budget, Limits, Team, User
from tollhouse.terms.sessions import Session


class LimitHolder(msgspec.Struct, frozen=True):
    """Whose limits: `name` is unique over all holders, such as `user:alice` or `key:key_x`."""

    name: str
    limits: Limits


class Ticket(Protocol):
    """A place taken in every limit that applies; given back once, by the first `settle`."""

    @property
    def pending(self) -> Awaitable[None] | None:
        """None: the place is taken. Else it is once this was awaited, which raises Refusal as `take` does; then
        there is nothing to give back.
        """

    def settle(self, tokens_used: int) -> None:
        """End of the call: frees the parallel place and corrects the token estimate. Never raises; a second call does
        nothing.
        """

    def remaining(self) -> "LimitStanding | None":
        """Room left in the tightest request limit at the time the ticket was taken; None without request limits."""


class LimitStanding(msgspec.Struct, frozen=True, gc=False):
    """For `x-ratelimit-*` headers."""

    limit: int
    remaining: int
    reset_s: float


class Limiter(Protocol):
    """Admits or refuses by rate; all holders or none are charged."""

    def take(self, holders: Sequence[LimitHolder], tokens_estimate: int) -> Ticket:
        """Raises Refusal (429, `rate_limited`, with scope, limit and retry_after_s) when any limit is full. Who must
        ask another process for that says so by the ticket's `pending`.
        """

    async def room(self, holder: LimitHolder) -> Sequence[Room]:
        """What each of the holder's limits leaves at this instant, for people to look at; nothing is taken."""


class Ledger(Protocol):
    """The authority of money: entries and what is posted change in one transaction."""

    async def ship(self, settlements: Sequence[Settlement], refused: Sequence[Refused]) -> None:
        """Insert ledger entries (once per attempt id), add to `posted`, insert request rows. Raises StorageError;
        repeating is harmless.
        """


class BudgetStanding(msgspec.Struct, frozen=True):
    """A budget at this instant, in its own unit."""

    budget: Budget
    posted: int
    held: int
    window_start_s: int
    resets_at_s: int | None

    @property
    def remaining(self) -> int:
        return self.budget.limit - self.posted - self.held


class BudgetReader(Protocol):
    """Live state of budgets, for people to look at."""

    def standing(self, budget: Budget) -> BudgetStanding:
        """The current window of this budget."""


class Reading(msgspec.Struct, frozen=True):
    """A secret as it was read just now.

    lifetime_s  how long it is good from now on; None: until somebody says otherwise
    again_s     when to look again, where that is earlier than its lifetime asks; None: no earlier
    """

    secret: str
    lifetime_s: float | None = None
    again_s: float | None = None

    def __repr__(self) -> str:
        return f"Reading(lifetime_s={self.lifetime_s}, again_s={self.again_s})"


class Source(Protocol):
    """Where one secret is read from, as often as somebody asks. `name` is for people and tells nothing of the secret.
    Everything about a read is bounded: its time, its size.
    """

    @property
    def name(self) -> str: ...

    async def read(self) -> Reading:
        """Never empty, without white space around it. Raises SourceError."""


class CallerStanding(msgspec.Struct, frozen=True):
    """Who a call would belong to, and what is left to them: of each budget, and of each limit in force.

    `key_id` is that of a virtual key, or says by what else they are known (a session, an issuer of tokens).
    """

    user: User
    key_id: str
    team: Team | None
    plan_id: str
    budgets: tuple[BudgetStanding, ...]
    rooms: tuple[Room, ...]


WhoCalls = Callable[[str, Sequence[tuple[bytes, bytes]]], Awaitable[CallerStanding]]
"""From method and headers (names in lower case) of a request. Raises Refusal."""


class SessionFinder(Protocol):
    """Who is signed in, in this process's memory: never waits."""

    def find(self, token: str) -> Session | None:
        """The session of a cookie's value, and that it is in use; None when there is none, or it is over."""


StatusReader = Callable[[], dict[str, Any]]
"""Facts of the running data plane for `doctor` and `/api/v1/status`."""
