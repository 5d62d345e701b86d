"""The compiled prices against genai-prices itself, for every model it knows; the file; the reviewed data."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest
from genai_prices import data as genai_data
from genai_prices import types as genai_types
from hypothesis import given, settings
from hypothesis import strategies as st

from tollhouse.rules.catalog import Catalogue, PriceOverride, ProviderPrices
from tollhouse.rules.prices import RateCard, cost
from tollhouse.storage import catalog, price_compiler
from tollhouse.terms.errors import StorageError
from tollhouse.terms.usage import Usage

TODAY = datetime.now(UTC).date()
PROVIDERS = {provider.id: provider for provider in genai_data.providers}
COMPILED = msgspec.json.decode(price_compiler.compile_prices(TODAY), type=price_compiler.Compiled)
DECODED = {name: msgspec.json.decode(raw, type=ProviderPrices) for name, raw in COMPILED.providers.items()}

# Kinds of tokens a usage report does not tell apart: the dearest is charged, so we may be above, never below.
MIXED = {f"{side}_{kind}_mtok" for side in ("input", "output") for kind in ("image", "video", "reasoning", "citation")}


def pairs() -> Iterator[tuple[str, Any, RateCard | None]]:
    for name, provider in PROVIDERS.items():
        for model, compiled in zip(provider.models, DECODED[name].models, strict=True):
            yield name, model, compiled.card


MODELS = list(pairs())
PRICED = [(name, model, card) for name, model, card in MODELS if card is not None]
SETTLED_AT = datetime.combine(TODAY, datetime.min.time(), UTC) + timedelta(hours=12)


def all_prices(model: Any) -> list[Any]:
    standard = model.prices if isinstance(model.prices, list) else [model]
    return [each.prices for each in (*standard, *(model.price_variants or ()))]


def exactly_comparable(model: Any, usage: Usage) -> bool:
    """Whether nothing but rounding may differ: one price at all times, whole pico-USD, kinds told apart."""
    conditions = [each.constraint for each in (model.prices if isinstance(model.prices, list) else [])]
    conditions += [each.constraint for each in model.price_variants or ()]
    settled = all(each is None or getattr(each, "start_date", date.max) <= TODAY for each in conditions)
    listed = {key for prices in all_prices(model) for key, price in vars(prices).items() if price is not None}
    one_hour = usage.cache_write_1h_tokens and "claude" in model.id and "cache_write_1h_mtok" not in listed
    return settled and not listed & MIXED and not one_hour and all(whole(prices) for prices in all_prices(model))


def whole(prices: Any) -> bool:
    amounts = [
        amount
        for price in vars(prices).values()
        if price is not None
        for amount in ([price] if isinstance(price, Decimal) else [price.base, *(tier.price for tier in price.tiers)])
    ]
    return all(amount * 1_000_000 == int(amount * 1_000_000) for amount in amounts)


def theirs_nusd(provider: str, model: Any, usage: Usage, context: dict[str, str] | None = None) -> Decimal:
    """What genai-prices charges, in nano-USD, unrounded."""
    counts = genai_types.Usage(
        input_tokens=usage.total_input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        cache_write_5m_tokens=usage.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        cache_audio_read_tokens=0,
        output_tokens=usage.total_output_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        web_searches=usage.web_searches,
    )
    price = model.calc_price(counts, PROVIDERS[provider], genai_request_timestamp=SETTLED_AT, price_context=context)
    return price.total_price * 1_000_000_000  # type: ignore[no-any-return]


def agree(provider: str, model: Any, card: RateCard, usage: Usage, context: dict[str, str] | None = None) -> None:
    if card.web_search_nusd is None:
        usage = msgspec.structs.replace(usage, web_searches=0)  # unlisted: theirs is nothing, ours is never that
    ours = cost(card, usage)
    theirs = theirs_nusd(provider, model, usage, context)
    assert ours >= theirs, f"{provider}/{model.id} below the price"
    if exactly_comparable(model, usage):
        assert ours == int(theirs.to_integral_value(ROUND_CEILING)), f"{provider}/{model.id}"


FIXED = [
    Usage(input_tokens=1_001, output_tokens=17),
    Usage(101, 202, 303, 404, 505, web_searches=3),
    Usage(150_000, 25_000, 0, 120_000, 9_999),
    Usage(900_000, 0, 70_001, 300_000, 64_000, input_audio_tokens=11, output_audio_tokens=13),
]


def test_every_model_costs_what_genai_prices_says() -> None:
    compared = 0
    for provider, model, card in PRICED:
        for usage in FIXED:
            agree(provider, model, card, usage)
        compared += all(exactly_comparable(model, usage) for usage in FIXED)
    assert compared > len(PRICED) * 0.8, "most models are compared to the last nano-USD"


tokens = st.integers(0, 1_200_000)


@settings(max_examples=400)
@given(
    which=st.sampled_from(PRICED),
    usage=st.builds(
        Usage,
        input_tokens=tokens,
        cache_write_5m_tokens=tokens,
        cache_write_1h_tokens=tokens,
        cache_read_tokens=tokens,
        output_tokens=tokens,
        input_audio_tokens=tokens,
        output_audio_tokens=tokens,
        web_searches=st.integers(0, 30),
    ),
)
def test_any_usage_of_any_model_agrees(which: tuple[str, Any, RateCard], usage: Usage) -> None:
    agree(*which, usage)


def test_every_variant_costs_what_genai_prices_says() -> None:
    compared = 0
    for provider, model, card in PRICED:
        for variant in model.price_variants or ():
            [name] = variant.when.values()
            for usage in FIXED:
                without_search = msgspec.structs.replace(usage, variant=name, web_searches=0)
                agree(provider, model, card, without_search, dict(variant.when))
                compared += exactly_comparable(model, without_search)
    assert compared > 500


def test_every_model_of_the_data_is_found_by_its_own_id() -> None:
    by_id = {name: name for name in PROVIDERS}
    found = Catalogue(DECODED, price_ids=by_id)
    for name, provider in PROVIDERS.items():
        for model in provider.models:
            expected = provider.find_model(model.id, all_providers=genai_data.providers)
            card = found.facts(name, model.id).card
            compiled = next((each for each in DECODED[name].models if expected and each.model == expected.id), None)
            if compiled is not None and expected in provider.models:
                assert card == compiled.card, f"{name}/{model.id}"


def test_unpriced_models_are_few_and_known_kinds() -> None:
    for provider, model, card in MODELS:
        if card is None:
            keys = [{key for key, price in vars(prices).items() if price is not None} for prices in all_prices(model)]
            uncounted = any("hours" in key or "mchars" in key or "kpages" in key for listed in keys for key in listed)
            incomplete = any(not {"input_mtok", "output_mtok"} <= listed for listed in keys)
            assert uncounted or incomplete, f"{provider}/{model.id}"
            assert "embed" not in model.id.lower(), f"{provider}/{model.id}"
    for name in ("anthropic", "openai"):
        chat = [model.id for provider, model, card in MODELS if provider == name and card is None]
        assert not [each for each in chat if each.startswith(("claude-opus", "claude-sonnet", "gpt-5", "gpt-6"))]


def test_only_embeddings_go_without_an_output_price() -> None:
    without = set()
    for _, model, _ in PRICED:
        listed = {key for prices in all_prices(model) for key, price in vars(prices).items() if price is not None}
        if not any(key.startswith("output") for key in listed):
            without.add(model.id)
    assert {"text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002", "voyage-4"} <= without
    assert {"gpt-6-luna", "jev-1.13", "@cf/baai/bge-reranker-base", "ada", "davinci"}.isdisjoint(without)
    assert all(any(word in name.lower() for word in ("embed", "bge-", "gte-", "voyage-")) for name in without)
    small = Catalogue(DECODED, price_ids={"work": "openai"}).facts("work", "text-embedding-3-small")
    assert small.card is not None
    assert (small.card.input, small.card.output, small.context_tokens) == (20_000, 0, 8_192)


# ------------------------------------------------------------------------------------------- prices by date and hour


def model_with(prices: list[Any], variants: list[Any] | None = None) -> Any:
    return genai_types.ModelInfo(
        id="m", match=genai_types.ClauseEquals(equals="m"), prices=prices, price_variants=variants
    )


def conditional(constraint: Any, input_usd: str, output_usd: str = "1") -> Any:
    price = genai_types.ModelPrice(input_mtok=Decimal(input_usd), output_mtok=Decimal(output_usd))
    return genai_types.ConditionalPrice(constraint=constraint, prices=price)


def starts(days: int) -> Any:
    return genai_types.StartDateConstraint(start_date=TODAY + timedelta(days=days))


def by_the_hour() -> Any:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC).timetz()
    return genai_types.TimeOfDateConstraint(start_time=noon, end_time=noon.replace(hour=13))


@pytest.mark.parametrize(
    ("prices", "input_usd"),
    [
        ([conditional(None, "9"), conditional(starts(0), "2")], 2),  # begun today: the old price is gone
        ([conditional(None, "9"), conditional(starts(1), "2")], 9),  # not yet: the old one still holds
        ([conditional(None, "2"), conditional(starts(1), "9")], 9),  # a rise counts before it comes
        ([conditional(None, "9"), conditional(starts(-9), "4"), conditional(starts(1), "3")], 4),
        ([conditional(None, "2"), conditional(by_the_hour(), "1")], 2),
        ([conditional(None, "1"), conditional(by_the_hour(), "2")], 2),
        ([conditional(None, "9"), conditional(starts(-1), "1"), conditional(by_the_hour(), "2")], 2),
    ],
)
def test_the_dearest_price_that_can_still_apply(prices: list[Any], input_usd: int) -> None:
    card = price_compiler._card(model_with(prices), "p", "v", TODAY)
    assert card is not None
    assert card.input == input_usd * 1_000_000


def test_a_variant_that_begins_later_is_the_dearer_of_before_and_after() -> None:
    cheap = genai_types.ModelPrice(input_mtok=Decimal("0.5"))
    variants = [genai_types.PriceVariant(when={"tier": "flex"}, prices=cheap, constraint=starts(1))]
    card = price_compiler._card(model_with([conditional(None, "1")], variants), "p", "v", TODAY)
    assert card is not None
    assert card.variants["flex"] == card.standard


# ------------------------------------------------------------------------------------------------------- the file


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the prices were compiled once, by the child process."""
    made = tmp_path_factory.mktemp("home") / "prices"
    catalog.load_prices(made, ["anthropic"], TODAY)
    return made


