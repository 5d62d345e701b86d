"""What is known of a model by its name: price, context window, maximum output.

Asked in this order, the first that knows a fact gives it:
1. the operator's own prices in the settings (exact name before globs, globs in the order written);
2. our reviewed file of windows and maximum outputs (`data/models.toml`), which also knows fees the price data lacks;
3. the compiled price data, by its own match rules: first model that matches, then the providers it falls back to.
A provider of our own machine (`free`) costs nothing unless the settings price it. What nobody knows stays None.
"""

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from fnmatch import translate
from hashlib import sha256

import msgspec

from tollhouse.rules.prices import PRICE_NAMES, ZERO_CARD, Ladder, ModelFacts, RateCard, Rates, rate_card

MAX_CACHED_LOOKUPS = 1_024
MAX_MODEL_CHARS = 256
"""Longer names are no model's; they are looked up nowhere."""
MAX_USD_PER_MTOK = 1_000_000


class Equals(msgspec.Struct, frozen=True, array_like=True, tag="="):
    text: str


class StartsWith(msgspec.Struct, frozen=True, array_like=True, tag="^"):
    text: str


class EndsWith(msgspec.Struct, frozen=True, array_like=True, tag="$"):
    text: str


class Contains(msgspec.Struct, frozen=True, array_like=True, tag="~"):
    text: str


class Regex(msgspec.Struct, frozen=True, array_like=True, tag="re"):
    """A search, not anchored. Patterns come from the price data's package, never from a request."""

    text: str


class AnyOf(msgspec.Struct, frozen=True, array_like=True, tag="|"):
    rules: tuple["Match", ...]


class AllOf(msgspec.Struct, frozen=True, array_like=True, tag="&"):
    rules: tuple["Match", ...]


Match = Equals | StartsWith | EndsWith | Contains | Regex | AnyOf | AllOf
"""Which names mean a model; texts are lower case, as is the name they are held against."""


def matches(rule: Match, name: str) -> bool:
    """Whether `name`, in lower case, is meant by the rule."""
    match rule:
        case Equals(text):
            return name == text
        case StartsWith(text):
            return name.startswith(text)
        case EndsWith(text):
            return name.endswith(text)
        case Contains(text):
            return text in name
        case Regex(text):
            return re.search(text, name) is not None
        case AnyOf(rules):
            return any(matches(each, name) for each in rules)
        case AllOf(rules):
            return all(matches(each, name) for each in rules)


class PricedModel(msgspec.Struct, frozen=True, array_like=True):
    """A model of the compiled price data; `card` is None where its prices cannot be applied to tokens."""

    model: str
    match: Match
    card: RateCard | None
    context_tokens: int | None


class ProviderPrices(msgspec.Struct, frozen=True):
    """The compiled price data of one provider; `fallbacks` are providers whose models it may serve at their prices."""

    models: tuple[PricedModel, ...]
    fallbacks: tuple[str, ...] = ()


class Reviewed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Windows of one or several models; names without date, a dated snapshot counts as its model.

    variants_permille   variants the price data lacks, in thousandths of what they come on top of
    """

    names: tuple[str, ...]
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    variants_permille: dict[str, int] = {}


class ReviewedProvider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Our reviewed file's facts of a provider. Fees fill in where the price data has none."""

    web_search_usd_per_1000: str | None = None
    web_fetch_usd_per_1000: str | None = None
    models: tuple[Reviewed, ...] = ()


