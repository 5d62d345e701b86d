"""May it: what a principal is asked before a call takes a place in limits and budgets."""

from tollhouse.dataplane.plan import Attempt
from tollhouse.dataplane.snapshot import Principal
from tollhouse.rules.access import admits
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import Refusal

TOKENS_PER_MINUTE_OUTPUT_ESTIMATE = 1_000
"""A tokens-per-minute limit reserves a quarter of the body's bytes and at most this much output; the real figure
replaces it.
"""


def admit(principal: Principal, attempt: Attempt) -> None:
    """May it: is this model open to the key, however the client wrote its name.

    Raises Refusal (400: clients show a 403 as a failed login).
    """
    for models in principal.models:
        if not admits(models, f"{attempt.provider.name}/{attempt.upstream_model}"):
            what = f"may not use {attempt.requested_model!r}, only: {', '.join(models) or 'none'}."
            raise Refusal(400, "model_not_allowed", f"The {principal.called} {what}", scope=principal.called)


def estimate_tokens(ask: Ask) -> int:
    """What a tokens-per-minute limit sets aside until the real figure is known."""
    cap = ask.max_output_tokens
    return ask.body_bytes // 4 + (
        TOKENS_PER_MINUTE_OUTPUT_ESTIMATE if cap is None else min(cap, TOKENS_PER_MINUTE_OUTPUT_ESTIMATE)
    )
