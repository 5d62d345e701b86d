"""The most a call can cost, before it is sent, and the output cap its budgets leave room for.

Input. A byte-level tokenizer never makes more tokens than bytes, so the bytes of the body bound the tokens of the text
in it; `INPUT_OVERHEAD_TOKENS` covers what the provider adds unseen. No prompt is longer than the model's context window
(a call for embeddings has many). What does not stand in the body (media, file ids, URLs, the provider's own state) is
bounded by the window alone. Each use of a server tool may read the whole window once more.

Price. The dearest a prompt of at most that length can meet (`prices.dearest_prices`): cache writes, listed variants,
and only the long-context rungs it can reach.

Output. `choices` times the cap that is really sent, which is what `choose_cap` decides:

    the client's cap            what fits              what is sent
    given                       all of it              the client's cap, body untouched
    given                       less, edge `clamp`     what fits, not under the smallest useful answer
    none, and a budget applies  -                      least of model maximum, default, what fits: added to the body
    none, no budget applies     -                      nothing; the hold is what is known

The smallest useful answer is `min_output_tokens`, more if thinking needs it (its budget plus 1,024), and less if the
client itself wants less. A client's cap above the model's maximum is held in full while it fits: the provider refuses
such a call, or our figure was too low; either way the hold is right.

Uncertain facts of a model may only make a bound larger. What has no bound at all is refused on budgeted keys, by name.
"""

import msgspec

from tollhouse.rules.prices import ModelFacts, RateCard, dearest_prices
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import Refusal
from tollhouse.terms.money import PUSD_PER_NUSD

INPUT_OVERHEAD_TOKENS = 4_096
"""What a provider adds to a prompt: role markers, the hidden prompt of tool use, and the definitions behind tools that
the body only names. Anthropic documents up to 2,600 for tool use, computer, text editor and bash together."""

THINKING_ANSWER_TOKENS = 1_024
"""Room for an answer beside `thinking.budget_tokens`."""

MIN_OUTPUT_TOKENS = 4_096
DEFAULT_MAX_TOKENS = 32_000

NO_CAP = 2**53
"""What `affordable` says when output costs nothing: more than any model writes, and exact in JSON."""


