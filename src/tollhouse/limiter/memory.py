"""The limits of one process, in its memory. The rules are in rules/limits; here are the clocks and the holders.

Nothing is awaited between the check and the charge, so calls cannot slip in between. All holders are checked before
any is charged. Memory is bounded by the holders that count: after each new holder two old ones are looked at, and
those with nothing in any window are dropped. What is counted is lost with the process; `restore` puts the counts of
day and month back.
"""

import math
import time
from collections.abc import Callable, Sequence
from itertools import islice

from tollhouse.ports import LimitHolder, LimitStanding, Ticket
from tollhouse.rules.budgets import zone_of
from tollhouse.rules.limits import MINUTE_S, Chunk, Full, HolderState, Room, refusal
from tollhouse.terms.errors import Refusal
from tollhouse.terms.people import NO_LIMITS

_LOOKED_AT_PER_NEW_HOLDER = 2


class FreeTicket:
    """For a call that no limit holds for: nothing to give back."""

    __slots__ = ()
    pending = None

    def settle(self, tokens_used: int) -> None:
        """Nothing was taken."""

    def remaining(self) -> None:
        return None


FREE_TICKET = FreeTicket()


class MemoryTicket:
    """A place in the limits of one or more holders, and their tightest request limit at the time it was taken."""

    __slots__ = ("_chunks", "_estimate", "_standing", "_states")
    pending = None

    def __init__(self, states: list[HolderState], tokens_estimate: int, now_s: float, wall_s: float) -> None:
        """Charge a call that all of these were found to have room for."""
        self._states: Sequence[HolderState] = states
        self._estimate = tokens_estimate
        self._chunks: list[Chunk] = []
        """Where the estimate stands."""
        chunks, standing = self._chunks, None
        for state in states:
            state.in_flight += 1
            requests, tokens = state.requests, state.tokens
            if tokens is not None:
                chunks.append(tokens.charge(now_s, tokens_estimate))
            if requests is not None:
                requests.charge(now_s, 1)
                free = requests.limit - requests.total
                if standing is None or free < standing.remaining:
                    standing = LimitStanding(requests.limit, free, MINUTE_S)
            for calendar in state.calendars:
                calendar.count += 1
                free = calendar.limit - calendar.count
                if standing is None or free < standing.remaining:
                    standing = LimitStanding(calendar.limit, free, calendar.end_s - wall_s)
        self._standing = standing

    def settle(self, tokens_used: int) -> None:
        """Free the parallel places and put the real tokens where the estimate stands. A second call does nothing."""
        states = self._states
        if states:
            self._states = ()
            for state in states:
                state.in_flight -= 1
            difference = tokens_used - self._estimate
            for chunk in self._chunks:
                home = chunk.home
                if home is not None:  # as `correct`, of nearly all
                    home.total += difference
                    chunk.weight += difference
                else:
                    chunk.correct(difference)

    def remaining(self) -> LimitStanding | None:
        """`reset_s` is when the limit would be wholly free again if nobody came."""
        return self._standing


class MemoryLimiter:
    """The port `Limiter` for one process and one event loop.

    timezone    of days and months, an IANA name; ValueError for an unknown one
    monotonic   seconds that never step back; `wall` seconds since 1970 UTC
    """

    def __init__(
        self,
        *,
        timezone: str = "UTC",
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        zone_of(timezone)
        self._timezone = timezone
        self._monotonic = monotonic
        self._wall = wall
        self._states: dict[str, HolderState] = {}
        self._opened = 0
        """Holders that are new since idle ones were looked for."""

    def __len__(self) -> int:
        """Holders kept in memory."""
        return len(self._states)

    def take(self, holders: Sequence[LimitHolder], tokens_estimate: int) -> Ticket:
        """As the port says. `tokens_estimate` is at least 0."""
        monotonic, wall = self._monotonic, self._wall  # a method is sought first where a call follows a name
        now_s, wall_s = monotonic(), wall()
        known = self._states
        states: list[HolderState] = []
        for holder in holders:
            state = known.get(holder.name)
            if state is None or state.limits is not holder.limits:
                state = self._meet(holder)
                if state is None:
                    continue
            if not state.has_room(now_s, wall_s, tokens_estimate):
                self._drop_idle(now_s, wall_s)
                raise self._refusal(holders, tokens_estimate, now_s, wall_s)
            states.append(state)
        if not states:
            return FREE_TICKET
        ticket = MemoryTicket(states, tokens_estimate, now_s, wall_s)
        if self._opened:
            self._drop_idle(now_s, wall_s)  # not before the charge: a holder looks idle until then
        return ticket

    def _meet(self, holder: LimitHolder) -> HolderState | None:
        """The state of a holder who is new or whose limits have changed; None if there are none to keep to."""
        state = self._states.get(holder.name)
        if state is not None:
            state.adopt(holder.limits)
        elif holder.limits != NO_LIMITS:
            state = self._states[holder.name] = HolderState(holder.limits, self._timezone)
            self._opened += 1
        return state

    async def room(self, holder: LimitHolder) -> list[Room]:
        """As the port says."""
        state = self._states.get(holder.name) or HolderState(NO_LIMITS, self._timezone)
        return state.room(holder.limits, self._monotonic(), self._wall())

    def restore(self, holder: LimitHolder, *, requests_today: int, requests_this_month: int) -> None:
        """Put back what was counted before a restart; without effect on a limit the holder does not have."""
        if holder.limits.requests_per_day is None and holder.limits.requests_per_month is None:
            return
        state = self._states.get(holder.name)
        if state is None:
            state = self._states[holder.name] = HolderState(holder.limits, self._timezone)
        for calendar, count in ((state.day, requests_today), (state.month, requests_this_month)):
            if calendar is not None:
                calendar.has_room(self._wall())  # opens the window that holds now
                calendar.count += count

    def _drop_idle(self, now_s: float, wall_s: float) -> None:
        """Look at two old holders for each new one; who is busy goes to the end of those to be looked at."""
        states, opened = self._states, self._opened
        self._opened = 0
        for name in list(islice(states, opened * _LOOKED_AT_PER_NEW_HOLDER)):
            state = states.pop(name)
            if not state.is_idle(now_s, wall_s):
                states[name] = state

    def _refusal(self, holders: Sequence[LimitHolder], tokens_estimate: int, now_s: float, wall_s: float) -> Refusal:
        """Names the limit that will be full longest, so that a retry after its wait finds room in all of them."""
        found: list[tuple[str, Full]] = []
        for holder in holders:
            state = self._states.get(holder.name) or HolderState(holder.limits, self._timezone)
            if state.limits is not holder.limits:
                state.adopt(holder.limits)
            found += ((holder.name, full) for full in state.full(now_s, wall_s, tokens_estimate))
        return refusal(*max(found, key=_wait), tokens_estimate)


def _wait(found: tuple[str, Full]) -> float:
    wait_s = found[1].wait_s
    return math.inf if wait_s is None else wait_s
