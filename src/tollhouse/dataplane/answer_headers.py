"""The headers of an answer: what of the provider's travels on, and what this house says about the call.

x-tollhouse-request-id            on every answer; also in the log and the ledger
x-tollhouse-held-usd              the worst case held for this call
x-tollhouse-budget                whose budget binds, such as `user alice`
x-tollhouse-budget-remaining-usd  what is left of it with this call held (`-tokens`, `-requests` for other units)
x-tollhouse-budget-reset          when its window ends, seconds since 1970 UTC
x-tollhouse-max-tokens            the output cap sent instead of the client's, with `; clamped` or `; injected`
x-tollhouse-cost-usd              the real cost, when the answer was whole before its head went out
x-tollhouse-overhead-ms           time spent here before the provider was called
x-ratelimit-*-requests            room in the tightest request limit (Anthropic clients: anthropic-ratelimit-requests-*)
"""

import math
from typing import TYPE_CHECKING

from tollhouse.dataplane.head import HOP_BY_HOP
from tollhouse.dataplane.holds import USD, Account, MoneyHold
from tollhouse.terms.errors import Refusal
from tollhouse.terms.events import Settlement
from tollhouse.terms.money import NUSD_PER_USD
from tollhouse.terms.names import DialectName
from tollhouse.upstream.connection import Headers

if TYPE_CHECKING:
    from tollhouse.dataplane.exchange import Exchange

DROPPED = HOP_BY_HOP | {
    b"content-length",
    b"set-cookie",
    b"alt-svc",
    b"strict-transport-security",
    b"anthropic-organization-id",
    b"openai-organization",
    b"openai-project",
}
"""Not for our clients: framing is ours, cookies and organisation belong to the operator's account."""
DROPPED_PREFIXES = (b"anthropic-ratelimit-", b"x-ratelimit-", b"access-control-", b"x-tollhouse-")
"""Limits of the shared key say nothing to one of its users; CORS is decided here."""

HELD = b"x-tollhouse-held-usd: %d.%09d\r\n"
OUTCOME = b"x-tollhouse-cost-usd: %d.%09d\r\nx-tollhouse-overhead-ms: %.3f\r\n"
LIMITS = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %.3fs\r\n"
)
"""Room in the tightest request limit, in the words the caller's SDK knows."""
ANTHROPIC_LIMITS = b"anthropic-ratelimit-requests-limit: %d\r\nanthropic-ratelimit-requests-remaining: %d\r\n"
ANTHROPIC = DialectName.ANTHROPIC

EXPOSED = (
    b"x-tollhouse-request-id, x-tollhouse-held-usd, x-tollhouse-budget, x-tollhouse-budget-remaining-usd, "
    b"x-tollhouse-budget-reset, "
    b"x-tollhouse-max-tokens, x-tollhouse-cost-usd, x-tollhouse-overhead-ms, request-id, x-request-id, retry-after"
)

ALLOWED = (
    b"authorization, x-api-key, content-type, anthropic-version, anthropic-beta, "
    b"anthropic-dangerous-direct-browser-access, x-session-id, x-stainless-arch, x-stainless-lang, x-stainless-os, "
    b"x-stainless-package-version, x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, "
    b"x-stainless-timeout, x-stainless-helper-method"
)


def own(exchange: "Exchange", settlement: Settlement | None = None) -> bytes:
    """This house's header lines of an answer; with the settlement, cost and overhead too."""
    lines = b"x-tollhouse-request-id: %b\r\n" % exchange.request_id.encode()
    hold, ticket = exchange.hold, exchange.ticket
    if hold is not None:
        lines += of_hold(hold)
        standing = None if ticket is None else ticket.remaining()
        if standing is not None:
            limit, remaining, reset_s = standing.limit, standing.remaining, standing.reset_s
            lines += LIMITS % (limit, remaining, reset_s)
            if exchange.dialect.name is ANTHROPIC:
                lines += ANTHROPIC_LIMITS % (limit, remaining)
        if settlement is not None:
            relay = exchange.relay
            sent_at = relay.call.sent_at if relay is not None and relay.call is not None else exchange.started_at
            cost_nusd = settlement.settle.amount_nusd
            overhead_ms = (sent_at - exchange.started_at) * 1e3
            lines += OUTCOME % (cost_nusd // NUSD_PER_USD, cost_nusd % NUSD_PER_USD, overhead_ms)
    origin = exchange.head.read.get(b"origin")
    return lines + cors(origin) if origin in exchange.plane.options.cors_origins else lines


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


def forwarded(headers: Headers) -> bytes:
    """The provider's header lines that travel on."""
    return b"".join(
        [
            b"%b: %b\r\n" % pair
            for pair in headers
            if pair[0] not in DROPPED and not pair[0].startswith(DROPPED_PREFIXES)
        ]
    )


def usd(amount_nusd: int) -> bytes:
    """Nine decimals, by integer arithmetic."""
    if amount_nusd < 0:
        return b"-" + usd(-amount_nusd)
    return b"%d.%09d" % (amount_nusd // NUSD_PER_USD, amount_nusd % NUSD_PER_USD)


def of_hold(hold: MoneyHold) -> bytes:
    """What is held and what binds."""
    cap, account = hold.cap, hold.binding
    lines = HELD % (cap.nusd // NUSD_PER_USD, cap.nusd % NUSD_PER_USD)
    if account is not None:
        before, after = account.labels or label(account)
        left = usd(account.free) if account.unit == USD else b"%d" % account.free
        lines += before + left + after
    if cap.edit:
        why = b"clamped" if cap.clamped else b"injected"
        lines += b"x-tollhouse-max-tokens: %d; %b\r\n" % (cap.max_output_tokens, why)
    return lines


def label(account: Account) -> tuple[bytes, bytes]:
    """What stands before and after the room of a budget; the same for all of its window."""
    budget = account.budget
    whose = printable(budget.whose.encode("ascii", "backslashreplace").decode("ascii"))
    before = f"x-tollhouse-budget: {whose}\r\nx-tollhouse-budget-remaining-{budget.unit.value}: "
    after = "\r\n" if account.end_s == math.inf else f"\r\nx-tollhouse-budget-reset: {int(account.end_s)}\r\n"
    account.labels = before.encode(), after.encode()
    return account.labels


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
