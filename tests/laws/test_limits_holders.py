"""The limiter with users and keys over a clock of its own: all or none, truthful waits, bounded memory."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.limiter.memory import MemoryLimiter
from tollhouse.ports import Limiter, LimitHolder, LimitStanding, Ticket
from tollhouse.terms.errors import Refusal
from tollhouse.terms.people import NO_LIMITS, Limits


class Clock:
    """Both clocks of the limiter, moved by hand."""

    def __init__(self, wall_s: float = 1_800_000_000.0) -> None:
        self.now_s = 1000.0
        self.wall_s = wall_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall_s += seconds


def limiter_at(clock: Clock, timezone: str = "UTC") -> MemoryLimiter:
    return MemoryLimiter(timezone=timezone, monotonic=lambda: clock.now_s, wall=lambda: clock.wall_s)


def take(limiter: MemoryLimiter, *holders: LimitHolder, tokens: int = 0) -> Ticket:
    ticket = limiter.take(holders, tokens)
    assert ticket.pending is None
    return ticket


def refused(limiter: MemoryLimiter, *holders: LimitHolder, tokens: int = 0) -> Refusal:
    with pytest.raises(Refusal) as caught:
        take(limiter, *holders, tokens=tokens)
    assert (caught.value.status, caught.value.code) == (429, "rate_limited")
    return caught.value


def user(**limits: int) -> LimitHolder:
    return LimitHolder("user:alice", Limits(**limits))


def key(**limits: int) -> LimitHolder:
    return LimitHolder("key:key_x", Limits(**limits))


def test_it_is_a_limiter() -> None:
    limiter: Limiter = MemoryLimiter()
    ticket = limiter.take((user(requests_per_minute=2),), 10)
    ticket.settle(10)
    assert (ticket.pending, ticket.remaining()) == (None, LimitStanding(2, 1, 60.0))


def test_an_unknown_time_zone_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="unknown time zone"):
        MemoryLimiter(timezone="Mars/Olympus")


def test_holders_without_limits_leave_no_trace() -> None:
    limiter = limiter_at(Clock())
    ticket = take(limiter, LimitHolder("user:a", NO_LIMITS), LimitHolder("key:k", Limits()), tokens=10**9)
    ticket.settle(10**9)
    assert ticket.remaining() is None
    assert len(limiter) == 0


@pytest.mark.parametrize("kind", ["requests_per_minute", "tokens_per_minute", "requests_per_day", "parallel_requests"])
def test_a_refused_call_charges_nobody(kind: str) -> None:
    limiter = limiter_at(Clock())
    narrow, wide = {kind: 1}, {kind: 2}
    take(limiter, key(**narrow), tokens=1)
    for order in ((user(**wide), key(**narrow)), (key(**narrow), user(**wide))):
        for _ in range(3):
            assert refused(limiter, *order, tokens=1).scope == "key key_x"
    for _ in range(2):
        take(limiter, user(**wide), tokens=1)
    assert refused(limiter, user(**wide), tokens=1).scope == "user alice"


def test_a_user_is_limited_over_the_sum_of_the_keys() -> None:
    limiter = limiter_at(Clock())
    alice = user(requests_per_minute=3)
    for number in range(3):
        take(limiter, alice, LimitHolder(f"key:{number}", Limits(requests_per_minute=3)))
    assert "user alice, 3 requests per minute" in refused(limiter, alice, key(requests_per_minute=3)).message


def test_parallel_places_are_given_back_once() -> None:
    limiter = limiter_at(Clock())
    both = (user(parallel_requests=3), key(parallel_requests=2))
    first, _ = take(limiter, *both), take(limiter, *both)
    assert refused(limiter, *both).details == {"limit": 2, "limit_kind": "parallel_requests"}
    first.settle(0)
    first.settle(0)
    take(limiter, *both)
    assert refused(limiter, *both).retry_after_s == pytest.approx(1.0, abs=0.01)
    take(limiter, both[0])
    assert refused(limiter, both[0]).scope == "user alice"


def test_a_parallel_limit_counts_calls_that_were_under_way_before_it_was_set() -> None:
    limiter = limiter_at(Clock())
    under_way = take(limiter, user(requests_per_minute=10))
    refused(limiter, user(requests_per_minute=10, parallel_requests=1))
    under_way.settle(0)
    take(limiter, user(requests_per_minute=10, parallel_requests=1))


def test_the_real_tokens_replace_the_estimate() -> None:
    clock = Clock()
    limiter = limiter_at(clock)
    alice = user(tokens_per_minute=1_000)
    ticket = take(limiter, alice, tokens=900)
    refused(limiter, alice, tokens=200)
    ticket.settle(100)
    ticket.settle(0)
    clock.advance(30)
    take(limiter, alice, tokens=900)
    assert refused(limiter, alice, tokens=1).retry_after_s == pytest.approx(30, abs=0.01)
    clock.advance(30)
    take(limiter, alice, tokens=100)
    refused(limiter, alice, tokens=1)


def test_more_tokens_than_estimated_hold_up_the_next_call() -> None:
    clock = Clock()
    limiter = limiter_at(clock)
    alice = user(tokens_per_minute=1_000)
    take(limiter, alice, tokens=10).settle(5_000)
    assert refused(limiter, alice, tokens=0).retry_after_s == pytest.approx(60, abs=0.01)
    clock.advance(60)
    take(limiter, alice, tokens=1_000)


def test_an_estimate_above_the_whole_limit_is_told_so() -> None:
    limiter = limiter_at(Clock())
    refusal = refused(limiter, user(tokens_per_minute=1_000), tokens=1_001)
    assert "1,001 tokens" in refusal.message
    assert "1,000 tokens per minute" in refusal.message
    assert refusal.retry_after_s is None
    assert refusal.should_retry is False


@pytest.mark.parametrize("kind", ["requests_per_minute", "requests_per_day", "requests_per_month", "parallel_requests"])
def test_a_limit_of_nothing_admits_nothing(kind: str) -> None:
    refusal = refused(limiter_at(Clock()), user(**{kind: 0}))
    assert "admits no call at all" in refusal.message
    assert (refusal.retry_after_s, refusal.should_retry) == (None, False)


@pytest.mark.parametrize(
    ("kind", "noon", "midnight"),
    [
        ("requests_per_day", (2026, 3, 29, 12), (2026, 3, 30)),
        ("requests_per_month", (2026, 10, 30, 12), (2026, 11, 1)),
    ],
)
def test_days_and_months_are_those_of_the_zone(kind: str, noon: tuple[int, ...], midnight: tuple[int, ...]) -> None:
    zone = ZoneInfo("Europe/Berlin")
    clock = Clock(datetime(*noon, tzinfo=zone).timestamp())  # type: ignore[arg-type, misc]
    end = datetime(*midnight, tzinfo=zone).timestamp()  # type: ignore[arg-type, misc]
    limiter = limiter_at(clock, "Europe/Berlin")
    alice = user(**{kind: 2})
    first = take(limiter, alice)
    assert first.remaining() == LimitStanding(2, 1, end - clock.wall_s)
    take(limiter, alice)
    assert refused(limiter, alice).retry_after_s == pytest.approx(end - clock.wall_s, abs=0.01)
    clock.advance(end - clock.wall_s - 1)
    refused(limiter, alice)
    clock.advance(1)
    take(limiter, alice)


def test_a_wall_clock_that_steps_back_gives_no_second_day() -> None:
    clock = Clock(datetime(2026, 11, 22, 0, 0, 1, tzinfo=ZoneInfo("UTC")).timestamp())
    limiter = limiter_at(clock)
    take(limiter, user(requests_per_day=1))
    clock.wall_s -= 5
    refused(limiter, user(requests_per_day=1))


def test_counts_of_day_and_month_are_restored() -> None:
    limiter = limiter_at(Clock())
    alice = user(requests_per_day=10, requests_per_month=100)
    limiter.restore(alice, requests_today=8, requests_this_month=50)
    limiter.restore(key(requests_per_minute=5), requests_today=8, requests_this_month=50)
    ticket = take(limiter, alice)
    standing = ticket.remaining()
    assert standing is not None
    assert (standing.limit, standing.remaining) == (10, 1)
    take(limiter, alice)
    assert "10 requests per day" in refused(limiter, alice).message
    assert len(limiter) == 1


def test_the_tightest_request_limit_is_shown() -> None:
    limiter = limiter_at(Clock())
    holders = (user(requests_per_minute=100, requests_per_month=5), key(requests_per_minute=4, tokens_per_minute=9))
    shown = [take(limiter, *holders).remaining() for _ in range(4)]
    assert [(one.limit, one.remaining) for one in shown if one] == [(4, 3), (4, 2), (4, 1), (4, 0)]
    assert take(limiter, user(tokens_per_minute=1, parallel_requests=99)).remaining() is None


def test_a_changed_limit_holds_from_the_next_call_and_keeps_history() -> None:
    limiter = limiter_at(Clock())
    for _ in range(5):
        take(limiter, user(requests_per_minute=5))
    take(limiter, user(requests_per_minute=6))
    refused(limiter, user(requests_per_minute=6))
    refused(limiter, user(requests_per_minute=2))
    refused(limiter, user(requests_per_minute=6))
    take(limiter, user())
    refused(limiter, user(parallel_requests=7))


def test_idle_holders_are_dropped_and_busy_ones_kept() -> None:
    clock = Clock()
    limiter = limiter_at(clock)
    busy = take(limiter, LimitHolder("user:busy", Limits(tokens_per_minute=50, parallel_requests=1)), tokens=5)
    take(limiter, LimitHolder("user:daily", Limits(requests_per_day=1))).settle(0)
    for number in range(3_000):
        clock.advance(1)
        take(limiter, LimitHolder(f"user:{number}", Limits(requests_per_minute=5))).settle(0)
        assert len(limiter) <= 200
    refused(limiter, LimitHolder("user:busy", Limits(tokens_per_minute=50, parallel_requests=1)), tokens=5)
    refused(limiter, LimitHolder("user:daily", Limits(requests_per_day=1)))
    busy.settle(5)
    for number in range(200):
        clock.advance(1)
        take(limiter, LimitHolder(f"other:{number}", Limits(requests_per_minute=5))).settle(0)
    clock.advance(86_400)
    for number in range(200):
        clock.advance(1)
        take(limiter, LimitHolder(f"last:{number}", Limits(requests_per_minute=5))).settle(0)
    assert len(limiter) <= 100


def test_refused_newcomers_are_not_kept() -> None:
    limiter = limiter_at(Clock())
    for number in range(1_000):
        refused(limiter, LimitHolder(f"user:{number}", Limits(requests_per_minute=0)))
    assert len(limiter) <= 2


HOLDER_LIMITS = st.builds(
    Limits,
    requests_per_minute=st.none() | st.integers(1, 6),
    tokens_per_minute=st.none() | st.integers(1, 4_000),
    requests_per_day=st.none() | st.integers(1, 30),
    requests_per_month=st.none() | st.integers(1, 60),
)
STEPS = st.lists(st.tuples(st.floats(0, 90) | st.just(0.0), st.integers(0, 2_000), st.floats(0, 1.5)), max_size=25)


@given(HOLDER_LIMITS, HOLDER_LIMITS, STEPS)
def test_a_retry_after_the_told_wait_succeeds_and_none_before(
    of_user: Limits, of_key: Limits, steps: list[tuple[float, int, float]]
) -> None:
    clock = Clock()
    limiter = limiter_at(clock)
    holders = (LimitHolder("user:alice", of_user), LimitHolder("key:key_x", of_key))
    for pause_s, tokens, used in steps:
        clock.advance(pause_s)
        refusal = None
        try:
            ticket = take(limiter, *holders, tokens=tokens)
        except Refusal as raised:
            refusal = raised
        if refusal is not None:
            if refusal.retry_after_s is None:
                assert tokens > min(of.tokens_per_minute or 10**9 for of in (of_user, of_key))
                continue
            early_s = 0.003 if refusal.retry_after_s > 0.01 else 0.0
            clock.advance(refusal.retry_after_s - early_s)
            if early_s:
                refused(limiter, *holders, tokens=tokens)
            clock.advance(early_s)
            ticket = take(limiter, *holders, tokens=tokens)
        ticket.settle(int(tokens * used))


# What is left


def left(limiter: MemoryLimiter, holder: LimitHolder) -> dict[str, tuple[int, int, float | None]]:
    asking = limiter.room(holder)
    try:
        asking.send(None)
    except StopIteration as done:
        return {room.kind: (room.limit, room.remaining, room.reset_s) for room in done.value}
    raise AssertionError("the limiter waited")


@given(
    waits=st.lists(st.sampled_from([0.0, 0.4, 7.0, 30.0, 61.0, 86_400.0]), max_size=12),
    per_minute=st.integers(0, 6),
    per_day=st.integers(0, 8),
)
def test_what_is_left_is_what_can_still_be_taken(waits: list[float], per_minute: int, per_day: int) -> None:
    clock = Clock()
    limiter, alice = limiter_at(clock), user(requests_per_minute=per_minute, requests_per_day=per_day)
    for wait_s in waits:
        clock.advance(wait_s)
        try:
            take(limiter, alice)
        except Refusal:
            continue
    told = left(limiter, alice)
    assert told == left(limiter, alice), "looking takes nothing"
    room = min(remaining for _, remaining, _ in told.values())
    for _ in range(room):
        take(limiter, alice)
    refused(limiter, alice)


def test_what_is_left_says_when_it_is_free_again() -> None:
    clock = Clock(wall_s=datetime(2026, 11, 30, 23, 59, tzinfo=ZoneInfo("UTC")).timestamp())
    limits = {"requests_per_minute": 10, "tokens_per_minute": 1000, "parallel_requests": 3}
    limiter, alice = limiter_at(clock), user(**limits, requests_per_day=100, requests_per_month=1000)
    stranger = left(limiter, alice)
    assert {kind: remaining for kind, (_, remaining, _) in stranger.items()} == {
        kind: limit for kind, (limit, _, _) in stranger.items()
    }
    assert len(limiter) == 0, "looking makes nobody known"
    take(limiter, alice, tokens=300)
    clock.advance(20)
    ticket = take(limiter, alice, tokens=100)
    assert left(limiter, alice) == {
        "requests_per_minute": (10, 8, 60.0),
        "tokens_per_minute": (1000, 600, 60.0),
        "parallel_requests": (3, 1, None),
        "requests_per_day": (100, 98, 40.0),
        "requests_per_month": (1000, 998, 40.0),
    }
    ticket.settle(50)
    clock.advance(45)
    after = left(limiter, alice)
    assert after["requests_per_minute"] == (10, 9, 15.0)
    assert after["tokens_per_minute"] == (1000, 950, 15.0)
    assert after["requests_per_day"] == (100, 100, 86_395.0)
    assert after["requests_per_month"] == (1000, 1000, 31 * 86_400 - 5.0)


def test_what_is_left_by_changed_limits() -> None:
    clock = Clock()
    limiter = limiter_at(clock)
    for _ in range(4):
        take(limiter, user(requests_per_minute=5))
    assert left(limiter, user(requests_per_minute=3, requests_per_day=9)) == {
        "requests_per_minute": (3, 0, 60.0),
        "requests_per_day": (9, 9, 86_400 - clock.wall_s % 86_400),
    }
    assert left(limiter, user(requests_per_minute=5))["requests_per_minute"] == (5, 1, 60.0)
