"""What is held is never less than what can be billed, and never refuses what fits."""

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tollhouse.rules.bounds import (
    INPUT_OVERHEAD_TOKENS,
    NO_CAP,
    THINKING_ANSWER_TOKENS,
    Bound,
    affordable,
    bound,
    choose_cap,
    smallest_cap,
)
from tollhouse.rules.prices import ZERO_CARD, ModelFacts, RateCard, Rates, cost, rate_card
from tollhouse.terms.ask import Ask, ServerTool
from tollhouse.terms.errors import Refusal
from tollhouse.terms.usage import Usage

SHORT = Rates(4_000_000, 20_000_000, 5_000_000, 8_000_000, 200_000, 4_000_000, 20_000_000)
LONG = Rates(8_000_000, 30_000_000, 10_000_000, 16_000_000, 400_000, 8_000_000, 30_000_000, above_input_tokens=200_000)
CARD = rate_card(
    version="test", source="opus", standard=(SHORT, LONG), web_search_nusd=10_000_000, web_fetch_nusd=0, request_nusd=7
)
FACTS = ModelFacts(CARD, context_tokens=1_000_000, max_output_tokens=128_000)
PLAIN = Ask(model="opus", body_bytes=48_000, max_output_tokens=128_000)

bounds = st.builds(
    Bound,
    input_tokens=st.integers(0, 2_000_000),
    input_pusd=st.integers(0, 10**9),
    output_pusd=st.integers(0, 10**9),
    choices=st.integers(1, 8),
    fixed_nusd=st.integers(0, 10**9),
    max_output_tokens=st.none() | st.integers(1, 300_000),
)
rooms_nusd = st.none() | st.integers(-(10**9), 10**13)
rooms_tokens = st.none() | st.integers(-10, 5_000_000)
asks = st.builds(
    Ask,
    model=st.just("opus"),
    max_output_tokens=st.none() | st.integers(1, 300_000),
    thinking_budget_tokens=st.just(0) | st.integers(1_024, 100_000),
)


def refusal(ask: Ask, facts: ModelFacts = FACTS) -> Refusal:
    with pytest.raises(Refusal) as caught:
        bound(ask, facts, budgeted=True, default_window_tokens=200_000)
    bound(ask, facts, budgeted=False, default_window_tokens=200_000)  # and without a budget it is admitted
    return caught.value


# ------------------------------------------------------------------------------------------------------ the input side


def test_text_is_bounded_by_its_bytes_and_by_the_window() -> None:
    small = bound(PLAIN, FACTS, budgeted=True, default_window_tokens=1)
    assert small.input_tokens == 48_000 + INPUT_OVERHEAD_TOKENS
    assert (small.input_pusd, small.output_pusd) == (8_000_000, 20_000_000)  # the rung for long prompts is out of reach
    large = bound(msgspec.structs.replace(PLAIN, body_bytes=5_000_000), FACTS, budgeted=True, default_window_tokens=1)
    assert large.input_tokens == 1_000_000
    assert (large.input_pusd, large.output_pusd) == (16_000_000, 30_000_000)


def test_what_is_not_in_the_body_takes_the_whole_window() -> None:
    image = msgspec.structs.replace(PLAIN, whole_window="image")
    assert bound(image, FACTS, budgeted=True, default_window_tokens=1).input_tokens == 1_000_000
    unknown = ModelFacts(CARD, None, None)
    assert bound(image, unknown, budgeted=False, default_window_tokens=200_000).input_tokens == 200_000
    refused = refusal(image, unknown)
    assert (refused.status, refused.code) == (400, "unbounded_feature")
    assert refused.details == {"feature": "image", "setting": "prices.opus.context_tokens"}


def test_the_window_bounds_one_prompt_of_many() -> None:
    facts = ModelFacts(CARD, context_tokens=8_192)
    one = msgspec.structs.replace(PLAIN, max_output_tokens=0)
    for prompts, most in ((1, 8_192), (3, 3 * 8_192), (100, 48_000 + INPUT_OVERHEAD_TOKENS)):
        ask = msgspec.structs.replace(one, prompts=prompts)
        held = bound(ask, facts, budgeted=True, default_window_tokens=200_000)
        assert held.input_tokens == most
        assert chosen(ask, held, *held.amounts(0), clamp=True) == Cap(0)
        assert choose_cap(ask, held, held.amounts(0)[0] - 1, None, clamp=True) is None


