"""Which facts of a model win, and that nobody's guess becomes a fact."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules.catalog import (
    MAX_CACHED_LOOKUPS,
    AllOf,
    AnyOf,
    Catalogue,
    Contains,
    EndsWith,
    Equals,
    Match,
    PricedModel,
    PriceOverride,
    ProviderPrices,
    Regex,
    Reviewed,
    ReviewedProvider,
    StartsWith,
    matches,
    nusd_per_use,
    pusd_per_token,
)
from tollhouse.rules.prices import ZERO_CARD, ModelFacts, RateCard, Rates, rate_card


def card(source: str, *above: int) -> RateCard:
    return rate_card(
        version="test", source=source, standard=tuple(Rates(3, 15, 4, 6, 1, 3, 15, each) for each in (0, *above))
    )


SONNET, OPUS, GPT = card("sonnet", 200_000), card("opus"), card("gpt")
PRICES = {
    "anthropic": ProviderPrices(
        (
            PricedModel("sonnet", AnyOf((Equals("sonnet"), StartsWith("sonnet-20"))), SONNET, 200_000),
            PricedModel("opus", AllOf((StartsWith("opus"), Contains("us-"))), OPUS, 500_000),
            PricedModel("voice", EndsWith("voice"), None, 32_000),
        )
    ),
    "openai": ProviderPrices((PricedModel("gpt", Regex(r"^gpt-5(-\d{4}-\d\d-\d\d)?$"), GPT, None),)),
    "azure": ProviderPrices((), fallbacks=("openai", "anthropic")),
}
REVIEWED = {
    "anthropic": ReviewedProvider(
        web_search_usd_per_1000="10",
        models=(Reviewed(names=("opus-5",), context_tokens=1_000_000, max_output_tokens=64_000),),
    )
}


def catalogue(overrides: dict[str, PriceOverride] | None = None) -> Catalogue:
    ids = {"anthropic": "anthropic", "work": "anthropic", "openai": "openai", "azure": "azure"}
    return Catalogue(PRICES, reviewed=REVIEWED, overrides=overrides, price_ids=ids, free=frozenset({"local"}))


def source(facts: ModelFacts) -> str:
    return facts.card.source if facts.card else ""


@pytest.mark.parametrize(
    ("provider", "model", "found"),
    [
        ("anthropic", "sonnet", "sonnet"),
        ("work", "Sonnet", "sonnet"),
        ("anthropic", "sonnet-20260101", "sonnet"),
        ("anthropic", "sonnet-next", ""),
        ("anthropic", "opus-5", "opus"),
        ("anthropic", "opus", ""),
        ("anthropic", "deep-voice", ""),
        ("openai", "gpt-5-2026-01-31", "gpt"),
        ("openai", "gpt-5-20260131", "gpt"),  # a compact date is tried as a dashed one
        ("openai", "sonnet", ""),
        ("azure", "gpt-5", "gpt"),
        ("azure", "sonnet", "sonnet"),
        ("nobody", "sonnet", ""),
        ("anthropic", "sonnet" * 100, ""),
    ],
)
def test_lookup(provider: str, model: str, found: str) -> None:
    assert source(catalogue().facts(provider, model)) == found


def test_the_reviewed_file_wins_over_the_price_data_and_knows_snapshots() -> None:
    facts = catalogue()
    for name in ("opus-5", "opus-5-20260101", "opus-5@20260101", "OPUS-5-2026-01-01"):
        assert (facts.facts("anthropic", name).context_tokens, facts.facts("anthropic", name).max_output_tokens) == (
            1_000_000,
            64_000,
        )
    assert facts.facts("anthropic", "opus-us-1").context_tokens == 500_000
    assert facts.facts("anthropic", "opus-5").card.web_search_nusd == 10_000_000  # type: ignore[union-attr]
    assert facts.facts("openai", "gpt-5").card.web_search_nusd is None  # type: ignore[union-attr]


def test_a_window_inside_the_priced_range_bounds_nothing() -> None:
    assert catalogue().facts("anthropic", "sonnet").context_tokens is None  # priced above 200,000, said to end there
    assert catalogue({"sonnet": PriceOverride(context_tokens=1_000_000)}).facts(
        "anthropic", "sonnet"
    ) == msgspec.structs.replace(catalogue().facts("anthropic", "sonnet"), context_tokens=1_000_000)


def test_reviewed_variants_come_on_top_of_the_listed_ones() -> None:
    fast = rate_card(
        version="test", source="x", standard=SONNET.standard, variants={"fast": (Rates(6, 30, 8, 12, 2, 6, 30),)}
    )
    prices = {"a": ProviderPrices((PricedModel("x", Equals("x"), fast, None),))}
    windows = Reviewed(names=("x",), variants_permille={"priority": 1000, "us": 1100})
    reviewed = {"a": ReviewedProvider(models=(windows,))}
    found = Catalogue(prices, reviewed=reviewed).facts("a", "x").card
    assert found is not None
    assert found.variants["us"] == tuple(Rates(4, 17, 5, 7, 2, 4, 17, each) for each in (0, 200_000))
    assert found.variants["fast+us"] == (Rates(7, 33, 9, 14, 3, 7, 33),)
    assert found.variants["priority"] == SONNET.standard
    assert found.variants["priority+us"] == found.variants["us"]
    assert found.dearest[0] == found.variants["fast+us"][0]


def test_our_own_machine_is_free_unless_priced() -> None:
    assert catalogue().facts("local", "smollm2") == ModelFacts(ZERO_CARD)
    priced = catalogue(
        {"local/*": PriceOverride(input_usd_per_mtok="1", output_usd_per_mtok="2", context_tokens=2_048)}
    )
    facts = priced.facts("local", "smollm2")
    assert (source(facts), facts.context_tokens) == ('prices."local/*"', 2_048)


def test_the_operator_has_the_last_word() -> None:
    facts = catalogue(
        {
            "son*": PriceOverride(input_usd_per_mtok="9", output_usd_per_mtok="9"),
            "s*": PriceOverride(input_usd_per_mtok="8", output_usd_per_mtok="8"),
            "sonnet": PriceOverride(input_usd_per_mtok="3", output_usd_per_mtok=15, max_output_tokens=8_192),
            "openai/gpt-5": PriceOverride(input_usd_per_mtok=0.25, output_usd_per_mtok="$1"),
        }
    )
    exact = facts.facts("anthropic", "sonnet")
    assert exact.card is not None
    assert exact.card.standard == (
        Rates(3_000_000, 15_000_000, 3_750_000, 6_000_000, 3_000_000, 3_000_000, 15_000_000),
    )
    assert exact.max_output_tokens == 8_192
    assert exact.card.version.startswith("settings ")
    assert source(facts.facts("anthropic", "sonnet-20260101")) == 'prices."son*"'
    assert source(facts.facts("anthropic", "sphinx")) == 'prices."s*"'
    assert facts.facts("openai", "gpt-5").card.input == 250_000  # type: ignore[union-attr]
    assert source(facts.facts("azure", "gpt-5")) == "gpt"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        (PriceOverride(input_usd_per_mtok="3"), "write both"),
        (PriceOverride(cache_read_usd_per_mtok="3"), "write both"),
        (PriceOverride(input_usd_per_mtok="free", output_usd_per_mtok="1"), r'prices."opus".input_usd_per_mtok: not a'),
        (PriceOverride(input_usd_per_mtok="-1", output_usd_per_mtok="1"), "between 0 and"),
        (PriceOverride(input_usd_per_mtok="1", output_usd_per_mtok="nan"), "between 0 and"),
        (PriceOverride(input_usd_per_mtok="1", output_usd_per_mtok=float("inf")), "between 0 and"),
        (
            PriceOverride(input_usd_per_mtok="1", output_usd_per_mtok="1", web_search_usd_per_1000="much"),
            r'prices."opus".web_search_usd_per_1000: not a',
        ),
    ],
)
def test_a_wrong_override_says_where(override: PriceOverride, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        catalogue({"opus": override})


def test_prices_are_read_exactly_and_rounded_up() -> None:
    assert pusd_per_token("3") == 3_000_000
    assert pusd_per_token(0.1) == 100_000
    assert pusd_per_token("0.0000001") == 1
    assert nusd_per_use("10") == 10_000_000


def test_lookups_are_remembered_and_the_memory_is_bounded() -> None:
    facts = catalogue()
    assert facts.facts("anthropic", "sonnet") is facts.facts("anthropic", "sonnet")
    for number in range(3 * MAX_CACHED_LOOKUPS):
        facts.facts("anthropic", f"sonnet-{number}")
        assert len(facts._cache) <= MAX_CACHED_LOOKUPS


texts = st.text("ab-5", max_size=4)
leaves = (
    st.builds(Equals, texts) | st.builds(StartsWith, texts) | st.builds(EndsWith, texts) | st.builds(Contains, texts)
)
rules = st.recursive(
    leaves,
    lambda inner: (
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple))
        | st.builds(AllOf, st.lists(inner, max_size=3).map(tuple))
    ),
    max_leaves=6,
)


@given(rules, texts)
def test_match_rules_survive_their_file_and_obey_logic(rule: Match, name: str) -> None:
    again = msgspec.json.decode(msgspec.json.encode(rule), type=Match)
    assert again == rule
    assert matches(AnyOf((rule,)), name) == matches(AllOf((rule,)), name) == matches(again, name)