class PriceOverride(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The operator's own facts of a model, as written under `prices:` in the settings.

    Prices are USD per million tokens; input and output come together. Left out, a cache read costs what input does,
    a cache write 1.25 times (5 minutes) and 2 times (1 hour) as much, and audio what text does.
    """

    input_usd_per_mtok: str | int | float | None = None
    output_usd_per_mtok: str | int | float | None = None
    cache_read_usd_per_mtok: str | int | float | None = None
    cache_write_5m_usd_per_mtok: str | int | float | None = None
    cache_write_1h_usd_per_mtok: str | int | float | None = None
    input_audio_usd_per_mtok: str | int | float | None = None
    output_audio_usd_per_mtok: str | int | float | None = None
    web_search_usd_per_1000: str | int | float | None = None
    web_fetch_usd_per_1000: str | int | float | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None


def pusd_per_token(usd_per_mtok: str | int | float) -> int:
    """USD per million tokens as pico-USD per token, rounded up. Raises ValueError for what is not a price."""
    try:
        price = Decimal(str(usd_per_mtok).strip().removeprefix("$"))
    except InvalidOperation as error:
        raise ValueError(f"not a price in USD: {usd_per_mtok!r} (write for example 3 or 0.25)") from error
    if not price.is_finite() or not 0 <= price <= MAX_USD_PER_MTOK:
        raise ValueError(f"a price in USD is between 0 and {MAX_USD_PER_MTOK}, not {usd_per_mtok!r}")
    return int((price * 1_000_000).to_integral_value(ROUND_CEILING))


def nusd_per_use(usd_per_1000: str | int | float) -> int:
    """USD per 1,000 uses as nano-USD per use, rounded up: the same factor. Raises ValueError for what is not a fee."""
    return pusd_per_token(usd_per_1000)


def override_card(name: str, override: PriceOverride) -> RateCard | None:
    """The card an override makes; None when it sets no prices. Raises ValueError naming the setting that is wrong."""

    def price(field: str, default: int = 0) -> int:
        written = getattr(override, field)
        try:
            return default if written is None else pusd_per_token(written)
        except ValueError as error:
            raise ValueError(f'prices."{name}".{field}: {error}') from error

    def fee(field: str) -> int | None:
        return None if getattr(override, field) is None else price(field)

    priced = [
        field for field in override.__struct_fields__ if "_usd_per_" in field and getattr(override, field) is not None
    ]
    if not priced:
        return None
    if override.input_usd_per_mtok is None or override.output_usd_per_mtok is None:
        raise ValueError(f'prices."{name}": write both input_usd_per_mtok and output_usd_per_mtok beside {priced[0]}')
    input_pusd, output_pusd = price("input_usd_per_mtok"), price("output_usd_per_mtok")
    rates = Rates(
        input=input_pusd,
        output=output_pusd,
        cache_write_5m=price("cache_write_5m_usd_per_mtok", -(-input_pusd * 5 // 4)),
        cache_write_1h=price("cache_write_1h_usd_per_mtok", input_pusd * 2),
        cache_read=price("cache_read_usd_per_mtok", input_pusd),
        input_audio=price("input_audio_usd_per_mtok", input_pusd),
        output_audio=price("output_audio_usd_per_mtok", output_pusd),
    )
    digest = sha256(msgspec.json.encode(override)).hexdigest()[:8]
    return rate_card(
        version=f"settings {digest}",
        source=f'prices."{name}"',
        standard=(rates,),
        web_search_nusd=fee("web_search_usd_per_1000"),
        web_fetch_nusd=fee("web_fetch_usd_per_1000"),
    )


_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_SNAPSHOT = re.compile(r"(?:[-@]20\d{6}|-20\d{2}-\d{2}-\d{2})$")


class _Override(msgspec.Struct, frozen=True):
    glob: re.Pattern[str]
    override: PriceOverride
    card: RateCard | None


class Catalogue:
    """Facts of models by provider and name; pure but for a bounded memory of past lookups.

    prices      compiled price data by its own provider id, fallbacks included
    reviewed    our reviewed file, by the same ids
    overrides   glob of a model's name (or `provider/name`) → the operator's facts
    price_ids   our provider's name → provider id of the price data; without an entry the name itself
    free        names of our providers that cost nothing unless overridden
    """

    def __init__(
        self,
        prices: Mapping[str, ProviderPrices],
        *,
        reviewed: Mapping[str, ReviewedProvider] | None = None,
        overrides: Mapping[str, PriceOverride] | None = None,
        price_ids: Mapping[str, str] | None = None,
        free: frozenset[str] = frozenset(),
    ) -> None:
        self._prices = prices
        self._reviewed = {provider: _by_name(facts) for provider, facts in (reviewed or {}).items()}
        self._fees = {
            provider: (_fee(facts.web_search_usd_per_1000), _fee(facts.web_fetch_usd_per_1000))
            for provider, facts in (reviewed or {}).items()
        }
        self._exact: dict[str, _Override] = {}
        self._globs: list[_Override] = []
        for name, override in (overrides or {}).items():
            entry = _Override(re.compile(translate(name)), override, override_card(name, override))
            if any(sign in name for sign in "*?["):
                self._globs.append(entry)
            else:
                self._exact[name] = entry
        self._price_ids = dict(price_ids or {})
        self._free = free
        self._cache: dict[tuple[str, str], ModelFacts] = {}

    def facts(self, provider: str, model: str) -> ModelFacts:
        """Everything known of `model` (as the provider names it) at `provider` (as we name it)."""
        known = self._cache.get((provider, model))
        if known is None:
            known = self._look_up(provider, model) if len(model) <= MAX_MODEL_CHARS else ModelFacts()
            if len(self._cache) >= MAX_CACHED_LOOKUPS:
                self._cache.clear()
            if len(model) <= MAX_MODEL_CHARS:
                self._cache[provider, model] = known
        return known

    def _look_up(self, provider: str, model: str) -> ModelFacts:
        price_id = self._price_ids.get(provider, provider)
        name = model.lower()
        fallbacks = self._prices[price_id].fallbacks if price_id in self._prices else ()
        priced = self._priced(price_id, fallbacks, name)
        card, context_tokens = (priced.card, priced.context_tokens) if priced is not None else (None, None)
        if provider in self._free:
            card = ZERO_CARD
        max_output_tokens: int | None = None
        for each in (price_id, *fallbacks):
            windows = self._reviewed.get(each, {}).get(_SNAPSHOT.sub("", name))
            if windows is not None:
                context_tokens = windows.context_tokens or context_tokens
                max_output_tokens = windows.max_output_tokens
                if card is not None and windows.variants_permille:
                    card = _with_variants(card, windows.variants_permille)
                break
        override = self._override(provider, model)
        if override is not None:
            card = override.card or card
            context_tokens = override.override.context_tokens or context_tokens
            max_output_tokens = override.override.max_output_tokens or max_output_tokens
        if card is not None:
            card = self._with_fees(card, price_id)
            if context_tokens is not None and context_tokens <= card.peaks[-1][0]:
                context_tokens = (
                    None  # priced beyond its window: the window is not the whole truth, so it bounds nothing
                )
        return ModelFacts(card, context_tokens, max_output_tokens)

    def _priced(self, price_id: str, fallbacks: tuple[str, ...], name: str) -> PricedModel | None:
        """First match by the name as it is, then with a compact date (`-20251211`) written `-2025-12-11`."""
        dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", name)
        for spelling in dict.fromkeys((name, dashed)):
            for each in (price_id, *fallbacks):
                for entry in self._prices[each].models if each in self._prices else ():
                    if matches(entry.match, spelling):
                        return entry
        return None

    def _override(self, provider: str, model: str) -> _Override | None:
        qualified = f"{provider}/{model}"
        exact = self._exact.get(qualified) or self._exact.get(model)
        if exact is not None:
            return exact
        return next((each for each in self._globs if each.glob.match(qualified) or each.glob.match(model)), None)

    def _with_fees(self, card: RateCard, price_id: str) -> RateCard:
        search, fetch = self._fees.get(price_id, (None, None))
        if (card.web_search_nusd is None and search is not None) or (card.web_fetch_nusd is None and fetch is not None):
            return msgspec.structs.replace(
                card,
                web_search_nusd=search if card.web_search_nusd is None else card.web_search_nusd,
                web_fetch_nusd=fetch if card.web_fetch_nusd is None else card.web_fetch_nusd,
            )
        return card


def _with_variants(card: RateCard, variants_permille: Mapping[str, int]) -> RateCard:
    """The card with `name` on top of standard service, and `variant+name` on top of every variant before it."""
    variants = dict(card.variants)
    for name, permille in variants_permille.items():
        on_top = {f"{before}+{name}": _scaled(ladder, permille) for before, ladder in variants.items()}
        variants |= on_top | {name: _scaled(card.standard, permille)}
    return rate_card(
        version=card.version,
        source=card.source,
        standard=card.standard,
        variants=variants,
        web_search_nusd=card.web_search_nusd,
        web_fetch_nusd=card.web_fetch_nusd,
        request_nusd=card.request_nusd,
    )


def _scaled(ladder: Ladder, permille: int) -> Ladder:
    return tuple(
        msgspec.structs.replace(rates, **{name: -(-getattr(rates, name) * permille // 1000) for name in PRICE_NAMES})
        for rates in ladder
    )


def _by_name(facts: ReviewedProvider) -> dict[str, Reviewed]:
    return {name: entry for entry in facts.models for name in entry.names}


def _fee(usd_per_1000: str | None) -> int | None:
    return None if usd_per_1000 is None else nusd_per_use(usd_per_1000)
