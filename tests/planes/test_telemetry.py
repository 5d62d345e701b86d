"""What `/metrics` tells of calls: every call once under how it ended, tokens and times summed over all endings."""

from hypothesis import example, given
from hypothesis import strategies as st

from tollhouse.telemetry import BUCKETS_S, MAX_CODES, Telemetry
from tollhouse.terms.events import HoldRecord, SettleKind, Settlement, SettleRecord
from tollhouse.terms.usage import Usage


def settlement(
    kind: SettleKind = SettleKind.EXACT,
    *,
    code: str = "",
    amount_nusd: int = 0,
    usage: Usage | None = None,
    duration_us: int = 200_000,
    first_byte_us: int = 0,
    endpoint: str = "messages",
) -> Settlement:
    hold = HoldRecord("a", "r", 1, "o", "u", "k", endpoint, "anthropic", "m", "m", "v", 9, 9, 9, False, ())
    usage = Usage() if usage is None else usage
    settle = SettleRecord("a", 2, kind, amount_nusd, usage, "m", 200, code, duration_us, first_byte_us)
    return Settlement(hold, settle)


def told(*settlements: Settlement) -> dict[str, float]:
    """The samples of calls, by name and labels as they stand in the text."""
    telemetry = Telemetry(dict)
    for one in settlements:
        telemetry.settled(one)
    lines = [line.rsplit(" ", 1) for line in telemetry.render().decode().splitlines() if line.startswith("tollhouse_")]
    return {sample: float(value) for sample, value in lines}


def test_calls_are_told_by_how_they_ended() -> None:
    gone = settlement(SettleKind.ESTIMATED, code="client_gone", amount_nusd=1_000_000)
    samples = told(settlement(amount_nusd=250_000_000), settlement(amount_nusd=250_000_000), gone)
    place = 'endpoint="messages",kind="{}",provider="anthropic"'
    assert samples[f'tollhouse_calls_total{{code="",{place.format("exact")}}}'] == 2
    assert samples[f'tollhouse_calls_total{{code="client_gone",{place.format("estimated")}}}'] == 1
    assert samples[f"tollhouse_cost_usd_total{{{place.format('exact')}}}"] == 0.5
    assert samples[f"tollhouse_cost_usd_total{{{place.format('estimated')}}}"] == 0.001


def test_the_cost_of_one_kind_is_told_once_whatever_the_code() -> None:
    upper = [settlement(SettleKind.UPPER, code=code, amount_nusd=10**9) for code in ("upstream_reset", "client_gone")]
    samples = told(*upper)
    assert samples['tollhouse_cost_usd_total{endpoint="messages",kind="upper",provider="anthropic"}'] == 2


def test_an_answer_that_says_ever_new_errors_makes_no_ever_new_labels() -> None:
    made_up = [settlement(code=f"error_{number}") for number in range(3 * MAX_CODES)]
    odd = [settlement(code=code) for code in ("words of\na stranger", "x" * 65, 'a"b')]
    samples = told(settlement(code="overloaded_error"), *odd, *made_up, settlement(code="overloaded_error"))
    calls = {sample: count for sample, count in samples.items() if sample.startswith("tollhouse_calls_total")}
    assert len(calls) == MAX_CODES + 1
    assert sum(calls.values()) == 3 * MAX_CODES + 5
    place = 'endpoint="messages",kind="exact",provider="anthropic"'
    assert calls[f'tollhouse_calls_total{{code="overloaded_error",{place}}}'] == 2
    assert calls[f'tollhouse_calls_total{{code="other",{place}}}'] == 2 * MAX_CODES + 4


def test_tokens_are_told_by_type_and_caches_only_when_used() -> None:
    plain, ended = Usage(input_tokens=5, output_tokens=7), settlement(SettleKind.UPPER, usage=Usage(output_tokens=1))
    tokens = 'tollhouse_tokens_total{{endpoint="messages",provider="anthropic",type="{}"}}'
    samples = told(settlement(usage=plain), ended)
    assert (samples[tokens.format("input")], samples[tokens.format("output")]) == (5, 8)
    assert tokens.format("cache_read") not in samples
    assert tokens.format("cache_write") not in samples
    cached = Usage(cache_read_tokens=3, cache_write_5m_tokens=10, cache_write_1h_tokens=20)
    samples = told(settlement(usage=cached), settlement(usage=cached))
    assert (samples[tokens.format("cache_read")], samples[tokens.format("cache_write")]) == (6, 60)


def test_durations_fall_into_the_bucket_whose_bound_they_do_not_pass() -> None:
    at_bound, above = settlement(duration_us=250_000), settlement(SettleKind.UPPER, duration_us=250_001)
    samples = told(at_bound, above, settlement(duration_us=10**12))
    counts = [samples[bucket(bound)] for bound in ("0.1", "0.25", "0.5", "300.0", "+Inf")]
    assert counts == [0, 1, 2, 2, 3]
    total_s = samples['tollhouse_call_duration_seconds_sum{endpoint="messages",provider="anthropic"}']
    assert total_s == 1_000_000.500_001


@given(st.integers(1, 10**9), st.integers(1, 10**9))
@example(250_000, 250_000)
@example(250_001, 250_000)
@example(10**9, 300_000_001)
def test_first_bytes_fall_into_theirs_whatever_the_duration(one_us: int, other_us: int) -> None:
    first_byte_us, duration_us = sorted((one_us, other_us))
    samples = told(settlement(duration_us=duration_us, first_byte_us=first_byte_us))
    for bound_s in BUCKETS_S:
        assert samples[bucket(str(bound_s), "first_byte")] == (first_byte_us <= bound_s * 1e6)


def bucket(bound: str, what: str = "call_duration") -> str:
    return f'tollhouse_{what}_seconds_bucket{{endpoint="messages",le="{bound}",provider="anthropic"}}'


def test_a_call_without_an_answer_has_no_first_byte() -> None:
    samples = told(settlement(), settlement(first_byte_us=60_000), settlement(endpoint="chat"))
    counts = 'tollhouse_first_byte_seconds_count{{endpoint="{}",provider="anthropic"}}'
    assert samples[counts.format("messages")] == 1
    assert samples[counts.format("chat")] == 0
