"""Compiles genai-prices to rate cards in integers, in a process of its own.

genai-prices is a module of 30,000 lines of Decimal prices; importing it costs a serving process a third of a second
and 30 MB for data that changes with a release. `compile_prices` is the one door through which it is imported,
and `python -m tollhouse.storage.price_compiler FILE` the only process that goes through it, once per release of the
data. What comes out is the JSON file that `storage/catalog` reads.

What compiling decides:
- **Kinds of tokens a usage report does not tell apart** (image, video, reasoning, citation) are priced with the text
  beside them at the dearest of them. Cached audio is to be counted as audio, which is never cheaper.
- **A missing price** is its parent's, as genai-prices has it: cache reads and writes cost what input does, audio what
  text does. One exception, on the strict side: a Claude model that lists cache writes without the 1-hour price pays
  twice its input price for them, as Anthropic does everywhere.
- **Embeddings have no output**: a model known as one by its name, with an input price and no other, has output at 0.
- **No card** for any other model without an input or an output price, with no prices at all (free, or just not known?)
  or with a price by something we do not count (hours, characters, pages). The model is listed, and unpriced.
- **Prices by date and hour**: a price that starts later, or holds for some hours of the day, can apply while a process
  runs. Each price is then the dearest of those that can; the file is compiled anew from the day the next price starts.
- Variants (`when={"service_tier": "priority"}`) are named by their value. One that is not active yet counts like above.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tollhouse.rules.catalog import (
    AllOf,
    AnyOf,
    Contains,
    EndsWith,
    Equals,
    Match,
    PricedModel,
    ProviderPrices,
    Regex,
    StartsWith,
)
from tollhouse.rules.prices import Ladder, RateCard, Rates, dearest_ladder, rate_card
from tollhouse.terms.errors import StorageError

if TYPE_CHECKING:
    from genai_prices import types as genai

COMPILER_VERSION = 2
"""Part of the file's name: raise it when compiling decides something else."""

_Price = dict[str, Any]
"""Price key of genai-prices → Decimal or TieredPrices."""

_INPUT = ("input_mtok", "input_text_mtok", "input_image_mtok", "input_video_mtok")
_OUTPUT = (
    "output_mtok",
    "output_text_mtok",
    "output_image_mtok",
    "output_video_mtok",
    "output_reasoning_mtok",
    "output_citation_mtok",
)
_EMBEDS = re.compile(r"embed|(?:^|[/-])(?:bge|gte)-(?!reranker)|^voyage-")
"""Names of models that turn text into vectors."""
_CACHE_READ = ("cache_read_mtok", "cache_text_read_mtok", "cache_image_read_mtok", "cache_video_read_mtok")
_COUNTED = frozenset(
    {
        *_INPUT,
        *_OUTPUT,
        *_CACHE_READ,
        "cache_write_mtok",
        "cache_write_5m_mtok",
        "cache_write_1h_mtok",
        "cache_audio_read_mtok",
        "input_audio_mtok",
        "output_audio_mtok",
        "web_searches_kcount",
        "requests_kcount",
        "storage_searches_kcount",  # a tool of the Responses API, refused under budgets and not counted elsewhere
    }
)


class Compiled(msgspec.Struct, frozen=True):
    """The file: `providers` stay undecoded until asked for. `valid_until` is the day another price starts, or empty."""

    version: str
    valid_until: str
    providers: dict[str, msgspec.Raw]


def compile_prices(today: date) -> bytes:
    """Compile the installed genai-prices. Imports it: call in a process of its own."""
    from genai_prices.data import providers  # noqa: PLC0415 - the one door

    version = f"genai-prices {metadata.version('genai-prices')} of {today.isoformat()}"
    encode = msgspec.json.encode
    compiled = {provider.id: msgspec.Raw(encode(_provider(provider, version, today))) for provider in providers}
    starts = [
        starting
        for provider in providers
        for model in provider.models
        for starting in _starts(model)
        if starting > today
    ]
    return encode(Compiled(version, min(starts).isoformat() if starts else "", compiled))


def _provider(provider: "genai.Provider", version: str, today: date) -> ProviderPrices:
    models = tuple(
        PricedModel(
            model.id, _match(model.match), _card(model, provider.id, version, today), model.context_window or None
        )
        for model in provider.models
    )
    return ProviderPrices(models, tuple(provider.fallback_model_providers or ()))


def _match(clause: Any) -> Match:
    """A clause of genai-prices as our own; all but regular expressions compare without case."""
    match clause.__dict__:
        case {"equals": str(text)}:
            return Equals(text.lower())
        case {"starts_with": str(text)}:
            return StartsWith(text.lower())
        case {"ends_with": str(text)}:
            return EndsWith(text.lower())
        case {"contains": str(text)}:
            return Contains(text.lower())
        case {"regex": str(text)}:
            return Regex(text)
        case {"or_": list(clauses)}:
            return AnyOf(tuple(_match(each) for each in clauses))
        case {"and_": list(clauses)}:
            return AllOf(tuple(_match(each) for each in clauses))
    raise StorageError(f"genai-prices has a match rule this version does not know: {clause!r}")


def _starts(model: "genai.ModelInfo") -> Iterable[date]:
    """Days on which some price of this model starts."""
    conditional = [] if not isinstance(model.prices, list) else model.prices
    for each in (*conditional, *(model.price_variants or ())):
        if hasattr(each.constraint, "start_date"):
            yield each.constraint.start_date


