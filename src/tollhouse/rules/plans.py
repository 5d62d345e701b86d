"""What a plan gives its holders.

A holder is a user, a team or a key. Of a holder's own limits each that is set counts instead of the plan's (an
exception somebody made on purpose); models and the output cap of every plan that applies must all admit a call; a
plan's budgets are made for each holder of their own, beside those the holder has anyway.

The output cap of a call, all its answers together (`n`), is at most the smallest of its plans. A call without a cap
gets one written into its body; what happens to one that asks for more is the plans' edge:

    clamp     its cap is lowered
    refuse    400 `max_tokens_over_plan`, which tells the cap that is open to it

What its budgets leave room for is looked at after that.

Limits follow whose key pays for a call (`dataplane.payers`): `plan_in_force` is what holds while the shared key does,
or, `has_own_key`, while one of the user's own does. A holder whose plan has both has the budgets of both, each counting
its own calls.

A budget of a plan has no row in the database. Its id says all there is to know, so that what is posted on it can be
counted without the plan:

    plan:usd:month:free@user:alice
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from tollhouse.rules.bounds import Bound, CapChoice, choose_cap, wanted_cap
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import NO_LIMITS, Budget, BudgetEdge, BudgetUnit, Limits, OwnKeyRule, Plan

BUDGET_PREFIX: Final = "plan:"
_FIELDS: Final = Limits.__struct_fields__


def plan_in_force(plans: Mapping[str, Plan], plan_id: str | None, *, has_own_key: bool = False) -> Plan | None:
    """The plan that holds for who was given this one, for a call that is paid by a key of their own or not: without one
    it may be another (`without_own_key`). None when there is none, or none of this name.
    """
    seen = set()
    plan = plans.get(plan_id or "")
    while plan is not None and plan.own_key is not OwnKeyRule.NEVER and plan.without_own_key and not has_own_key:
        if plan.plan_id in seen:
            return plan
        seen.add(plan.plan_id)
        plan = plans.get(plan.without_own_key)
    return plan


def nearest_plan(plans: Mapping[str, Plan], *plan_ids: str | None) -> Plan | None:
    """The first of these that there is, as it was given: of the key, the user, the team. Its rule says who pays."""
    return next((plans[plan_id] for plan_id in plan_ids if plan_id is not None and plan_id in plans), None)


OWN_HOLDER: Final = "own key of "
"""Before the name of whose limits they are, where those of calls that an own key pays are others, and counted apart."""


def open_to_shared(plan: Plan | None, in_force: Plan | None) -> bool:
    """Whether the shared key may pay at all: not where only own keys do, and no other plan holds instead. `in_force` is
    what `plan_in_force` says of the plan nearest to a call.
    """
    return plan is None or (in_force is not None and in_force.own_key is not OwnKeyRule.OWN_ONLY)


def own_key_first(plan: Plan | None, in_force: Plan | None) -> bool:
    """Whether an own key pays, where there is one, before the shared one does."""
    if plan is None or plan.own_key is OwnKeyRule.NEVER:
        return False
    return plan.own_key is not OwnKeyRule.SHARED_FIRST or not open_to_shared(plan, in_force)


def plan_problem(plan: Plan) -> tuple[str, str] | None:
    """The field that makes no sense beside the plan's rule, and why; None when all do."""
    if plan.fall_back and plan.own_key is not OwnKeyRule.OWN_FIRST:
        return "fall_back", "only a plan of which own_key is own_first falls back to the shared key"
    if plan.counts_own_key and plan.own_key is OwnKeyRule.NEVER:
        return "counts_own_key", "own_key is never: no own key pays under this plan, so there is nothing to count"
    return None


def limits_in_force(own: Limits, plan: Plan | None) -> Limits:
    """Each of the holder's own limits that is set, else the plan's."""
    if plan is None or plan.limits == NO_LIMITS:
        return own
    return plan.limits if own == NO_LIMITS else _over(plan.limits, own)


@lru_cache(maxsize=4096)
def _over(given: Limits, own: Limits) -> Limits:
    """Remembered, because a limiter knows limits that have not changed by their being the same object."""
    chosen = {field: getattr(own, field) for field in _FIELDS if getattr(own, field) is not None}
    return msgspec.structs.replace(given, **chosen)