class Bound(msgspec.Struct, frozen=True, gc=False):
    """Worst case of a call as a function of its output cap.

    input_tokens        all of it, further rounds of server tools included
    input_pusd          dearest price of each; output_pusd of each output token
    choices             answers asked for (`n`); each may use the whole cap
    fixed_nusd          fees of server tools and of the request
    max_output_tokens   the model's own maximum per choice; None when unknown
    tool_input_tokens   the part of input_tokens that server tools may add while the call runs
    """

    input_tokens: int
    input_pusd: int
    output_pusd: int
    choices: int = 1
    fixed_nusd: int = 0
    max_output_tokens: int | None = None
    tool_input_tokens: int = 0

    def amounts(self, max_output_tokens: int) -> tuple[int, int]:
        """Worst case with this cap: (nano-USD rounded up, tokens)."""
        input_tokens, output_tokens = self.input_tokens, self.choices * max_output_tokens
        pusd = input_tokens * self.input_pusd + output_tokens * self.output_pusd
        return -(-pusd // PUSD_PER_NUSD) + self.fixed_nusd, input_tokens + output_tokens


class CapChoice(msgspec.Struct, frozen=True, gc=False):
    """The output cap to hold for and, if `edit`, to write into the body.

    clamped    lower than the call would have got with unlimited money
    injected   the client set none
    nusd, tokens   the worst case with this cap
    """

    max_output_tokens: int
    nusd: int
    tokens: int
    edit: bool = False
    clamped: bool = False
    injected: bool = False


def bound(
    ask: Ask,
    facts: ModelFacts,
    budgeted: bool,
    default_window_tokens: int,
    overhead_tokens: int = INPUT_OVERHEAD_TOKENS,
) -> Bound:
    """Bound a call, or refuse it.

    budgeted                a hard budget applies: what cannot be bounded raises Refusal (400: `unbounded_feature`,
                            `unpriced_model`). Without one, unknown prices count as 0 and windows as the default.
    default_window_tokens   stands in for an unknown context window on calls without a budget
    """
    card, input_tokens = facts.card, ask.body_bytes + overhead_tokens
    if (
        card is None
        or input_tokens > facts.plain_prompt_tokens
        or ask.whole_window
        or ask.unbounded
        or ask.server_tools
    ):
        return _any_bound(ask, facts, input_tokens, budgeted, default_window_tokens)
    _, input_pusd, output_pusd = card.peaks[0]
    return Bound(input_tokens, input_pusd, output_pusd, ask.choices, card.request_nusd, facts.max_output_tokens)


def _any_bound(ask: Ask, facts: ModelFacts, input_tokens: int, budgeted: bool, default_window_tokens: int) -> Bound:
    """As `bound`, for any call: long, with server tools, with more than its body says, of a model not wholly known."""
    card, window = facts.card, facts.context_tokens
    if budgeted and (card is None or window is None or ask.unbounded or ask.server_tools):
        _refuse_unbounded(ask, facts)
    if ask.whole_window:
        input_tokens = default_window_tokens if window is None else window
    elif window is not None and window * ask.prompts < input_tokens:
        input_tokens = window * ask.prompts
    tool_input_tokens = fees_nusd = 0
    if ask.server_tools:
        uses, fees_nusd = _server_tools(ask, card)
        tool_input_tokens = uses * (default_window_tokens if window is None else window)
        input_tokens += tool_input_tokens
    if card is None:
        return Bound(input_tokens, 0, 0, ask.choices, 0, facts.max_output_tokens, tool_input_tokens)
    input_pusd, output_pusd = dearest_prices(card, input_tokens)
    fixed_nusd = card.request_nusd + fees_nusd
    return Bound(
        input_tokens, input_pusd, output_pusd, ask.choices, fixed_nusd, facts.max_output_tokens, tool_input_tokens
    )


def _refuse_unbounded(ask: Ask, facts: ModelFacts) -> None:
    """Raise Refusal for what has no known upper cost."""
    if facts.card is None:
        raise Refusal(
            400,
            "unpriced_model",
            f"The price of {ask.model} is not known, so it cannot be used under a budget. "
            f'The operator can set it: prices."{ask.model}" (input_usd_per_mtok, output_usd_per_mtok).',
            details={"setting": f"prices.{ask.model}"},
        )
    if ask.unbounded:
        raise _unbounded(ask.unbounded, f"The cost of `{ask.unbounded}` has no upper bound.")
    if facts.context_tokens is None and (ask.whole_window or ask.server_tools):
        why = ask.whole_window or ask.server_tools[0].kind
        raise _unbounded(
            why,
            f"`{why}` may fill the context window of {ask.model}, whose size is not known. "
            f'The operator can set it: prices."{ask.model}".context_tokens.',
            setting=f"prices.{ask.model}.context_tokens",
        )
    for tool in ask.server_tools:
        if _fee_nusd(facts.card, tool.kind) is None:
            raise _unbounded(tool.kind, f"The price of the server tool `{tool.kind}` on {ask.model} is not known.")
        if tool.max_uses is None:
            why = "needs a `max_uses` (in Responses: the request a `max_tool_calls`), or its cost has no bound."
            raise _unbounded(tool.kind, f"The server tool `{tool.kind}` {why}")


def _unbounded(feature: str, why: str, *, setting: str = "") -> Refusal:
    details = {"feature": feature} | ({"setting": setting} if setting else {})
    return Refusal(400, "unbounded_feature", f"{why} It cannot be used under a budget.", details=details)


def _server_tools(ask: Ask, card: RateCard | None) -> tuple[int, int]:
    """(uses, fees in nano-USD) at most; a tool without bound or price counts as nothing (no budget applies then)."""
    uses = fees_nusd = 0
    for tool in ask.server_tools:
        most = tool.max_uses or 0
        uses += most
        fees_nusd += most * ((_fee_nusd(card, tool.kind) if card is not None else 0) or 0)
    return uses, fees_nusd


def _fee_nusd(card: RateCard, kind: str) -> int | None:
    if kind == "web_search":
        return card.web_search_nusd
    if kind == "web_fetch":
        return card.web_fetch_nusd
    return None


def affordable(bound: Bound, room_nusd: int | None, room_tokens: int | None) -> int:
    """The largest output cap whose worst case fits into the room (None: no such limit); exact inverse of `amounts`.

    -1 when not even an empty answer fits, NO_CAP when output is not limited by it.
    """
    cap = NO_CAP
    if room_nusd is not None:
        free_pusd = (room_nusd - bound.fixed_nusd) * PUSD_PER_NUSD - bound.input_tokens * bound.input_pusd
        if free_pusd < 0:
            return -1
        if bound.output_pusd:
            cap = min(cap, free_pusd // (bound.choices * bound.output_pusd))
    if room_tokens is not None:
        free_tokens = room_tokens - bound.input_tokens
        if free_tokens < 0:
            return -1
        cap = min(cap, free_tokens // bound.choices)
    return cap


def smallest_cap(
    ask: Ask, bound: Bound, *, min_output_tokens: int = MIN_OUTPUT_TOKENS, default_max_tokens: int = DEFAULT_MAX_TOKENS
) -> int:
    """The lowest output cap this call may be clamped to: below it, it is refused."""
    floor = min_output_tokens
    if ask.thinking_budget_tokens:
        floor = max(floor, ask.thinking_budget_tokens + THINKING_ANSWER_TOKENS)
    return min(floor, wanted_cap(ask, bound, default_max_tokens))


def wanted_cap(ask: Ask, bound: Bound, default_max_tokens: int) -> int:
    """The cap the call would get with unlimited money, at most the model's maximum where that is known."""
    wanted = ask.max_output_tokens
    if wanted is None:
        wanted = default_max_tokens
        if ask.thinking_budget_tokens:
            wanted = max(wanted, ask.thinking_budget_tokens + THINKING_ANSWER_TOKENS)
    most = bound.max_output_tokens
    return wanted if most is None or wanted < most else most


def choose_cap(
    ask: Ask,
    bound: Bound,
    room_nusd: int | None,
    room_tokens: int | None,
    clamp: bool,
    min_output_tokens: int = MIN_OUTPUT_TOKENS,
    default_max_tokens: int = DEFAULT_MAX_TOKENS,
) -> CapChoice | None:
    """Decide the output cap by the table at the top; None when even the smallest useful answer does not fit.

    room_nusd, room_tokens   what the tightest USD and token budgets leave; None where there is no such budget
    clamp                    every budget that applies has the edge `clamp` (else the call fits whole or not at all)
    """
    given = ask.max_output_tokens
    if given is not None:
        nusd, tokens = bound.amounts(given)
        if (room_nusd is None or nusd <= room_nusd) and (room_tokens is None or tokens <= room_tokens):
            return CapChoice(given, nusd, tokens)
    elif room_nusd is None and room_tokens is None:
        wanted = wanted_cap(ask, bound, default_max_tokens)
        return CapChoice(wanted, *bound.amounts(wanted))
    room = affordable(bound, room_nusd, room_tokens)
    wanted = wanted_cap(ask, bound, default_max_tokens)
    if given is None and wanted <= room:
        return CapChoice(wanted, *bound.amounts(wanted), edit=True, injected=True)
    smallest = smallest_cap(ask, bound, min_output_tokens=min_output_tokens, default_max_tokens=default_max_tokens)
    if not clamp or room < smallest:
        return None
    cap = min(room, wanted)
    return CapChoice(cap, *bound.amounts(cap), edit=True, clamped=True, injected=given is None)
