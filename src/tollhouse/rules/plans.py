"""What a plan gives its holders.

A holder is a user, a team or a key. Of a holder's own limits each that is set counts instead of the plan's (an
exception somebody made on purpose); models and the output cap of every plan that applies must all admit a call; a
plan's budgets are made for each holder of their own, beside those the holder has anyway.

A budget of a plan has no row in the database. Its id says all there is to know, so that what is posted on it can be
counted without the plan:

    plan:usd:month:free@user:alice
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import NO_LIMITS, Budget, BudgetUnit, Limits, OwnKeyRule, Plan

BUDGET_PREFIX: Final = "plan:"
_FIELDS: Final = Limits.__struct_fields__


def plan_in_force(plans: Mapping[str, Plan], plan_id: str | None, *, has_own_key: bool = False) -> Plan | None:
    """The plan that holds for who was given this one: limits follow whose key pays, so without a key of their own it
    may be another (`without_own_key`). None when there is none, or none of this name.
    """
    seen = set()
    plan = plans.get(plan_id or "")
    while plan is not None and plan.own_key is not OwnKeyRule.NEVER and plan.without_own_key and not has_own_key:
        if plan.plan_id in seen:
            return plan
        seen.add(plan.plan_id)
        plan = plans.get(plan.without_own_key)
    return plan


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


def unit_of(budget_id: str) -> BudgetUnit | None:
    """The unit of a plan's budget, by its id; None for any other budget, which has a row."""
    if not budget_id.startswith(BUDGET_PREFIX):
        return None
    return BudgetUnit(budget_id.split(":", 2)[1])