def _certain(constraint: Any, today: date) -> bool:
    """Whether what it guards holds at every time from today on; else it may begin later, or hold by the hour."""
    if constraint is None:
        return True
    starts = getattr(constraint, "start_date", None)
    return starts is not None and starts <= today


def _standard_prices(model: "genai.ModelInfo", today: date) -> list[_Price]:
    """All standard prices that can apply from today on. The last active one wins, so we walk from the last."""
    if not isinstance(model.prices, list):
        return [_listed(model.prices)]
    candidates = []
    for conditional in reversed(model.prices):
        candidates.append(_listed(conditional.prices))
        if _certain(conditional.constraint, today):
            return candidates
    return [*candidates, _listed(model.prices[0].prices)]


def _variant_prices(model: "genai.ModelInfo", name: str, standard: list[_Price], today: date) -> list[_Price]:
    """All prices the variant can have from today on: its keys replace the standard's, the first that has one wins."""
    chosen = [each for each in model.price_variants or () if _variant_name(each) == name]
    certain: _Price = {}
    possible: _Price = {}
    for variant in chosen:
        possible = {**_listed(variant.prices), **possible}
        if _certain(variant.constraint, today):
            certain = {**_listed(variant.prices), **certain}
    overlays = [certain] if certain == possible else [certain, possible]
    return [{**prices, **overlay} for prices in standard for overlay in overlays]


def _variant_name(variant: "genai.PriceVariant") -> str:
    return "+".join(variant.when.values())


def _listed(prices: "genai.ModelPrice") -> _Price:
    return {key: price for key, price in vars(prices).items() if price is not None}


def _card(model: "genai.ModelInfo", provider: str, version: str, today: date) -> RateCard | None:
    """The model's card, or None when its prices cannot be applied to what a usage report says."""
    standard = _standard_prices(model, today)
    names = dict.fromkeys(_variant_name(each) for each in model.price_variants or ())
    variants = {name: _variant_prices(model, name, standard, today) for name in names}
    every = [*standard, *(prices for listed in variants.values() for prices in listed)]
    embeds = _EMBEDS.search(model.id.lower()) is not None and not any(prices.keys() & _OUTPUT for prices in every)
    needed = {"input_mtok"} if embeds else {"input_mtok", "output_mtok"}
    if any(prices.keys() - _COUNTED or needed - prices.keys() for prices in every):
        return None
    claude = "claude" in model.id.lower()
    return rate_card(
        version=version,
        source=f"{provider}/{model.id}",
        standard=dearest_ladder(_ladder(prices, claude=claude) for prices in standard),
        variants={
            name: dearest_ladder(_ladder(prices, claude=claude) for prices in listed)
            for name, listed in variants.items()
        },
        web_search_nusd=_fee_nusd("web_searches_kcount", every),
        request_nusd=_fee_nusd("requests_kcount", every) or 0,
    )


def _fee_nusd(key: str, every: list[_Price]) -> int | None:
    """Nano-USD per use from USD per 1,000, the dearest that can apply; None when it is not listed."""
    fees = [_at(prices[key], sys.maxsize) for prices in every if key in prices]
    return max((_integer(fee * 1_000_000) for fee in fees), default=None)


def _ladder(prices: _Price, *, claude: bool) -> Ladder:
    """One rung per threshold of any price; each price is of the last threshold that the prompt is longer than."""
    thresholds = {
        0,
        *(tier.start for price in prices.values() if not isinstance(price, Decimal) for tier in price.tiers),
    }
    return tuple(_rates(prices, above, claude=claude) for above in sorted(thresholds))


def _rates(prices: _Price, above_input_tokens: int, *, claude: bool) -> Rates:
    def pusd(*keys: str, default: int = 0) -> int:
        """Dearest of the listed ones, USD per million tokens to pico-USD per token, rounded up."""
        listed = [_integer(_at(prices[key], above_input_tokens + 1) * 1_000_000) for key in keys if key in prices]
        return max(listed, default=default)

    input_pusd, output_pusd = pusd(*_INPUT), pusd(*_OUTPUT)
    cache_write = pusd("cache_write_mtok", default=input_pusd)
    one_hour = cache_write
    if claude and "cache_write_mtok" in prices:
        one_hour = max(cache_write, 2 * input_pusd)
    return Rates(
        input=input_pusd,
        output=output_pusd,
        cache_write_5m=pusd("cache_write_5m_mtok", default=cache_write),
        cache_write_1h=pusd("cache_write_1h_mtok", default=one_hour),
        cache_read=pusd(*_CACHE_READ, default=input_pusd),
        input_audio=pusd("input_audio_mtok", default=input_pusd),
        output_audio=pusd("output_audio_mtok", default=output_pusd),
        above_input_tokens=above_input_tokens,
    )


def _at(price: Any, total_input_tokens: int) -> Decimal:
    """The price a prompt this long meets."""
    if isinstance(price, Decimal):
        return price
    reached: Decimal = price.base
    for tier in price.tiers:
        if total_input_tokens > tier.start:
            reached = tier.price
    return reached


def _integer(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_CEILING))


def main(arguments: list[str]) -> int:
    """Compile into FILE, replaced in one step, and drop the files of other versions beside it."""
    if len(arguments) != 1:
        print("usage: python -m tollhouse.storage.price_compiler FILE", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    content = compile_prices(datetime.now(UTC).date())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".prices-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    for other in path.parent.glob("prices-*.json"):
        if other != path:
            other.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
