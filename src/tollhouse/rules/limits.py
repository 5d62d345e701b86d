"""How often, how much, how many at once: the limits of one holder (a user or a key), decided without clock or await.

Any window. "N per minute" means at most N in *any* 60 s, not in each minute of the clock: a call at time `a` counts
while now - a < 60. What was admitted is kept as a queue of chunks, oldest first; a chunk has a weight and the time of
its latest call, and its whole weight counts until that latest call is 60 s old. So the count may be too high, never too
low:
    N ≤ 1,000   every call is a chunk of its own: exact.
    N > 1,000   calls share a chunk while it weighs at most N // 100 and spans at most 0.6 s. Only the oldest chunk can
                be partly out of the window, so the count is too high by less than 1 % of N: a call is never refused
                when the calls of the last 60 s and itself weigh no more than 99 % of N. However large N is, a few
                hundred chunks are enough.

Tokens. A call reserves an estimate when it is admitted, and when it ends its real figure replaces the estimate in the
same chunk: tokens count in the window the call was *admitted* in. At each admission the open estimates and the real
figures of all calls of the last 60 s, with the new estimate, are within N. Two things follow. Real figures above their
estimates can carry a window past N; nothing is admitted until it is back. And a chunk that such corrections made
heavier than N // 100 counts up to 0.6 s (1 % of the window) too long.

Calendar. Requests per day and month are counted from midnight to midnight of the given time zone. When the wall clock
steps back, the window stays. A refused call is charged nowhere.

A changed limit holds from the next call on, over the history there is; for a minute after N was lowered, its chunks may
still be as coarse as the former N. A kind of limit that is taken away forgets its history.
"""

import math
from collections import deque
from typing import Final

import msgspec

from tollhouse.rules.budgets import window_of
from tollhouse.terms.errors import Refusal
from tollhouse.terms.people import BudgetWindow, Limits

MINUTE_S: Final = 60.0
EXACT_UP_TO: Final = 1_000
"""Largest N that is counted call by call; at most 1,000 chunks of about 90 bytes."""
GRAIN_S: Final = MINUTE_S / 100
COMPACT_ABOVE: Final = 2_048
"""Chunks after which a queue is looked through for neighbours that fit into one."""
PARALLEL_RETRY_S: Final = 1.0
"""Nobody knows when a place among parallel calls gets free; this is a suggestion, not a promise."""


class Full(msgspec.Struct, frozen=True):
    """A limit without room. `wait_s` is when it has room if nobody else comes; None: never for this call."""

    kind: str
    """A field of Limits."""
    limit: int
    wait_s: float | None


class Room(msgspec.Struct, frozen=True):
    """What one limit leaves. `reset_s` is when it is wholly free again if nobody comes; None: when calls end."""

    kind: str
    """A field of Limits."""
    limit: int
    remaining: int
    reset_s: float | None


class Chunk:
    """Calls counted as one. `home` is its queue, None once it left the window; `into` the chunk it was merged with."""

    __slots__ = ("closes_s", "home", "into", "latest_s", "weight")

    def __init__(self, home: "Rolling | None", now_s: float, weight: int) -> None:
        self.home = home
        self.into: Chunk | None = None
        self.latest_s = now_s
        self.closes_s = now_s + GRAIN_S
        """No later call is counted in."""
        self.weight = weight

    def correct(self, difference: int) -> None:
        """Replace an estimate by the real figure; nothing to do once the chunk has left the window."""
        home = self.home
        if home is not None:
            home.total += difference
            self.weight += difference
        elif self.into is not None:
            self._merged().correct(difference)

    def _merged(self) -> "Chunk":
        chunk = self
        while chunk.into is not None:
            chunk = chunk.into
        return chunk


NO_CHUNK: Final = Chunk(None, -math.inf, 0)
"""Older than everything and at home nowhere: never counted in, and a correction of it changes nothing."""