def test_server_tools_cost_their_fee_and_another_window_each() -> None:
    ask = msgspec.structs.replace(PLAIN, server_tools=(ServerTool("web_search", 3), ServerTool("web_fetch", 2)))
    held = bound(ask, FACTS, budgeted=True, default_window_tokens=1)
    assert held.tool_input_tokens == 5 * 1_000_000
    assert held.input_tokens == 48_000 + INPUT_OVERHEAD_TOKENS + 5 * 1_000_000
    assert held.fixed_nusd == 7 + 3 * 10_000_000
    assert held.input_pusd == 16_000_000


@pytest.mark.parametrize(
    ("ask", "facts", "code", "named"),
    [
        (PLAIN, ModelFacts(), "unpriced_model", "prices.opus"),
        (msgspec.structs.replace(PLAIN, unbounded="mcp_servers"), FACTS, "unbounded_feature", "mcp_servers"),
        (
            msgspec.structs.replace(PLAIN, server_tools=(ServerTool("web_search"),)),
            FACTS,
            "unbounded_feature",
            "web_search",
        ),
        (
            msgspec.structs.replace(PLAIN, server_tools=(ServerTool("code_execution", 2),)),
            FACTS,
            "unbounded_feature",
            "code_execution",
        ),
        (
            msgspec.structs.replace(PLAIN, server_tools=(ServerTool("web_search", 2),)),
            ModelFacts(msgspec.structs.replace(CARD, web_search_nusd=None), 1_000_000),
            "unbounded_feature",
            "web_search",
        ),
        (
            msgspec.structs.replace(PLAIN, server_tools=(ServerTool("web_search", 2),)),
            ModelFacts(CARD, None),
            "unbounded_feature",
            "web_search",
        ),
    ],
)
def test_what_has_no_bound_is_refused_by_name_under_a_budget(
    ask: Ask, facts: ModelFacts, code: str, named: str
) -> None:
    refused = refusal(ask, facts)
    assert (refused.status, refused.code) == (400, code)
    assert named in refused.details.values()
    assert named.removeprefix("prices.") in refused.message


def test_a_free_model_is_priced_and_an_unpriced_one_holds_nothing() -> None:
    assert bound(PLAIN, ModelFacts(ZERO_CARD), budgeted=True, default_window_tokens=1).amounts(1_000) == (0, 53_096)
    assert bound(PLAIN, ModelFacts(), budgeted=False, default_window_tokens=1).amounts(1_000) == (0, 53_096)


def outcome(ask: Ask, facts: ModelFacts, *, budgeted: bool) -> Bound | tuple[str, str]:
    try:
        return bound(ask, facts, budgeted=budgeted, default_window_tokens=200_000)
    except Refusal as refused:
        return refused.code, refused.message


@given(
    body_bytes=st.integers(0, 2_000_000)
    | st.integers(-2, 2).map(lambda beside: 200_000 - INPUT_OVERHEAD_TOKENS + beside),
    prompts=st.integers(1, 3),
    whole_window=st.sampled_from(["", "", "", "image"]),
    unbounded=st.sampled_from(["", "", "", "mcp_servers"]),
    tools=st.lists(st.builds(ServerTool, st.sampled_from(["web_search", "other"]), st.none() | st.just(2)), max_size=1),
    card=st.sampled_from([CARD, CARD, ZERO_CARD, None]),
    window=st.sampled_from([1_000_000, 200_000, 100_000, None]),
    budgeted=st.booleans(),
)
def test_a_plain_call_is_bounded_as_any_other(
    body_bytes: int,
    prompts: int,
    whole_window: str,
    unbounded: str,
    tools: list[ServerTool],
    card: RateCard | None,
    window: int | None,
    budgeted: bool,
) -> None:
    ask = Ask(
        model="opus",
        body_bytes=body_bytes,
        prompts=prompts,
        whole_window=whole_window,
        unbounded=unbounded,
        server_tools=tuple(tools),
    )
    facts = ModelFacts(card, window, 64_000)
    none_is_plain = msgspec.structs.replace(facts)
    msgspec.structs.force_setattr(none_is_plain, "plain_prompt_tokens", 0)
    assert outcome(ask, facts, budgeted=budgeted) == outcome(ask, none_is_plain, budgeted=budgeted)


