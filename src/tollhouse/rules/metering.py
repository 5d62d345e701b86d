"""How an attempt is settled: which amount is posted, and how well it is known.

The law: what may have been sent is never posted at less than the provider may bill for it. So

    ending                         usage known      amount                                      kind
    not sent                       -                0                                           voided
    provider refused it (4xx)      -                0                                           voided
    server error (5xx), no usage   -                the hold (501: nothing, voided)             upper
    complete                       final            the usage, priced, even above the hold      exact
    complete                       not reported     the hold                                    upper
    cut by the upstream            final            the usage, priced                           exact
    cut by the upstream            not final        the hold                                    upper
    client gone                    final            the usage, priced                           exact
    client gone, cancel stops the  not final        input (reported, else its bound) +          estimated
      provider's meter                              observed output + slack, at most the hold
    client gone, it does not, or   not final        the hold                                    upper
      output was being hidden
    a user's own endpoint          above the hold   the hold                                    upper

Why 4xx is nothing: providers bill for generated answers, and every 4xx (400 invalid request, 401, 403, 404, 413, 422,
429 …) is answered instead of generating one. 408 and 499 are the exceptions: they are said of a request whose work may
have begun. A 5xx or 529 may come after work began, and neither provider promises not to bill it: ambiguous, so the hold
stands. A final usage in the answer settles exactly whatever the status.

A call without a rate card is posted at 0 nano-USD, because there is nothing to compute; that is never silent: the hold
and the ledger row carry an empty `price_version`, by which reports count unpriced calls apart from free ones.
"""

from enum import StrEnum

import msgspec

from tollhouse.rules.bounds import Bound
from tollhouse.rules.prices import RateCard, cost
from tollhouse.terms.events import SettleKind
from tollhouse.terms.money import nusd_from_pusd
from tollhouse.terms.seen import Seen
from tollhouse.terms.usage import Usage

CANCEL_SLACK_TOKENS = 256
"""Output the provider may have generated and billed between what was observed and its noticing that we hung up:
250 ms of cancelling and a network way at 500 tokens/s, doubled."""

NOT_IMPLEMENTED = 501
"""The one server error that says the server cannot do such work at all (RFC 9110 section 15.6.2)."""

AMBIGUOUS_4XX = frozenset({408, 499})
"""Client errors said of a request whose work may have begun (timeout, client closed)."""


class EndingKind(StrEnum):
    """How an attempt ended, as far as the provider's bill is concerned."""

    NOT_SENT = "not_sent"
    """Certainly no byte of the request reached the provider."""
    COMPLETE = "complete"
    """The answer came whole."""
    CUT_BY_UPSTREAM = "cut_by_upstream"
    """The upstream failed, fell silent or closed after the request may have been sent."""
    CLIENT_GONE = "client_gone"
    """The caller went away, or we ended the call on our own, and the upstream was cancelled."""
    ERROR_STATUS = "error_status"
    """The provider answered with `status`, not a 2xx."""


class Ending(msgspec.Struct, frozen=True):
    kind: EndingKind
    status: int = 0
    """The provider's HTTP status with ERROR_STATUS, else 0."""


_NOT_SENT, _EXACT = EndingKind.NOT_SENT, SettleKind.EXACT
"""Asked for at every call: by its own name a member costs a fifth of one by the name of its class (CPython 3.11)."""

NOT_SENT = Ending(EndingKind.NOT_SENT)
COMPLETE = Ending(EndingKind.COMPLETE)
CUT_BY_UPSTREAM = Ending(EndingKind.CUT_BY_UPSTREAM)
CLIENT_GONE = Ending(EndingKind.CLIENT_GONE)


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What to post. `tokens` counts input and output as token budgets do; `usage` is what is known or assumed."""

    kind: SettleKind
    usage: Usage
    amount_nusd: int
    tokens: int


NOTHING = Settled(SettleKind.VOIDED, Usage(), 0, 0)


def error_status(status: int) -> Ending:
    """The ending of an attempt that the provider answered with an HTTP error."""
    return Ending(EndingKind.ERROR_STATUS, status)


def refused_before_work(status: int) -> bool:
    """Whether this HTTP status says that the provider did, and billed, nothing. (Redirects are not followed.)"""
    return (300 <= status < 500 and status not in AMBIGUOUS_4XX) or status == NOT_IMPLEMENTED


def settle_amount(
    card: RateCard | None,
    bound: Bound,
    hold_nusd: int,
    hold_tokens: int,
    seen: Seen,
    ending: Ending,
    cancel_stops_billing: bool,
    slack_tokens: int = CANCEL_SLACK_TOKENS,
) -> Settled:
    """Settle an attempt by the table above.

    bound, hold_nusd, hold_tokens   as the attempt was admitted with
    cancel_stops_billing            the provider stops its meter when a *stream* is cancelled; pass False for an answer
                                    that was not streamed: no provider promises it there
    An exact amount above `hold_nusd` is a violated bound: posted as it is, counted by the caller.
    """
    if ending.kind is _NOT_SENT:
        return NOTHING
    if seen.final:
        usage = seen.usage
        return Settled(_EXACT, usage, 0 if card is None else cost(card, usage), usage.total_tokens())
    if ending.kind is EndingKind.ERROR_STATUS and refused_before_work(ending.status):
        return NOTHING
    if ending.kind is EndingKind.CLIENT_GONE and cancel_stops_billing and not seen.hidden_output:
        return _estimate(card, bound, hold_nusd, hold_tokens, seen, slack_tokens)
    return Settled(SettleKind.UPPER, seen.usage, hold_nusd, hold_tokens)


def not_believed(hold_nusd: int, hold_tokens: int) -> Settled:
    """At the hold, for an answer of a user's own endpoint that reports more. That is on nobody's bill, and may be made
    up to use up budgets that others share.
    """
    return Settled(SettleKind.UPPER, Usage(), hold_nusd, hold_tokens)


def _estimate(
    card: RateCard | None, bound: Bound, hold_nusd: int, hold_tokens: int, seen: Seen, slack_tokens: int
) -> Settled:
    """Input as reported (else as bounded), output seen so far with slack, and all that server tools might have used.

    What the provider reported it also named the variant of; the rest is priced as dearly as the bound has it.
    """
    output_tokens = max(seen.usage.total_output_tokens, seen.output_bound_tokens) + slack_tokens * bound.choices
    usage = msgspec.structs.replace(seen.usage, output_tokens=output_tokens - seen.usage.output_audio_tokens)
    if not seen.input_known:
        usage = msgspec.structs.replace(usage, input_tokens=bound.input_tokens)
        pusd = bound.input_tokens * bound.input_pusd + output_tokens * bound.output_pusd
        nusd = nusd_from_pusd(pusd) + bound.fixed_nusd
        tokens = usage.total_tokens()
    else:
        without_fees = msgspec.structs.replace(usage, web_searches=0, web_fetches=0)
        nusd = nusd_from_pusd(bound.tool_input_tokens * bound.input_pusd) + bound.fixed_nusd
        if card is not None:
            nusd += cost(card, without_fees) - card.request_nusd
        tokens = usage.total_tokens() + bound.tool_input_tokens
    return Settled(SettleKind.ESTIMATED, usage, min(nusd, hold_nusd), min(tokens, hold_tokens))
