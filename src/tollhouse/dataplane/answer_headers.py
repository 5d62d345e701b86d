"""The headers of an answer: what this house says about the call.

x-tollhouse-request-id            on every answer; also in the log and the ledger
x-tollhouse-paid-by               whose key the provider was called with: `shared`, `assigned` or `own`
x-tollhouse-held-usd              the worst case held for this call
x-tollhouse-budget                whose budget binds, such as `user alice`
x-tollhouse-budget-remaining-usd  what is left of it with this call held (`-tokens`, `-requests` for other units)
x-tollhouse-budget-reset          when its window ends, seconds since 1970 UTC
x-tollhouse-max-tokens            the output cap sent instead of the client's, with `; clamped` or `; injected`
x-tollhouse-cost-usd              the real cost, when the answer was whole before its head went out
x-tollhouse-overhead-ms           time spent here before the provider was called
x-tollhouse-captured              for how long this call's content is kept, such as `7d`: its key says so
x-ratelimit-*-requests            room in the tightest request limit (Anthropic clients: anthropic-ratelimit-requests-*)
"""

import math
from typing import TYPE_CHECKING

from tollhouse.dataplane.holds import USD, Account, MoneyHold
from tollhouse.dataplane.plan import SHARED
from tollhouse.rules.limits import MINUTE_S
from tollhouse.terms.credentials import PaidBy
from tollhouse.terms.errors import Refusal
from tollhouse.terms.events import Settlement
from tollhouse.terms.money import NUSD_PER_USD
from tollhouse.terms.names import DialectName

if TYPE_CHECKING:
    from tollhouse.dataplane.exchange import Exchange

REQUEST_ID = b"x-tollhouse-request-id: %b\r\n"
PAID_BY = b"x-tollhouse-paid-by: %b\r\n"
HOLD = REQUEST_ID + PAID_BY + b"x-tollhouse-held-usd: %d.%09d\r\n%b"
"""With the lines of the budget that binds."""
USD_HOLDS = {
    payer.value.encode(): REQUEST_ID + PAID_BY % payer.value.encode() + b"x-tollhouse-held-usd: %d.%09d\r\n%b%d.%09d%b"
    for payer in PaidBy
}
USD_HOLD = USD_HOLDS[SHARED]
"""Of nearly all calls: the shared key pays. With what is left of a budget in USD between its labels."""
CAP = b"x-tollhouse-max-tokens: %d; %b\r\n"
OUTCOME = b"x-tollhouse-cost-usd: %d.%09d\r\nx-tollhouse-overhead-ms: %.3f\r\n"
LIMITS = b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %bs\r\n"
"""Room in the tightest request limit, in the words the caller's SDK knows."""
ANTHROPIC_LIMITS = LIMITS + b"anthropic-ratelimit-requests-limit: %d\r\nanthropic-ratelimit-requests-remaining: %d\r\n"
MINUTE = b"%.3f" % MINUTE_S
"""When nearly every limit is wholly free again; to format a float costs as much as the rest of the line."""
ANTHROPIC = DialectName.ANTHROPIC

EXPOSED = (
    b"x-tollhouse-request-id, x-tollhouse-paid-by, x-tollhouse-held-usd, x-tollhouse-budget, "
    b"x-tollhouse-budget-remaining-usd, x-tollhouse-budget-remaining-tokens, x-tollhouse-budget-remaining-requests, "
    b"x-tollhouse-budget-reset, x-tollhouse-max-tokens, x-tollhouse-cost-usd, x-tollhouse-overhead-ms, "
    b"x-tollhouse-captured, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"request-id, x-request-id, retry-after, retry-after-ms"
)

ALLOWED = (
    b"authorization, x-api-key, content-type, anthropic-version, anthropic-beta, "
    b"anthropic-dangerous-direct-browser-access, x-session-id, x-stainless-arch, x-stainless-lang, x-stainless-os, "
    b"x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, "
    b"x-stainless-timeout, x-stainless-helper-method"
)