def test_the_file_is_compiled_once_and_read_without_genai_prices(directory: Path) -> None:
    [path] = directory.iterdir()
    assert path.name == f"prices-{metadata.version('genai-prices')}-{price_compiler.COMPILER_VERSION}.json"
    assert path.stat().st_mode & 0o077 == 0
    before = path.stat().st_mtime_ns
    program = (
        "import sys; from datetime import date; from pathlib import Path; from tollhouse.storage.catalog import *;"
        "c = open_catalogue(Path(sys.argv[1]), price_ids={'work': 'anthropic'});"
        "print(c.facts('work', 'claude-opus-5-5').card.input, 'genai_prices' in sys.modules, 'pydantic' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program, directory], capture_output=True, text=True, timeout=60)
    assert answer.stdout.split() == ["4000000", "False", "False"], answer.stderr
    assert path.stat().st_mtime_ns == before


def test_only_the_providers_asked_for_are_decoded(directory: Path) -> None:
    assert set(catalog.load_prices(directory, ["anthropic"], TODAY)) == {"anthropic"}
    assert set(catalog.load_prices(directory, ["azure"], TODAY)) >= {"azure", "openai", "anthropic"}
    assert catalog.load_prices(directory, ["no such provider"], TODAY) == {}


def test_a_broken_or_outdated_file_is_compiled_anew(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [path] = directory.iterdir()
    compiled: list[Path] = []

    def compile_now(target: Path) -> None:
        compiled.append(target)
        target.write_bytes(whole_file)

    monkeypatch.setattr(catalog, "_compile_in_child", compile_now)
    whole_file = path.read_bytes()
    for broken in (b"", whole_file[:1_000], b"[]"):
        path.write_bytes(broken)
        assert "anthropic" in catalog.load_prices(directory, ["anthropic"], TODAY)
    assert compiled == [path] * 3
    valid_until = msgspec.json.decode(whole_file, type=price_compiler.Compiled).valid_until
    if valid_until:
        catalog.load_prices(directory, ["anthropic"], date.fromisoformat(valid_until) - timedelta(days=1))
        assert len(compiled) == 3
        catalog.load_prices(directory, ["anthropic"], date.fromisoformat(valid_until))
        assert len(compiled) == 4


def test_a_directory_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"prices could not be compiled|Not a directory"):
        catalog.load_prices(tmp_path / "file", ["anthropic"], TODAY)


def test_files_of_other_versions_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices-0.0.1-1.json").write_text("{}")
    monkeypatch.setattr(price_compiler, "compile_prices", lambda today: b"{}")
    assert price_compiler.main([str(tmp_path / "prices-0.0.2-1.json")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["prices-0.0.2-1.json"]


# ----------------------------------------------------------------------------------------------- the reviewed file


def test_every_reviewed_model_is_priced_or_a_known_sibling(directory: Path) -> None:
    ids = {"anthropic": "anthropic", "openai": "openai"}
    found = catalog.open_catalogue(directory, price_ids=ids)
    names: list[tuple[str, str]] = []
    for provider, facts in catalog.load_reviewed().items():
        names += [(provider, name) for entry in facts.models for name in entry.names]
    assert len(names) == len(set(names)), "a model stands in one entry"
    unpriced = {name for provider, name in names if found.facts(provider, name).card is None}
    assert unpriced <= {"claude-mythos-5", "claude-mythos-5-1"}, "by invitation only, not in the price data"
    for provider, name in names:
        facts = found.facts(provider, name)
        assert facts.context_tokens, f"{name}: its window bounds nothing"
        assert facts.max_output_tokens
        assert facts.max_output_tokens < facts.context_tokens


def test_the_settings_reach_the_catalogue(directory: Path) -> None:
    override = PriceOverride(input_usd_per_mtok="1", output_usd_per_mtok="2")
    found = catalog.open_catalogue(directory, price_ids={"openai": "openai"}, overrides={"house-*": override})
    assert found.facts("openai", "house-1").card is not None
    with pytest.raises(ValueError, match=r'prices\."x"'):
        catalog.open_catalogue(directory, price_ids={}, overrides={"x": PriceOverride(input_usd_per_mtok="1")})
