"""What tokens cost: rate cards of integers, and the arithmetic over them.

A price is pico-USD per token (1 USD per million tokens is 1,000,000 of them), a fee nano-USD per use. An amount is
summed in pico-USD and rounded up to nano-USD once: never below the price, never more than 1 nano-USD above it.

A *ladder* is one way of being served: its first rung is the price of short prompts, each further one replaces **all**
prices as soon as the prompt, cached tokens included, is longer than `above_input_tokens` (the whole call is billed at
the rung it reaches, as the providers' long-context prices and genai-prices have it).

A card has a ladder for standard service, one for each variant a provider may report (`priority`, `flex`, `fast`,
`batch`, …), and `dearest`: at every length of prompt the highest price of any of them. A variant that is not on the
card is charged at `dearest`; nothing is ever cheaper for being unknown. What is bounded ahead is bounded by `dearest`
too, because which variant serves a call is the provider's to say, afterwards.
"""

from collections.abc import Iterable, Mapping

import msgspec

from tollhouse.terms.money import NUSD_PER_USD, PUSD_PER_NUSD
from tollhouse.terms.usage import Usage

UNLISTED_FEE_NUSD = 50 * NUSD_PER_USD // 1000
"""Charged per web search or fetch the provider reports on a card without a fee for it: 50 USD per 1,000, above every
fee known (35 USD is the dearest in genai-prices 0.2.3). Budgeted calls are refused before it comes to that."""


class Rates(msgspec.Struct, frozen=True, array_like=True):
    """One rung of a ladder: pico-USD per token for prompts longer than `above_input_tokens`."""

    input: int
    output: int
    cache_write_5m: int
    cache_write_1h: int
    cache_read: int
    input_audio: int
    output_audio: int
    above_input_tokens: int = 0


NO_RUNG = 2**53
"""Longer than any prompt, and exact in JSON."""

PRICE_NAMES = tuple(name for name in Rates.__struct_fields__ if name != "above_input_tokens")

Ladder = tuple[Rates, ...]
"""Rungs by rising `above_input_tokens`; at least one, the first at 0."""


class RateCard(msgspec.Struct, frozen=True, kw_only=True):
    """Prices of one model. Made by `rate_card`, which derives `dearest` and `peaks`.

    version   names these prices for the ledger, such as `genai-prices 0.2.3`
    source    which entry they come from, for people
    fees      nano-USD per web search, per web fetch (None: not known) and per request
    """

    version: str
    source: str
    standard: Ladder
    variants: dict[str, Ladder] = {}
    dearest: Ladder
    peaks: tuple[tuple[int, int, int], ...]
    """Per rung of `dearest`: (above_input_tokens, highest input price, highest output price) up to the next rung."""
    web_search_nusd: int | None = None
    web_fetch_nusd: int | None = None
    request_nusd: int = 0
    short_prompt_tokens: int = 0
    """Derived: up to this length a prompt is on the first rung of every ladder (NO_RUNG: none has another)."""

    def __post_init__(self) -> None:
        short = self.peaks[1][0] if len(self.peaks) > 1 else NO_RUNG
        msgspec.structs.force_setattr(self, "short_prompt_tokens", short)

    @property
    def input(self) -> int:
        """Standard price of an uncached input token of a short prompt."""
        return self.standard[0].input

    @property
    def output(self) -> int:
        """Standard price of an output token after a short prompt."""
        return self.standard[0].output

    @property
    def cache_read(self) -> int:
        return self.standard[0].cache_read

    @property
    def cache_write_5m(self) -> int:
        return self.standard[0].cache_write_5m

    @property
    def cache_write_1h(self) -> int:
        return self.standard[0].cache_write_1h


class ModelFacts(msgspec.Struct, frozen=True):
    """What is known of a model; None is unknown, never unlimited and never free."""

    card: RateCard | None = None
    context_tokens: int | None = None
    """Most input tokens the provider accepts."""
    max_output_tokens: int | None = None
    """Most output tokens the provider generates per choice."""
    plain_prompt_tokens: int = 0
    """Derived: a prompt of at most this length fits the window and meets first rungs alone; 0 if that is not known."""

    def __post_init__(self) -> None:
        card, window = self.card, self.context_tokens
        plain = 0 if card is None or window is None else min(window, card.short_prompt_tokens)
        msgspec.structs.force_setattr(self, "plain_prompt_tokens", plain)


def rung(ladder: Ladder, total_input_tokens: int) -> Rates:
    """The rung a prompt of this many tokens (cached ones included) is billed at."""
    rates = ladder[0]
    for longer in ladder[1:]:
        if total_input_tokens <= longer.above_input_tokens:
            break
        rates = longer
    return rates


