"""Refusals that explain themselves.

Of the accounts: whose budget, how much of it, until when, what would fit. Of payers: which key is missing or no good.
"""

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tollhouse.rules.budgets import describe, describe_amount
from tollhouse.terms.errors import Refusal
from tollhouse.terms.money import decimal_usd
from tollhouse.terms.people import BudgetUnit

if TYPE_CHECKING:
    from tollhouse.dataplane.holds import Account


def exhausted(account: "Account", *, needed: int, affordable_max_tokens: int | None) -> Refusal:
    """402 in words: whose budget, spent, held, of how much, when it resets, what would fit."""
    budget = account.budget

    def words(amount: int) -> str:
        return describe_amount(amount, budget.unit)

    message = (
        f"The budget of {describe(budget)} does not have room for this call: it may cost up to {words(needed)}, and "
        f"{words(account.posted)} is spent and {words(account.held)} held of {words(budget.limit)}."
    )
    if affordable_max_tokens:
        message += f" A call with max_tokens up to {affordable_max_tokens} would fit."
    details: dict[str, object] = {
        "budget_id": budget.budget_id,
        "unit": budget.unit.value,
        "spent": decimal_usd(account.posted) if budget.unit is BudgetUnit.USD else account.posted,
        "held": decimal_usd(account.held) if budget.unit is BudgetUnit.USD else account.held,
        "limit": decimal_usd(budget.limit) if budget.unit is BudgetUnit.USD else budget.limit,
        "needed": decimal_usd(needed) if budget.unit is BudgetUnit.USD else needed,
    }
    if affordable_max_tokens is not None:
        details["affordable_max_tokens"] = affordable_max_tokens
    if account.end_s != math.inf:
        details["resets_at"] = int(account.end_s)
        message += f" It starts anew at {utc(int(account.end_s))}."
    return Refusal(402, "budget_exhausted", message, scope=budget.whose, should_retry=False, details=details)


def behind() -> Refusal:
    """503: the ledger has not caught up with what is settled."""
    return Refusal(
        503,
        "store_unavailable",
        "The ledger is behind; nothing is admitted until it has caught up.",
        retry_after_s=5,
    )


def unrecorded() -> Refusal:
    """503: the disk does not take the journal."""
    return Refusal(
        503, "journal_unavailable", "The journal cannot be written; nothing is admitted unrecorded.", retry_after_s=2
    )


def own_key_required(plan_id: str, provider: str) -> Refusal:
    """402: the plan's calls are paid by keys of their own, and there is none for this provider."""
    message = (
        f"Calls of the plan {plan_id} are paid by a provider key of your own, and you have stored none for {provider}: "
        f"store one (PUT /api/v1/me/credentials/{provider}, or `tollhouse credentials add`)."
    )
    details = {"provider": provider}
    return Refusal(402, "own_key_required", message, scope=f"plan {plan_id}", should_retry=False, details=details)


def own_key_unusable(provider: str, why: str) -> Refusal:
    """503: the user's own key cannot be opened here, or not for where it would be sent."""
    message = f"Your own key for {provider} cannot be used: {why}."
    return Refusal(503, "own_key_unusable", message, should_retry=False, details={"provider": provider})


def assigned_key_unusable(provider: str, why: str) -> Refusal:
    """503: the same of one that the operator gave them."""
    message = (
        f"The key for {provider} that was assigned to you cannot be used: {why}. Tell the operator of this gateway."
    )
    return Refusal(503, "credential_unavailable", message, scope="upstream", details={"provider": provider})


def utc(at_s: int) -> str:
    """`2026-11-01T00:00:00Z`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
