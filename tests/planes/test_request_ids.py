"""Ids of requests: unique, sortable by time, of one length."""

from hypothesis import given
from hypothesis import strategies as st

from tollhouse.app.request_ids import RequestIds

T0_NS = 1_790_000_000_123_456_789


@given(st.lists(st.integers(0, 3 * 10**6), min_size=1, max_size=50))
def test_each_tells_its_millisecond_and_is_unlike_every_other(steps_ns: list[int]) -> None:
    ids, others = RequestIds(), RequestIds()
    at_ns = T0_NS
    made = []
    for step_ns in steps_ns:
        at_ns += step_ns - 10**6  # a clock may step back
        made.append(ids.make(at_ns))
        assert int(made[-1][4:15], 16) == at_ns // 1_000_000
        assert len(made[-1]) == len("req_") + 27
    assert len({*made, *(others.make(at_ns) for _ in steps_ns)}) == 2 * len(made)


def test_a_count_that_ran_out_begins_anew() -> None:
    ids = RequestIds()
    ids._numbers = iter(range(0xFFFFFF, 0x1000002))  # type: ignore[assignment]
    assert [ids.make(T0_NS)[-6:] for _ in range(3)] == ["ffffff", "000000", "000001"]
