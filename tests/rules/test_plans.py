"""What a plan gives its holders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.rules.bounds import Bound, choose_cap
from tollhouse.rules.plans import (
    OutputCap,
    budgets_of,
    limits_in_force,
    nearest_plan,
    open_to_shared,
    output_cap,
    own_key_first,
    plan_in_force,
    plan_problem,
    unit_of,
)
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import (
    NO_LIMITS,
    BudgetEdge,
    BudgetUnit,
    BudgetWindow,
    Limits,
    OwnKeyRule,
    Plan,
    PlanBudget,
)

FREE = Plan("free", limits=Limits(requests_per_minute=10, requests_per_day=100), max_output_tokens=1_000)
PREMIUM = Plan("premium", own_key=OwnKeyRule.OWN_ONLY, without_own_key="free", max_output_tokens=100_000)
PLANS = {plan.plan_id: plan for plan in (FREE, PREMIUM)}


def test_limits_follow_whose_key_pays() -> None:
    assert plan_in_force(PLANS, "premium", has_own_key=True) is PREMIUM
    assert plan_in_force(PLANS, "premium") is FREE
    assert plan_in_force(PLANS, "free", has_own_key=True) is FREE
    assert plan_in_force(PLANS, None) is plan_in_force(PLANS, "gone") is None


def test_plans_that_point_at_each_other_end() -> None:
    here = Plan("here", own_key=OwnKeyRule.OWN_ONLY, without_own_key="there")
    there = Plan("there", own_key=OwnKeyRule.OWN_ONLY, without_own_key="here")
    assert plan_in_force({"here": here, "there": there}, "here") in (here, there)


def test_a_holders_own_limit_counts_instead_of_the_plans() -> None:
    own = Limits(requests_per_minute=50, parallel_requests=2)
    assert limits_in_force(own, FREE) == Limits(requests_per_minute=50, parallel_requests=2, requests_per_day=100)
    assert limits_in_force(own, FREE) is limits_in_force(Limits(requests_per_minute=50, parallel_requests=2), FREE)
    assert limits_in_force(NO_LIMITS, FREE) is FREE.limits
    assert limits_in_force(own, None) is own


def test_each_holder_has_a_budget_of_their_own() -> None:
    tokens = PlanBudget(1_000_000, BudgetUnit.TOKENS, BudgetWindow.MONTH)
    plan = Plan("free", budgets=(tokens, PlanBudget(20)))
    alice, bob = (list(budgets_of(plan, ScopeKind.USER, name, "UTC")) for name in ("alice", "bob@x:y"))
    assert len({budget.budget_id for budget in alice + bob}) == 4
    assert [unit_of(budget.budget_id) for budget in alice] == [BudgetUnit.TOKENS, BudgetUnit.USD]
    assert unit_of("bud_1") is None
    assert list(budgets_of(None, ScopeKind.USER, "alice", "UTC")) == []


# ------------------------------------------------------------------------------------------------------- the output cap

caps = st.builds(OutputCap, plan_id=st.just("free"), most=st.integers(0, 10_000), clamps=st.booleans())
asks = st.builds(
    Ask,
    model=st.just("m"),
    max_output_tokens=st.none() | st.integers(0, 20_000),
    choices=st.integers(1, 8),
    thinking_budget_tokens=st.just(0) | st.integers(1_024, 10_000),
)
bounds = st.builds(
    Bound,
    input_tokens=st.integers(0, 1_000),
    input_pusd=st.just(1_000),
    output_pusd=st.just(5_000),
    choices=st.integers(1, 8),
    max_output_tokens=st.none() | st.integers(1, 8_000),
)
NUMBERS = {"min_output_tokens": 50, "default_max_tokens": 400}


@given(cap=caps, ask=asks, bound=bounds, room=st.none() | st.integers(0, 200_000), clamp=st.booleans())
def test_no_call_writes_more_than_its_plan_allows(
    cap: OutputCap, ask: Ask, bound: Bound, room: int | None, clamp: bool
) -> None:
    asked = ask.max_output_tokens
    refused: list[Refusal] = []
    try:
        choice = cap.choose(ask, bound, room, None, clamp=clamp, **NUMBERS)
    except Refusal as refusal:
        refused.append(refusal)
    for refusal in refused:
        assert refusal.code == "max_tokens_over_plan"
        assert refusal.details["max_output_tokens"] == cap.most // ask.choices
        assert asked is None or asked * ask.choices > cap.most
        return
    alone = choose_cap(ask, bound, room, None, clamp=clamp, **NUMBERS)
    if asked is not None and asked * ask.choices <= cap.most:
        assert choice == alone
    elif choice is not None:
        assert choice.edit, "what the client did not say itself must be written into the body"
        assert choice.max_output_tokens * ask.choices <= cap.most
        assert (choice.nusd, choice.tokens) == bound.amounts(choice.max_output_tokens)
        assert room is None or choice.nusd <= room
        assert choice.injected is (asked is None)
        assert choice.clamped or choice.injected
        assert cap.clamps or asked is None
    else:
        assert room is not None, "only a budget says that nothing fits"


def test_a_missing_cap_is_the_plans_a_larger_one_is_cut_or_refused() -> None:
    bound = Bound(10, 0, 0)
    cut, refused = OutputCap("free", 1_000, True), OutputCap("free", 1_000, False)
    for cap in (cut, refused):
        missing = cap.choose(
            Ask(model="m"), bound, None, None, clamp=True, min_output_tokens=1, default_max_tokens=32_000
        )
        assert missing is not None
        assert (missing.max_output_tokens, missing.injected, missing.clamped) == (1_000, True, False)
    larger = Ask(model="m", max_output_tokens=4_000, choices=2, cap_field="max_completion_tokens")
    lowered = cut.choose(larger, bound, None, None, clamp=True, **NUMBERS)
    assert lowered is not None
    assert (lowered.max_output_tokens, lowered.injected, lowered.clamped) == (500, False, True)
    with pytest.raises(Refusal, match="at most 1,000 tokens, and this one asks for 2 answers of 4,000") as caught:
        refused.choose(larger, bound, None, None, clamp=True, **NUMBERS)
    assert caught.value.message.endswith("set max_completion_tokens to 500 or less.")
    assert (caught.value.status, caught.value.scope) == (400, "plan free")


def test_thinking_that_leaves_no_room_for_an_answer_is_refused() -> None:
    thinker = Ask(model="m", max_output_tokens=8_000, thinking_budget_tokens=4_000)
    cap = OutputCap("free", 1_000, True)
    with pytest.raises(Refusal, match=r"thinking\.budget_tokens is 4,000; leave it less than 1,000"):
        cap.choose(thinker, Bound(10, 0, 0), None, None, clamp=True, **NUMBERS)


def test_the_smallest_of_all_plans_holds_and_each_may_refuse() -> None:
    team = Plan("team", max_output_tokens=5_000, edge=BudgetEdge.REFUSE)
    assert output_cap([FREE, team]) == OutputCap("free", 1_000, False)
    assert output_cap([PREMIUM]) == OutputCap("premium", 100_000, True)
    assert output_cap([Plan("open")]) is None


def test_the_nearest_plan_that_there_is_says_who_pays() -> None:
    assert nearest_plan(PLANS, None, "premium", "free") is PREMIUM
    assert nearest_plan(PLANS, "gone", "free", "premium") is FREE
    assert nearest_plan(PLANS, None, None) is None


@pytest.mark.parametrize("rule", OwnKeyRule)
@pytest.mark.parametrize("without", ["free", "", "strict", "gone"])
def test_the_shared_key_pays_only_where_the_operator_meant_it_to(rule: OwnKeyRule, without: str) -> None:
    """Never by accident: a plan that wants own keys leads to another that does, or to none."""
    plan = Plan("mine", own_key=rule, without_own_key=without)
    plans = {"mine": plan, "free": FREE, "strict": Plan("strict", own_key=OwnKeyRule.OWN_ONLY)}
    in_force = plan_in_force(plans, "mine")
    never = rule is OwnKeyRule.NEVER
    shared = never or without == "free" or (without == "" and rule is not OwnKeyRule.OWN_ONLY)
    assert open_to_shared(plan, in_force) == shared
    assert own_key_first(plan, in_force) == (not never and (rule is not OwnKeyRule.SHARED_FIRST or not shared))
    assert open_to_shared(None, None)
    assert not own_key_first(None, None)


@pytest.mark.parametrize("rule", OwnKeyRule)
def test_what_makes_no_sense_beside_a_rule_is_named(rule: OwnKeyRule) -> None:
    falls, counts = Plan("p", own_key=rule, fall_back=True), Plan("p", own_key=rule, counts_own_key=True)
    assert plan_problem(Plan("p", own_key=rule)) is None
    assert (plan_problem(falls) is None) == (rule is OwnKeyRule.OWN_FIRST)
    assert (plan_problem(counts) is None) == (rule is not OwnKeyRule.NEVER)
    assert (plan_problem(falls) or ("fall_back", ""))[0] == "fall_back"
    assert (plan_problem(counts) or ("counts_own_key", ""))[0] == "counts_own_key"