class Rolling:
    """At most `limit` of weight in any 60 s. Call `has_room`, then, without a pause between, `charge`."""

    __slots__ = ("chunks", "compact_above", "forget_at_s", "limit", "newest", "shared_weight", "total")

    def __init__(self, limit: int) -> None:
        self.chunks: deque[Chunk] = deque()
        self.total = 0
        self.newest = NO_CHUNK
        """Where a call may be counted too; it may have left the window, then it is too old for that."""
        self.forget_at_s = -math.inf
        """No chunk leaves the window before. -inf: not known."""
        self.compact_above = COMPACT_ABOVE
        self.adopt(limit)

    def adopt(self, limit: int) -> None:
        self.limit = limit
        self.shared_weight = limit // 100 if limit > EXACT_UP_TO else 0

    def has_room(self, now_s: float, weight: int) -> bool:
        """Forgetting only makes room: what is already left needs no look at the time."""
        if self.total + weight <= self.limit:
            return True
        self.forget_before(now_s)
        return self.total + weight <= self.limit

    def charge(self, now_s: float, weight: int) -> Chunk:
        """Count a call that was found to have room; the answer is where its correction goes."""
        if now_s >= self.forget_at_s:
            self.forget_before(now_s)
        self.total += weight
        newest = self.newest
        shared = newest.weight + weight
        if shared <= self.shared_weight and now_s <= newest.closes_s:
            newest.weight = shared
            newest.latest_s = now_s
            return newest
        chunks = self.chunks
        if len(chunks) >= self.compact_above:
            self._compact()
            chunks = self.chunks
        chunk = self.newest = Chunk(self, now_s, weight)
        chunks.append(chunk)
        return chunk

    def wait_s(self, now_s: float, weight: int) -> float | None:
        """Seconds until there is room for this weight if nobody else comes; None if it exceeds the limit by itself."""
        excess = self.total + weight - self.limit
        for chunk in self.chunks:
            if excess <= 0:
                break
            excess -= chunk.weight
            if excess <= 0:
                return max(0.0, chunk.latest_s + MINUTE_S - now_s)
        return 0.0 if excess <= 0 else None

    def standing(self, now_s: float) -> tuple[int, float]:
        """The weight that counts now, and in how many seconds none of it will."""
        self.forget_before(now_s)
        return self.total, self.chunks[-1].latest_s + MINUTE_S - now_s if self.chunks else 0.0

    def forget_before(self, now_s: float) -> None:
        """Let go of the chunks that are out of the window that ends now."""
        chunks = self.chunks
        while chunks and now_s - chunks[0].latest_s >= MINUTE_S:
            gone = chunks.popleft()
            gone.home = None
            self.total -= gone.weight
        self.forget_at_s = chunks[0].latest_s + MINUTE_S if chunks else -math.inf

    def _compact(self) -> None:
        """Merge neighbours that corrections have made light, into the earlier object at the later time."""
        kept: deque[Chunk] = deque()
        for chunk in self.chunks:
            if kept:
                head = kept[-1]
                light = head.weight == 0 or head.weight + chunk.weight <= self.shared_weight
                if light and chunk.latest_s <= head.closes_s:
                    head.weight += chunk.weight
                    head.latest_s = chunk.latest_s
                    chunk.home, chunk.into = None, head
                    continue
            kept.append(chunk)
        self.chunks = kept
        self.compact_above = max(COMPACT_ABOVE, 2 * len(kept))


class CalendarCount:
    """At most `limit` requests from one midnight of the time zone to the one that ends the day or month."""

    __slots__ = ("count", "end_s", "limit", "timezone", "window")

    def __init__(self, limit: int, window: BudgetWindow, timezone: str) -> None:
        self.limit = limit
        self.window = window
        self.timezone = timezone
        self.count = 0
        self.end_s = 0

    def has_room(self, wall_s: float) -> bool:
        if wall_s >= self.end_s:
            self.count = 0
            self.end_s = window_of(self.window, self.timezone, wall_s, None)[1] or 0
        return self.count < self.limit