class OutputCap(msgspec.Struct, frozen=True):
    """The most a call may write by its plans, and whose word that is. `clamps`: a call that asks for more is cut."""

    plan_id: str
    most: int
    clamps: bool

    def choose(
        self,
        ask: Ask,
        bound: Bound,
        room_nusd: int | None,
        room_tokens: int | None,
        clamp: bool,
        min_output_tokens: int,
        default_max_tokens: int,
    ) -> CapChoice | None:
        """As `bounds.choose_cap`, of what the plans leave open. Raises Refusal (400, `max_tokens_over_plan`)."""
        open_to = self.within(ask, bound, default_max_tokens)
        choice = choose_cap(
            open_to,
            bound,
            room_nusd,
            room_tokens,
            clamp=clamp,
            min_output_tokens=min_output_tokens,
            default_max_tokens=default_max_tokens,
        )
        if choice is None or open_to is ask:
            return choice
        injected = ask.max_output_tokens is None
        return CapChoice(
            choice.max_output_tokens,
            choice.nusd,
            choice.tokens,
            edit=True,
            clamped=choice.clamped or not injected,
            injected=injected,
        )

    def within(self, ask: Ask, bound: Bound, default_max_tokens: int) -> Ask:
        """The same call if it asks for no more than is open to it, else as much of it as is."""
        given = ask.max_output_tokens
        if given is not None and given * ask.choices <= self.most:
            return ask
        each = self.most // ask.choices
        # A thinking budget at or above the cap is the provider's to refuse, unless the client had it so itself.
        least = 1 if given is not None and given <= ask.thinking_budget_tokens else ask.thinking_budget_tokens + 1
        if each < least or (given is not None and not self.clamps):
            raise self._refusal(ask, each)
        return msgspec.structs.replace(ask, max_output_tokens=min(each, wanted_cap(ask, bound, default_max_tokens)))

    def _refusal(self, ask: Ask, each: int) -> Refusal:
        given, thinking = ask.max_output_tokens, ask.thinking_budget_tokens
        if thinking >= each > 0:
            why = f"thinking.budget_tokens is {thinking:,}; leave it less than {each:,}"
        elif each < 1:
            why = f"this one asks for {ask.choices:,} answers; ask for fewer"
        else:
            answers = "" if ask.choices == 1 else f"{ask.choices:,} answers of "
            why = f"this one asks for {answers}{given:,}; set {ask.cap_field} to {each:,} or less"
        return Refusal(
            400,
            "max_tokens_over_plan",
            f"A call of the plan {self.plan_id} may write at most {self.most:,} tokens, and {why}.",
            scope=f"plan {self.plan_id}",
            details={"max_output_tokens": max(each, 0), "field": ask.cap_field},
        )


def output_cap(plans: Sequence[Plan]) -> OutputCap | None:
    """By the plans of a call; None when none of them says. All of their edges must clamp for it to clamp."""
    some = [(plan.max_output_tokens, plan.plan_id) for plan in plans if plan.max_output_tokens is not None]
    if not some:
        return None
    most, plan_id = min(some)
    return OutputCap(plan_id, most, all(plan.edge is BudgetEdge.CLAMP for plan in plans))


def budgets_of(plan: Plan | None, scope: ScopeKind, scope_id: str, timezone: str) -> Iterator[Budget]:
    """The budgets a holder has by their plan, with their ids."""
    if plan is None:
        return
    for given in plan.budgets:
        yield Budget(
            f"{BUDGET_PREFIX}{given.unit}:{given.window}:{plan.plan_id}@{scope}:{scope_id}",
            scope,
            scope_id,
            given.limit,
            given.unit,
            given.window,
            timezone,
            plan.edge,
            plan.created_at_ns,
            owned_by=f"{BUDGET_PREFIX}{plan.plan_id}",
        )


def holds_under(budget: Budget, plan: Plan | None) -> bool:
    """Whether a budget counts while this plan is in force for its scope: those given by another plan do not."""
    if not budget.owned_by.startswith(BUDGET_PREFIX):
        return True
    return plan is not None and budget.owned_by == BUDGET_PREFIX + plan.plan_id


def renamed_holder(budget_id: str, scope: ScopeKind, old: str, new: str) -> str:
    """The id of a plan's budget when its holder is called otherwise; any other id stays."""
    plan, at, holder = budget_id.partition("@")
    if budget_id.startswith(BUDGET_PREFIX) and at and holder == f"{scope}:{old}":
        return f"{plan}@{scope}:{new}"
    return budget_id


def unit_of(budget_id: str) -> BudgetUnit | None:
    """The unit of a plan's budget, by its id; None for any other budget, which has a row."""
    if not budget_id.startswith(BUDGET_PREFIX):
        return None
    return BudgetUnit(budget_id.split(":", 2)[1])
