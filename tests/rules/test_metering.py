"""The table of endings: nothing that may have been sent is posted below what it may cost."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules.bounds import Bound
from tollhouse.rules.metering import (
    CANCEL_SLACK_TOKENS,
    CLIENT_GONE,
    COMPLETE,
    CUT_BY_UPSTREAM,
    NOT_SENT,
    NOTHING,
    Ending,
    Settled,
    error_status,
    settle_amount,
)
from tollhouse.rules.prices import RateCard, Rates, cost, rate_card
from tollhouse.terms.events import SettleKind
from tollhouse.terms.seen import Seen
from tollhouse.terms.usage import Usage

CARD = rate_card(
    version="test",
    source="opus",
    standard=(Rates(4_000_000, 20_000_000, 5_000_000, 8_000_000, 200_000, 4_000_000, 20_000_000),),
    web_search_nusd=10_000_000,
    web_fetch_nusd=0,
    request_nusd=5,
)
BOUND = Bound(50_000, 8_000_000, 20_000_000, fixed_nusd=5)
HOLD_NUSD, HOLD_TOKENS = BOUND.amounts(10_000)
USED = Usage(input_tokens=1_000, cache_read_tokens=20_000, output_tokens=300)


def settle(
    ending: Ending,
    seen: Seen | None = None,
    *,
    card: RateCard | None = CARD,
    held: Bound = BOUND,
    cancel_stops_billing: bool = True,
) -> Settled:
    hold_nusd, hold_tokens = held.amounts(10_000)
    return settle_amount(
        card=card,
        bound=held,
        hold_nusd=hold_nusd,
        hold_tokens=hold_tokens,
        seen=seen or Seen(),
        ending=ending,
        cancel_stops_billing=cancel_stops_billing,
    )


def test_what_was_not_sent_or_refused_before_work_is_void() -> None:
    assert settle(NOT_SENT) == NOTHING
    for status in (301, 400, 401, 402, 403, 404, 409, 413, 415, 422, 429, 501):
        assert settle(error_status(status)) == NOTHING
    assert NOTHING.kind is SettleKind.VOIDED


@pytest.mark.parametrize("status", [408, 499, 500, 502, 503, 504, 529])
def test_an_ambiguous_error_keeps_the_hold(status: int) -> None:
    assert settle(error_status(status)) == Settled(SettleKind.UPPER, Usage(), HOLD_NUSD, HOLD_TOKENS)


@pytest.mark.parametrize("ending", [COMPLETE, CUT_BY_UPSTREAM, CLIENT_GONE, error_status(500)])
def test_a_final_usage_is_exact_however_it_ended(ending: Ending) -> None:
    exact = settle(ending, Seen(usage=USED, final=True, input_known=True), cancel_stops_billing=False)
    assert exact == Settled(SettleKind.EXACT, USED, cost(CARD, USED), 21_300)


def test_an_exact_amount_may_exceed_the_hold() -> None:
    above = Usage(output_tokens=1_000_000)
    settled = settle(COMPLETE, Seen(usage=above, final=True))
    assert settled.kind is SettleKind.EXACT
    assert settled.amount_nusd == cost(CARD, above) > HOLD_NUSD


@pytest.mark.parametrize(
    ("ending", "cancel_stops_billing"), [(COMPLETE, True), (CUT_BY_UPSTREAM, True), (CLIENT_GONE, False)]
)
def test_without_a_final_usage_the_hold_is_posted(ending: Ending, cancel_stops_billing: bool) -> None:
    seen = Seen(usage=USED, input_known=True, output_bound_tokens=10)
    settled = settle(ending, seen, cancel_stops_billing=cancel_stops_billing)
    assert settled == Settled(SettleKind.UPPER, USED, HOLD_NUSD, HOLD_TOKENS)


def test_a_cancelled_stream_costs_its_input_and_what_was_seen() -> None:
    seen = Seen(usage=msgspec.structs.replace(USED, output_tokens=1), input_known=True, output_bound_tokens=700)
    settled = settle(CLIENT_GONE, seen)
    usage = msgspec.structs.replace(USED, output_tokens=700 + CANCEL_SLACK_TOKENS)
    assert settled == Settled(SettleKind.ESTIMATED, usage, cost(CARD, usage), usage.total_tokens())


def test_a_cancelled_stream_of_unknown_input_costs_the_bound_of_it() -> None:
    settled = settle(CLIENT_GONE, Seen(output_bound_tokens=700))
    output_tokens = 700 + CANCEL_SLACK_TOKENS
    assert settled.kind is SettleKind.ESTIMATED
    assert settled.amount_nusd == (50_000 * 8_000_000 + output_tokens * 20_000_000) // 1_000 + 5
    assert settled.tokens == 50_000 + output_tokens


@pytest.mark.parametrize("input_known", [True, False])
def test_an_estimate_is_never_above_the_hold(input_known: bool) -> None:
    settled = settle(CLIENT_GONE, Seen(usage=USED, input_known=input_known, output_bound_tokens=1_000_000))
    assert (settled.kind, settled.amount_nusd, settled.tokens) == (SettleKind.ESTIMATED, HOLD_NUSD, HOLD_TOKENS)


def test_server_tools_of_a_cancelled_stream_are_assumed_used() -> None:
    held = Bound(150_000, 8_000_000, 20_000_000, fixed_nusd=20_000_005, tool_input_tokens=100_000)
    seen = Seen(usage=msgspec.structs.replace(USED, web_searches=1), input_known=True)
    settled = settle(CLIENT_GONE, seen, held=held)
    tokens_nusd = cost(CARD, msgspec.structs.replace(USED, output_tokens=300 + CANCEL_SLACK_TOKENS)) - 5
    assert settled.amount_nusd == tokens_nusd + 100_000 * 8_000 + 20_000_005


def test_an_unpriced_call_is_counted_in_tokens_and_never_priced() -> None:
    held = Bound(50_000, 0, 0)
    exact = settle(COMPLETE, Seen(usage=USED, final=True), card=None, held=held)
    assert (exact.kind, exact.amount_nusd, exact.tokens) == (SettleKind.EXACT, 0, 21_300)
    gone = settle(CLIENT_GONE, Seen(usage=USED, input_known=True), card=None, held=held)
    assert (gone.kind, gone.amount_nusd) == (SettleKind.ESTIMATED, 0)


endings = st.sampled_from([NOT_SENT, COMPLETE, CUT_BY_UPSTREAM, CLIENT_GONE, *map(error_status, (400, 429, 500, 529))])
tokens = st.integers(0, 40_000)


@given(
    ending=endings,
    usage=st.builds(Usage, input_tokens=tokens, cache_write_1h_tokens=st.integers(0, 10_000), output_tokens=tokens),
    final=st.booleans(),
    input_known=st.booleans(),
    output_bound_tokens=st.integers(0, 100_000),
    cancel_stops_billing=st.booleans(),
)
def test_only_an_exact_amount_is_ever_above_the_hold_and_only_a_refusal_is_free(
    ending: Ending,
    usage: Usage,
    final: bool,
    input_known: bool,
    output_bound_tokens: int,
    cancel_stops_billing: bool,
) -> None:
    seen = Seen(usage=usage, final=final, input_known=input_known, output_bound_tokens=output_bound_tokens)
    settled = settle(ending, seen, cancel_stops_billing=cancel_stops_billing)
    if settled.kind is not SettleKind.EXACT:
        assert settled.amount_nusd <= HOLD_NUSD
        assert settled.tokens <= HOLD_TOKENS
    if settled.kind is SettleKind.VOIDED:
        assert settled == NOTHING
        assert ending is NOT_SENT or (not final and ending.status in (400, 429))
    if settled.kind is SettleKind.ESTIMATED and input_known:
        observed = msgspec.structs.replace(usage, output_tokens=max(usage.output_tokens, output_bound_tokens))
        assert settled.amount_nusd >= min(cost(CARD, observed), HOLD_NUSD)
