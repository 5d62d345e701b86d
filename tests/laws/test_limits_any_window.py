"""The law of any window, held to a list of every single call: never too many, hardly ever refused too early.

Times are multiples of 1/1024 s, which floats hold exactly, so that the edge of a window is the same in both counts.
"""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollhouse.rules.limits import COMPACT_ABOVE, GRAIN_S, MINUTE_S, Chunk, Rolling

TICKS_PER_S = 1024
GAPS = st.one_of(
    st.just(0),
    st.integers(1, TICKS_PER_S // 2),
    st.integers(1, 15 * TICKS_PER_S),
    st.sampled_from([60 * TICKS_PER_S - 1, 60 * TICKS_PER_S, 60 * TICKS_PER_S + 1]),
)


class EveryCall:
    """The definition: the weight of the calls whose age is below the window."""

    def __init__(self) -> None:
        self.calls: deque[list[float]] = deque()

    def add(self, now_s: float, weight: int) -> list[float]:
        call = [now_s, weight]
        self.calls.append(call)
        return call

    def within(self, now_s: float, window_s: float = MINUTE_S) -> float:
        return sum(weight for at_s, weight in self.calls if now_s - at_s < window_s)

    def forget(self, now_s: float) -> None:
        while self.calls and now_s - self.calls[0][0] > 2 * MINUTE_S:
            self.calls.popleft()


def offer(rolling: Rolling, exact: EveryCall, now_s: float, weight: int, strict: int) -> Chunk | None:
    """One call against both counts; `strict` is by how much the rule may err to the strict side."""
    within = exact.within(now_s)
    if rolling.has_room(now_s, weight):
        assert within + weight <= rolling.limit
        exact.add(now_s, weight)
        return rolling.charge(now_s, weight)
    assert within + weight > rolling.limit - strict
    wait_s = rolling.wait_s(now_s, weight)
    if wait_s is None:
        assert weight > rolling.limit
    else:
        assert wait_s > 0
        assert not _has_room_after(rolling, now_s + wait_s - 1 / TICKS_PER_S, weight)
        assert _has_room_after(rolling, now_s + wait_s, weight)
    return None


def _has_room_after(rolling: Rolling, then_s: float, weight: int) -> bool:
    """As `has_room`, but nothing is forgotten, since then has not come yet."""
    return sum(c.weight for c in rolling.chunks if then_s - c.latest_s < MINUTE_S) + weight <= rolling.limit


@given(st.integers(1, 12), st.lists(st.tuples(GAPS, st.integers(1, 4)), max_size=60))
def test_a_small_limit_is_exact(limit: int, history: list[tuple[int, int]]) -> None:
    rolling, exact, now = Rolling(limit), EveryCall(), 0
    for gap, calls in history:
        now += gap
        for _ in range(calls):
            offer(rolling, exact, now / TICKS_PER_S, 1, strict=0)


@pytest.mark.parametrize("limit", [1_000, 1_001, 2_500])
@settings(max_examples=40, deadline=None)
@given(bursts=st.lists(st.tuples(GAPS, st.floats(0, 1.2), st.integers(0, 1)), max_size=8))
def test_a_large_limit_errs_by_less_than_one_percent(limit: int, bursts: list[tuple[int, float, int]]) -> None:
    rolling, now = Rolling(limit), 0
    times: deque[float] = deque()
    strict = limit // 100 if limit > 1_000 else 0
    for gap, share, spread in bursts:
        now += gap
        for _ in range(int(limit * share)):
            now += spread
            now_s = now / TICKS_PER_S
            while times and now_s - times[0] >= MINUTE_S:
                times.popleft()
            if rolling.has_room(now_s, 1):
                assert len(times) < limit
                rolling.charge(now_s, 1)
                times.append(now_s)
            else:
                assert len(times) + 1 > limit - strict
        assert len(rolling.chunks) <= 1_000


@given(
    st.integers(1, 5_000),
    st.lists(st.tuples(GAPS, st.floats(0, 1.1), st.floats(0, 1)), max_size=60),
    st.randoms(use_true_random=False),
)
def test_tokens_settled_below_their_estimate(limit: int, history: list[tuple[int, float, float]], random) -> None:  # type: ignore[no-untyped-def]
    rolling, exact, now = Rolling(limit), EveryCall(), 0
    open_calls: list[tuple[Chunk, list[float]]] = []
    strict = limit // 100 if limit > 1_000 else 0
    for gap, share, used in history:
        now += gap
        weight = int(limit * share**4)
        chunk = offer(rolling, exact, now / TICKS_PER_S, weight, strict)
        if chunk is not None:
            open_calls.append((chunk, exact.calls[-1]))
        if open_calls and random.random() < 0.5:
            chunk, call = open_calls.pop(random.randrange(len(open_calls)))
            real = int(call[1] * used)
            chunk.correct(real - int(call[1]))
            call[1] = real


@given(st.integers(1, 5_000), st.lists(st.tuples(GAPS, st.floats(0, 1), st.integers(0, 9_000)), max_size=60))
def test_tokens_settled_above_their_estimate(limit: int, history: list[tuple[int, float, int]]) -> None:
    """Never laxer than what is known at each admission; stricter by at most 1 % of the window and 1 % of the limit."""
    rolling, exact, now = Rolling(limit), EveryCall(), 0
    strict = limit // 100 if limit > 1_000 else 0
    for gap, share, real in history:
        now += gap
        now_s = now / TICKS_PER_S
        weight = int(limit * share**6)
        if rolling.has_room(now_s, weight):
            assert exact.within(now_s) + weight <= limit
            call = exact.add(now_s, weight)
            rolling.charge(now_s, weight).correct(real - weight)
            call[1] = real
        else:
            assert exact.within(now_s, MINUTE_S + GRAIN_S) + weight > limit - strict


@given(st.lists(st.tuples(GAPS, st.integers(1, 3_000), st.booleans()), max_size=60))
def test_a_changed_limit_holds_at_once_over_the_same_history(history: list[tuple[int, int, bool]]) -> None:
    rolling, exact, now = Rolling(500), EveryCall(), 0
    for gap, number, change in history:
        now += gap
        if change:
            rolling.adopt(number)
        now_s, weight = now / TICKS_PER_S, number // 7
        within = exact.within(now_s)
        if rolling.has_room(now_s, weight):
            assert within + weight <= rolling.limit
            rolling.charge(now_s, weight)
            exact.add(now_s, weight)
        else:
            assert exact.within(now_s, MINUTE_S + GRAIN_S) + weight > rolling.limit - rolling.limit // 100


def test_a_late_correction_of_a_call_outside_the_window_changes_nothing() -> None:
    rolling = Rolling(100)
    assert rolling.has_room(0.0, 80)
    early = rolling.charge(0.0, 80)
    assert rolling.has_room(60.0, 100)
    rolling.charge(60.0, 100)
    early.correct(-80)
    assert not rolling.has_room(60.0, 1)
    assert rolling.total == 100


def test_calls_that_share_a_chunk_count_until_the_latest_is_out_of_the_window() -> None:
    rolling = Rolling(10_000)
    assert rolling.charge(0.0, 1) is rolling.charge(0.5, 1)
    assert not rolling.has_room(60.25, 10_000)
    assert rolling.has_room(60.5, 10_000)


def test_a_chunk_spans_at_most_a_hundredth_of_the_window() -> None:
    rolling = Rolling(10_000)
    assert rolling.charge(0.0, 1) is not rolling.charge(GRAIN_S + 0.01, 1)
    assert rolling.has_room(60.0, 9_999)


def test_a_queue_of_light_chunks_stays_short_and_keeps_the_law() -> None:
    """Large estimates with tiny real figures make a chunk each; corrections must find their chunk after a merge."""
    limit, pairs = 1_000_000, 6_000
    rolling, exact = Rolling(limit), EveryCall()
    waiting: list[tuple[Chunk, list[float]]] = []
    now_s, longest = 0.0, 0
    for number in range(pairs):
        now_s = number * 8 / TICKS_PER_S
        assert rolling.has_room(now_s, 15_005)
        heavy, heavy_call = rolling.charge(now_s, 15_000), exact.add(now_s, 15_000)
        waiting.append((rolling.charge(now_s, 5), exact.add(now_s, 5)))
        heavy.correct(10 - 15_000)
        heavy_call[1] = 10
        longest = max(longest, len(rolling.chunks))
    assert COMPACT_ABOVE <= longest <= COMPACT_ABOVE + 1
    for chunk, call in waiting:
        chunk.correct(3)
        call[1] = 8
    assert rolling.total == sum(chunk.weight for chunk in rolling.chunks) == exact.within(now_s) == 18 * pairs
    for tick in range(0, 61 * TICKS_PER_S, 199):
        then_s = now_s + tick / TICKS_PER_S
        rolling.forget_before(then_s)
        assert exact.within(then_s) <= rolling.total <= exact.within(then_s, MINUTE_S + GRAIN_S)
    assert rolling.total == 0


def test_what_left_the_window_is_forgotten_though_there_was_always_room() -> None:
    rolling = Rolling(10**9)
    for second in range(600):
        assert rolling.has_room(float(second), 1)
        rolling.charge(float(second), 1)
        assert rolling.total == len(rolling.chunks) == min(second + 1, 60)


@pytest.mark.parametrize("limit", [5_000, 1_000_000, 10**12])
def test_a_full_queue_of_a_huge_limit_is_short(limit: int) -> None:
    rolling = Rolling(limit)
    weight = max(1, limit // 50_000)
    for number in range(120_000):
        now_s = number / 1_000
        if rolling.has_room(now_s, weight):
            rolling.charge(now_s, weight)
        if number % 100 == 0:
            assert len(rolling.chunks) <= 301
