"""Amounts are integers, rounded up once, and nothing is cheaper for being unknown."""

from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules.prices import (
    PRICE_NAMES,
    UNLISTED_FEE_NUSD,
    ZERO_CARD,
    RateCard,
    Rates,
    cost,
    dearest_prices,
    rate_card,
)
from tollhouse.terms.usage import Usage

SHORT = Rates(100_000, 500_000, 125_000, 200_000, 10_000, 100_000, 500_000)
LONG = Rates(500_000, 2_500_000, 625_000, 1_000_000, 50_000, 500_000, 2_500_000, above_input_tokens=100_000)
HAIKU = rate_card(version="test", source="claude-haiku-5-5", standard=(SHORT, LONG), web_search_nusd=10_000_000)

prices = st.integers(0, 10**9)
tokens = st.integers(0, 3_000_000)


@st.composite
def ladders(draw: st.DrawFn) -> tuple[Rates, ...]:
    above = [0, *sorted(draw(st.sets(st.integers(1, 1_000_000), max_size=3)))]
    return tuple(Rates(*(draw(prices) for _ in PRICE_NAMES), above_input_tokens=each) for each in above)


@st.composite
def cards(draw: st.DrawFn) -> RateCard:
    variants = draw(st.dictionaries(st.sampled_from(["priority", "flex", "fast"]), ladders(), max_size=2))
    return rate_card(
        version="test",
        source="drawn",
        standard=draw(ladders()),
        variants=variants,
        web_search_nusd=draw(st.none() | st.integers(0, 10**8)),
        web_fetch_nusd=draw(st.none() | st.integers(0, 10**8)),
        request_nusd=draw(st.integers(0, 10**8)),
    )


usages = st.builds(
    Usage,
    input_tokens=tokens,
    cache_write_5m_tokens=tokens,
    cache_write_1h_tokens=tokens,
    cache_read_tokens=tokens,
    output_tokens=tokens,
    input_audio_tokens=tokens,
    output_audio_tokens=tokens,
    web_searches=st.integers(0, 20),
    web_fetches=st.integers(0, 20),
    variant=st.none() | st.sampled_from(["priority", "flex", "fast", "never heard of"]),
)


def by_definition(card: RateCard, usage: Usage) -> Fraction:
    """The cost in nano-USD, exactly, by the prose of the module; written without its helpers."""
    if usage.variant is None:
        candidates = [card.standard]
    elif usage.variant in card.variants:
        candidates = [card.variants[usage.variant]]
    else:
        candidates = [card.standard, *card.variants.values()]
    reached = [
        [each for each in ladder if each.above_input_tokens == 0 or usage.total_input_tokens > each.above_input_tokens][
            -1
        ]
        for ladder in candidates
    ]
    pusd = sum(
        getattr(usage, f"{name}_tokens") * max(getattr(rates, name) for rates in reached) for name in PRICE_NAMES
    )
    search = UNLISTED_FEE_NUSD if card.web_search_nusd is None else card.web_search_nusd
    fetch = UNLISTED_FEE_NUSD if card.web_fetch_nusd is None else card.web_fetch_nusd
    return Fraction(pusd, 1000) + usage.web_searches * search + usage.web_fetches * fetch + card.request_nusd


@given(cards(), usages)
def test_cost_is_the_sum_of_the_products_rounded_up_once(card: RateCard, usage: Usage) -> None:
    exact = by_definition(card, usage)
    assert exact <= cost(card, usage) < exact + 1


@given(cards(), usages)
def test_nothing_costs_more_than_the_dearest_prices_say(card: RateCard, usage: Usage) -> None:
    fees = cost(card, msgspec.structs.replace(Usage(), web_searches=usage.web_searches, web_fetches=usage.web_fetches))
    for longest in (usage.total_input_tokens, usage.total_input_tokens * 2 + 1):
        input_pusd, output_pusd = dearest_prices(card, longest)
        most_pusd = usage.total_input_tokens * input_pusd + usage.total_output_tokens * output_pusd
        assert cost(card, usage) <= -(-most_pusd // 1000) + fees
        assert input_pusd <= card.peaks[-1][1]
        assert output_pusd <= card.peaks[-1][2]


def every_rung_looked_for(card: RateCard) -> RateCard:
    """The same card, that knows of no length up to which the first rung does."""
    card = msgspec.structs.replace(card)
    msgspec.structs.force_setattr(card, "short_prompt_tokens", 0)
    return card


@given(cards(), usages, st.data())
def test_a_short_prompt_is_priced_as_if_every_rung_was_looked_for(
    card: RateCard, usage: Usage, data: st.DataObject
) -> None:
    slow = every_rung_looked_for(card)
    assert cost(card, usage) == cost(slow, usage)
    beside = card.short_prompt_tokens + data.draw(st.integers(-1, 1))
    for most in (usage.total_input_tokens, beside):
        assert dearest_prices(card, most) == dearest_prices(slow, most)
    at_the_edge = Usage(input_tokens=beside, output_tokens=usage.output_tokens, variant=usage.variant)
    assert cost(card, at_the_edge) == cost(slow, at_the_edge)


@given(cards(), usages)
def test_an_unlisted_variant_is_never_cheaper_than_a_listed_one(card: RateCard, usage: Usage) -> None:
    unlisted = cost(card, msgspec.structs.replace(usage, variant="never heard of"))
    for variant in (None, *card.variants):
        assert cost(card, msgspec.structs.replace(usage, variant=variant)) <= unlisted


def test_the_whole_call_is_billed_at_the_rung_its_prompt_reaches() -> None:
    at_the_edge = Usage(input_tokens=40_000, cache_read_tokens=60_000, output_tokens=1_000)
    beyond = Usage(input_tokens=40_001, cache_read_tokens=60_000, output_tokens=1_000)
    assert cost(HAIKU, at_the_edge) == (40_000 * 100_000 + 60_000 * 10_000 + 1_000 * 500_000) // 1_000
    assert cost(HAIKU, beyond) == (40_001 * 500_000 + 60_000 * 50_000 + 1_000 * 2_500_000) // 1_000
    assert dearest_prices(HAIKU, 100_000) == (200_000, 500_000)
    assert dearest_prices(HAIKU, 100_001) == (1_000_000, 2_500_000)


def test_a_fee_that_is_not_known_is_not_free() -> None:
    assert cost(HAIKU, Usage(web_searches=2)) == 2 * 10_000_000
    assert cost(HAIKU, Usage(web_fetches=2)) == 2 * UNLISTED_FEE_NUSD
    assert cost(ZERO_CARD, Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, "fast")) == 0


@pytest.mark.parametrize("ladder", [(), (LONG,), (SHORT, SHORT), (SHORT, LONG, LONG)])
def test_a_ladder_rises_from_zero(ladder: tuple[Rates, ...]) -> None:
    with pytest.raises(ValueError, match="must rise from 0"):
        rate_card(version="test", source="wrong", standard=ladder)


@given(cards())
def test_a_card_survives_its_file(card: RateCard) -> None:
    assert msgspec.json.decode(msgspec.json.encode(card), type=RateCard) == card


@given(cards())
def test_what_a_card_derives_is_derived_whatever_its_file_says(card: RateCard) -> None:
    fields = msgspec.to_builtins(card)
    assert msgspec.convert(fields | {"short_prompt_tokens": 7}, type=RateCard) == card
    del fields["short_prompt_tokens"]
    assert msgspec.convert(fields, type=RateCard) == card
