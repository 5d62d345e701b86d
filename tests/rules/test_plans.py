"""What a plan gives its holders."""

from tollhouse.rules.plans import budgets_of, limits_in_force, plan_in_force, unit_of
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import NO_LIMITS, BudgetUnit, BudgetWindow, Limits, OwnKeyRule, Plan, PlanBudget

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