def test_how_long_a_plain_prompt_may_be() -> None:
    assert FACTS.plain_prompt_tokens == 200_000  # then its prices change
    assert msgspec.structs.replace(FACTS, context_tokens=8_192).plain_prompt_tokens == 8_192
    assert ModelFacts(ZERO_CARD, 500_000).plain_prompt_tokens == 500_000
    assert (ModelFacts(CARD).plain_prompt_tokens, ModelFacts(None, 8_192).plain_prompt_tokens) == (0, 0)


@given(
    body_bytes=st.integers(0, 3_000_000),
    parts=st.tuples(*[st.floats(0, 1)] * 4),
    output_tokens=st.integers(0, 128_000),
    searches=st.integers(0, 3),
    variant=st.none() | st.just("unheard of"),
)
def test_no_usage_within_the_bound_costs_more_than_it(
    body_bytes: int, parts: tuple[float, ...], output_tokens: int, searches: int, variant: str | None
) -> None:
    tools = (ServerTool("web_search", searches),) if searches else ()
    ask = msgspec.structs.replace(PLAIN, body_bytes=body_bytes, server_tools=tools)
    held = bound(ask, FACTS, budgeted=True, default_window_tokens=1)
    shares = [int(part / (sum(parts) or 1) * held.input_tokens) for part in parts]
    usage = Usage(*shares, output_tokens, web_searches=searches, variant=variant)
    assume(usage.total_input_tokens <= held.input_tokens)
    assert cost(CARD, usage) <= held.amounts(output_tokens)[0]


# ------------------------------------------------------------------------------------------------------ the output cap


@given(bounds, rooms_nusd, rooms_tokens)
@example(Bound(1, 1_000, 1_000), 1, None)
@example(Bound(1, 1, 1), 1, None)
def test_affordable_is_the_exact_inverse(held: Bound, room_nusd: int | None, room_tokens: int | None) -> None:
    cap = affordable(held, room_nusd, room_tokens)

    def fits(max_output_tokens: int) -> bool:
        nusd, tokens = held.amounts(max_output_tokens)
        return (room_nusd is None or nusd <= room_nusd) and (room_tokens is None or tokens <= room_tokens)

    assert cap >= -1
    assert cap == -1 or fits(cap)
    assert cap == NO_CAP or not fits(cap + 1)
    if cap == NO_CAP:
        assert room_tokens is None
        assert room_nusd is None or held.output_pusd == 0


@given(asks, bounds, rooms_nusd, rooms_tokens, st.booleans())
def test_a_chosen_cap_fits_and_is_the_one_sent(
    ask: Ask, held: Bound, room_nusd: int | None, room_tokens: int | None, clamp: bool
) -> None:
    choice = choose_cap(ask, held, room_nusd, room_tokens, clamp=clamp)
    room = affordable(held, room_nusd, room_tokens)
    unlimited = room_nusd is None and room_tokens is None
    smallest = smallest_cap(ask, held)
    if choice is None:
        wanted = ask.max_output_tokens
        assert not unlimited
        assert room < smallest or (not clamp and (wanted is None or room < wanted))
        return
    cap = choice.max_output_tokens
    assert unlimited or cap <= room
    assert choice.edit == (choice.clamped or choice.injected)
    assert not (unlimited and choice.edit)
    assert choice.edit or unlimited or cap == ask.max_output_tokens
    assert choice.injected == (choice.edit and ask.max_output_tokens is None)
    assert not choice.clamped or clamp
    if choice.edit:
        assert cap >= smallest
        assert held.max_output_tokens is None or cap <= held.max_output_tokens
        assert ask.max_output_tokens is None or cap <= ask.max_output_tokens


@given(asks, bounds, st.integers(0, 10**13))
def test_more_room_never_gives_less(ask: Ask, held: Bound, room_nusd: int) -> None:
    less = choose_cap(ask, held, room_nusd, None, clamp=True)
    more = choose_cap(ask, held, room_nusd * 2, None, clamp=True)
    assert less is None or (more is not None and more.max_output_tokens >= less.max_output_tokens)


class Cap(NamedTuple):
    """A choice without its amounts."""

    max_output_tokens: int
    edit: bool = False
    clamped: bool = False
    injected: bool = False