def dearest_ladder(ladders: Iterable[Ladder]) -> Ladder:
    """At every length of prompt, each price the highest of all these ladders."""
    every = list(ladders)
    thresholds = sorted({rates.above_input_tokens for ladder in every for rates in ladder})
    return tuple(_dearest_rates([rung(ladder, above + 1) for ladder in every], above) for above in thresholds)


def _dearest_rates(candidates: list[Rates], above_input_tokens: int) -> Rates:
    highest = {name: max(getattr(rates, name) for rates in candidates) for name in PRICE_NAMES}
    return Rates(**highest, above_input_tokens=above_input_tokens)


def rate_card(
    *,
    version: str,
    source: str,
    standard: Ladder,
    variants: Mapping[str, Ladder] | None = None,
    web_search_nusd: int | None = None,
    web_fetch_nusd: int | None = None,
    request_nusd: int = 0,
) -> RateCard:
    """A card with its derived parts. Raises ValueError for an empty ladder or one whose rungs do not rise from 0."""
    listed = dict(variants or {})
    for name, ladder in {"standard": standard, **listed}.items():
        steps = [rates.above_input_tokens for rates in ladder]
        if steps[:1] != [0] or steps != sorted(set(steps)):
            raise ValueError(f"{source}: the rungs of {name} must rise from 0, not {steps}")
    dearest = dearest_ladder([standard, *listed.values()])
    peaks: list[tuple[int, int, int]] = []
    input_pusd = output_pusd = 0
    for rates in dearest:
        input_pusd = max(
            input_pusd, rates.input, rates.cache_write_5m, rates.cache_write_1h, rates.cache_read, rates.input_audio
        )
        output_pusd = max(output_pusd, rates.output, rates.output_audio)
        peaks.append((rates.above_input_tokens, input_pusd, output_pusd))
    return RateCard(
        version=version,
        source=source,
        standard=standard,
        variants=listed,
        dearest=dearest,
        peaks=tuple(peaks),
        web_search_nusd=web_search_nusd,
        web_fetch_nusd=web_fetch_nusd,
        request_nusd=request_nusd,
    )


ZERO_CARD = rate_card(
    version="local",
    source="served on this machine",
    standard=(Rates(0, 0, 0, 0, 0, 0, 0),),
    web_search_nusd=0,
    web_fetch_nusd=0,
)
"""A model of our own machine: free, and known to be."""


def cost(card: RateCard, usage: Usage) -> int:
    """Nano-USD of one attempt by its usage; every product summed in pico-USD, the sum rounded up once."""
    prompt_tokens = (
        usage.input_tokens
        + usage.cache_read_tokens
        + usage.cache_write_5m_tokens
        + usage.cache_write_1h_tokens
        + usage.input_audio_tokens
    )
    if usage.variant is None and prompt_tokens <= card.short_prompt_tokens:
        rates = card.standard[0]
    else:
        rates = rung(_ladder(card, usage.variant), prompt_tokens)
    pusd = usage.input_tokens * rates.input + usage.output_tokens * rates.output
    if prompt_tokens != usage.input_tokens:  # counts are never negative: equal ones leave nothing for the others
        pusd += usage.cache_read_tokens * rates.cache_read + usage.input_audio_tokens * rates.input_audio
        pusd += usage.cache_write_5m_tokens * rates.cache_write_5m + usage.cache_write_1h_tokens * rates.cache_write_1h
    if usage.output_audio_tokens:
        pusd += usage.output_audio_tokens * rates.output_audio
    fees_nusd = card.request_nusd
    if usage.web_searches:
        fees_nusd += usage.web_searches * _fee(card.web_search_nusd)
    if usage.web_fetches:
        fees_nusd += usage.web_fetches * _fee(card.web_fetch_nusd)
    return -(-pusd // PUSD_PER_NUSD) + fees_nusd


def _ladder(card: RateCard, variant: str | None) -> Ladder:
    return card.standard if variant is None else card.variants.get(variant, card.dearest)


def _fee(listed_nusd: int | None) -> int:
    return UNLISTED_FEE_NUSD if listed_nusd is None else listed_nusd


def dearest_prices(card: RateCard, total_input_tokens: int) -> tuple[int, int]:
    """Highest (input, output) price in pico-USD per token of any call whose prompt is at most this long.

    Over cache writes and reads, audio, every listed variant, and every rung such a prompt can reach.
    """
    if total_input_tokens <= card.short_prompt_tokens:
        return card.peaks[0][1:]
    return max(peak for peak in card.peaks if total_input_tokens > peak[0])[1:]