class HolderState:
    """All limits of one holder and what counts against them. `now_s` is monotonic, `wall_s` counts from 1970 UTC."""

    __slots__ = ("calendars", "day", "in_flight", "limits", "month", "parallel", "requests", "timezone", "tokens")

    def __init__(self, limits: Limits, timezone: str) -> None:
        self.timezone = timezone
        self.in_flight = 0
        self.requests: Rolling | None = None
        self.tokens: Rolling | None = None
        self.day: CalendarCount | None = None
        self.month: CalendarCount | None = None
        self.adopt(limits)

    def adopt(self, limits: Limits) -> None:
        """Hold to these limits from now on."""
        self.limits = limits
        self.parallel = limits.parallel_requests
        self.requests = _rolling(self.requests, limits.requests_per_minute)
        self.tokens = _rolling(self.tokens, limits.tokens_per_minute)
        self.day = self._calendar(self.day, limits.requests_per_day, BudgetWindow.DAY)
        self.month = self._calendar(self.month, limits.requests_per_month, BudgetWindow.MONTH)
        self.calendars = tuple(calendar for calendar in (self.day, self.month) if calendar is not None)

    def has_room(self, now_s: float, wall_s: float, tokens: int) -> bool:
        """Whether every limit has room for a call of this estimate. Charges nothing: a ticket does."""
        parallel, requests, rolling = self.parallel, self.requests, self.tokens
        if parallel is not None and self.in_flight >= parallel:
            return False
        # the first half of each `has_room` stands here as well: nearly every call needs no more than that
        if requests is not None and requests.total >= requests.limit and not requests.has_room(now_s, 1):
            return False
        if rolling is not None and rolling.total + tokens > rolling.limit and not rolling.has_room(now_s, tokens):
            return False
        for calendar in self.calendars:  # noqa: SIM110  # nearly always empty, and then a loop is the shortest way
            if not calendar.has_room(wall_s):
                return False
        return True

    def full(self, now_s: float, wall_s: float, tokens: int) -> list[Full]:
        """Every limit without room for this call, with the time it will have some."""
        found = []
        if self.parallel is not None and self.in_flight >= self.parallel:
            found.append(Full("parallel_requests", self.parallel, PARALLEL_RETRY_S if self.parallel > 0 else None))
        for kind, rolling, weight in (
            ("requests_per_minute", self.requests, 1),
            ("tokens_per_minute", self.tokens, tokens),
        ):
            if rolling is not None and not rolling.has_room(now_s, weight):
                found.append(Full(kind, rolling.limit, rolling.wait_s(now_s, weight)))
        for kind, calendar in (("requests_per_day", self.day), ("requests_per_month", self.month)):
            if calendar is not None and not calendar.has_room(wall_s):
                found.append(Full(kind, calendar.limit, calendar.end_s - wall_s if calendar.limit > 0 else None))
        return found

    def room(self, limits: Limits, now_s: float, wall_s: float) -> list[Room]:
        """What these limits would leave by the history there is; they are those in force, or about to be. Changes no
        answer of anything else here.
        """
        found = []
        for kind, rolling in (("requests_per_minute", self.requests), ("tokens_per_minute", self.tokens)):
            limit: int | None = getattr(limits, kind)
            if limit is not None:
                used, reset_s = (0, 0.0) if rolling is None else rolling.standing(now_s)
                found.append(Room(kind, limit, max(0, limit - used), reset_s))
        if limits.parallel_requests is not None:
            free = max(0, limits.parallel_requests - self.in_flight)
            found.append(Room("parallel_requests", limits.parallel_requests, free, None))
        for kind, calendar, window in (
            ("requests_per_day", self.day, BudgetWindow.DAY),
            ("requests_per_month", self.month, BudgetWindow.MONTH),
        ):
            limit = getattr(limits, kind)
            if limit is not None:
                used = calendar.count if calendar is not None and wall_s < calendar.end_s else 0
                end_s = window_of(window, self.timezone, wall_s, None)[1] or wall_s
                found.append(Room(kind, limit, max(0, limit - used), end_s - wall_s))
        return found

    def is_idle(self, now_s: float, wall_s: float) -> bool:
        """Whether forgetting this holder changes no answer: nothing is under way, nothing counts in any window."""
        for rolling in (self.requests, self.tokens):
            if rolling is not None:
                rolling.forget_before(now_s)
        return (
            self.in_flight == 0
            and not (self.requests and self.requests.chunks)
            and not (self.tokens and self.tokens.chunks)
            and not (self.day and self.day.count and wall_s < self.day.end_s)
            and not (self.month and self.month.count and wall_s < self.month.end_s)
        )

    def _calendar(self, known: CalendarCount | None, limit: int | None, window: BudgetWindow) -> CalendarCount | None:
        if limit is None:
            return None
        if known is None:
            return CalendarCount(limit, window, self.timezone)
        known.limit = limit
        return known


def _rolling(known: Rolling | None, limit: int | None) -> Rolling | None:
    if limit is None:
        return None
    if known is None:
        return Rolling(limit)
    known.adopt(limit)
    return known


def refusal(holder_name: str, full: Full, tokens_estimate: int) -> Refusal:
    """The 429 for a holder named as in `LimitHolder` (`user:alice`). Waits are rounded up to the next millisecond."""
    scope = holder_name.replace(":", " ", 1)
    what = f"{full.limit:,} {full.kind.replace('_', ' ')}"
    details = {"limit": full.limit, "limit_kind": full.kind}
    if full.wait_s is None:
        if full.limit <= 0:
            why = f"The limit of {scope} is {what}: it admits no call at all."
        else:
            why = (
                f"This call is estimated at {tokens_estimate:,} tokens, more than the whole limit of {scope}, {what}: "
                "it can never be admitted. Send less or lower the output cap."
            )
        return Refusal(429, "rate_limited", why, scope=scope, should_retry=False, details=details)
    wait_s = math.ceil(full.wait_s * 1000 + 1e-3) / 1000
    why = f"The limit of {scope}, {what}, is reached. Try again in {wait_s:,.1f} s."
    return Refusal(429, "rate_limited", why, scope=scope, retry_after_s=wait_s, details=details)