def chosen(ask: Ask, held: Bound, room_nusd: int | None, room_tokens: int | None, *, clamp: bool) -> Cap | None:
    """The choice; its amounts are always those of its cap."""
    choice = choose_cap(ask, held, room_nusd, room_tokens, clamp=clamp)
    if choice is None:
        return None
    assert (choice.nusd, choice.tokens) == held.amounts(choice.max_output_tokens)
    return Cap(choice.max_output_tokens, choice.edit, choice.clamped, choice.injected)


def room_for(cap: int, held: Bound) -> int:
    return held.amounts(cap)[0]


@pytest.mark.parametrize(
    ("given_cap", "thinking", "room_cap", "clamp", "choice"),
    [
        (128_000, 0, 128_000, True, Cap(128_000)),
        (128_000, 0, 127_999, True, Cap(127_999, edit=True, clamped=True)),
        (128_000, 0, 127_999, False, None),
        (128_000, 0, 4_096, True, Cap(4_096, edit=True, clamped=True)),
        (128_000, 0, 4_095, True, None),
        (200, 0, 200, True, Cap(200)),
        (200, 0, 199, True, None),  # the client wanted little: less than that is of no use to it
        (128_000, 10_000, 10_000 + THINKING_ANSWER_TOKENS, True, Cap(11_024, edit=True, clamped=True)),
        (128_000, 10_000, 10_000 + THINKING_ANSWER_TOKENS - 1, True, None),
        (150_000, 0, 150_000, True, Cap(150_000)),  # above the model's maximum, and it fits: untouched
        (150_000, 0, 149_999, True, Cap(128_000, edit=True, clamped=True)),
        (None, 0, 128_000, True, Cap(32_000, edit=True, injected=True)),
        (None, 0, 32_000, False, Cap(32_000, edit=True, injected=True)),
        (None, 0, 31_999, False, None),
        (None, 0, 5_000, True, Cap(5_000, edit=True, clamped=True, injected=True)),
        (None, 40_000, 128_000, True, Cap(41_024, edit=True, injected=True)),
    ],
)
def test_the_table_of_caps(
    given_cap: int | None, thinking: int, room_cap: int, clamp: bool, choice: "Cap | None"
) -> None:
    ask = msgspec.structs.replace(PLAIN, max_output_tokens=given_cap, thinking_budget_tokens=thinking)
    held = bound(ask, FACTS, budgeted=True, default_window_tokens=1)
    assert chosen(ask, held, room_for(room_cap, held), None, clamp=clamp) == choice
    tokens = held.amounts(room_cap)[1]
    assert chosen(ask, held, None, tokens, clamp=clamp) == choice


def test_without_a_budget_nothing_is_edited() -> None:
    held = bound(PLAIN, FACTS, budgeted=False, default_window_tokens=1)
    assert chosen(PLAIN, held, None, None, clamp=True) == Cap(128_000)
    silent = msgspec.structs.replace(PLAIN, max_output_tokens=None)
    assert chosen(silent, held, None, None, clamp=True) == Cap(32_000)


def test_every_choice_may_use_the_whole_cap() -> None:
    one = bound(PLAIN, FACTS, budgeted=True, default_window_tokens=1)
    four = bound(msgspec.structs.replace(PLAIN, choices=4), FACTS, budgeted=True, default_window_tokens=1)
    assert four.amounts(1_000)[1] - one.amounts(1_000)[1] == 3_000
    assert affordable(four, room_for(1_000, four), None) == 1_000


@given(bounds, st.integers(0, 300_000))
def test_a_cap_of_the_client_is_sent_as_long_as_it_fits_to_the_last_unit(held: Bound, given_cap: int) -> None:
    ask = Ask(model="opus", max_output_tokens=given_cap)
    nusd, tokens = held.amounts(given_cap)
    for room_nusd, room_tokens in ((nusd, tokens), (nusd, None), (None, tokens)):
        assert chosen(ask, held, room_nusd, room_tokens, clamp=False) == Cap(given_cap)
    for room_nusd, room_tokens in ((nusd - 1, tokens), (nusd, tokens - 1), (nusd - 1, None), (None, tokens - 1)):
        assert choose_cap(ask, held, room_nusd, room_tokens, clamp=False) is None