def own(exchange: "Exchange", settlement: Settlement | None = None) -> bytes:
    """This house's header lines of an answer; with the settlement, cost and overhead too."""
    hold, request_id = exchange.hold, exchange.request_id.encode()
    if hold is None:
        lines = REQUEST_ID % request_id
    else:
        lines = of_hold(request_id, hold)
        ticket = exchange.ticket
        if ticket is not None and (standing := ticket.remaining()) is not None:
            limit, remaining, reset_s = standing.limit, standing.remaining, standing.reset_s
            reset = MINUTE if reset_s == MINUTE_S else b"%.3f" % reset_s
            if exchange.dialect.name is ANTHROPIC:
                lines += ANTHROPIC_LIMITS % (limit, remaining, reset, limit, remaining)
            else:
                lines += LIMITS % (limit, remaining, reset)
        if settlement is not None:
            relay, started_at = exchange.relay, exchange.started_at
            sent_at = started_at if relay is None else relay.sent_at
            cost_nusd = settlement.settle.amount_nusd
            lines += OUTCOME % (cost_nusd // NUSD_PER_USD, cost_nusd % NUSD_PER_USD, (sent_at - started_at) * 1e3)
    if exchange.plane.options.cors_origins:
        lines += of_origin(exchange)
    return lines


def of_hold(request_id: bytes, hold: MoneyHold) -> bytes:
    """Whose call, what is held and what binds; one format for nearly all."""
    cap, account, attempt = hold.cap, hold.binding, hold.attempt
    held = cap.nusd
    if account is not None and account.unit == USD and (free := account.free) >= 0:
        before, after = account.labels or label(account)
        form = USD_HOLDS[attempt.payer] if attempt.credential_id else USD_HOLD
        lines = form % (
            request_id,
            held // NUSD_PER_USD,
            held % NUSD_PER_USD,
            before,
            free // NUSD_PER_USD,
            free % NUSD_PER_USD,
            after,
        )
    else:
        lines = HOLD % (request_id, attempt.payer, held // NUSD_PER_USD, held % NUSD_PER_USD, of_account(account))
    return lines + CAP % (cap.max_output_tokens, b"clamped" if cap.clamped else b"injected") if cap.edit else lines


def of_account(account: Account | None) -> bytes:
    """The budget that binds, if one does, and its room: less than nothing after its limit was lowered."""
    if account is None:
        return b""
    before, after = account.labels or label(account)
    free = account.free
    if account.unit != USD:
        return b"%b%d%b" % (before, free, after)
    sign = b"-" if free < 0 else b""
    return b"%b%b%d.%09d%b" % (before, sign, abs(free) // NUSD_PER_USD, abs(free) % NUSD_PER_USD, after)


def of_refusal(refusal: Refusal, request_id: str) -> bytes:
    """The header lines of an answer in our own words."""
    lines = f"content-type: application/json\r\nrequest-id: {request_id}\r\nx-request-id: {request_id}\r\n"
    if refusal.retry_after_s is not None:
        wait_s = max(refusal.retry_after_s, 0.0)
        lines += f"retry-after: {int(-(-wait_s // 1))}\r\nretry-after-ms: {int(wait_s * 1000) + 1}\r\n"
    if refusal.status == 426:
        lines += "upgrade: HTTP/1.1\r\nconnection: upgrade\r\n"  # RFC 9110 section 15.5.22
    if refusal.should_retry is not None:
        lines += f"x-should-retry: {'true' if refusal.should_retry else 'false'}\r\n"
    return lines.encode("ascii")


def label(account: Account) -> tuple[bytes, bytes]:
    """What stands before and after the room of a budget; the same for all of its window."""
    budget = account.budget
    whose = printable(budget.whose.encode("ascii", "backslashreplace").decode("ascii"))
    before = f"x-tollhouse-budget: {whose}\r\nx-tollhouse-budget-remaining-{budget.unit.value}: "
    after = "\r\n" if account.end_s == math.inf else f"\r\nx-tollhouse-budget-reset: {int(account.end_s)}\r\n"
    account.labels = before.encode(), after.encode()
    return account.labels


def of_origin(exchange: "Exchange") -> bytes:
    """CORS: never `*` and never with credentials, so a page of another origin has what it shows itself, no cookie."""
    origin = exchange.head.read.get(b"origin")
    return cors(origin) if origin in exchange.plane.options.cors_origins else b""


def cors(origin: bytes) -> bytes:
    """For an origin that is on the list."""
    return b"access-control-allow-origin: %b\r\naccess-control-expose-headers: %b\r\nvary: origin\r\n" % (
        origin,
        EXPOSED,
    )


def preflight(origin: bytes, methods: bytes) -> bytes:
    """Allowed for an hour, without credentials; the headers are those of the vendors' SDKs in a browser."""
    return (
        b"access-control-allow-origin: %b\r\nvary: origin\r\naccess-control-allow-methods: %b\r\n"
        b"access-control-allow-headers: %b\r\naccess-control-max-age: 3600\r\n" % (origin, methods, ALLOWED)
    )


def printable(text: str) -> str:
    """No control character may reach a header line: user ids are any string."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
