"""What happened, in the form in which it is journalled and shipped: pending → posted | voided.

Records are arrays on disk (msgspec `array_like`, tagged by their first element); fields are only ever added at the end,
with defaults.
"""

from enum import StrEnum

import msgspec

from tollhouse.terms.usage import Usage


class SettleKind(StrEnum):
    """How the amount of a settlement is known."""

    EXACT = "exact"
    """The provider's own usage, priced."""
    ESTIMATED = "estimated"
    """The call ended early: observed usage plus a safe bound of what was not reported."""
    UPPER = "upper"
    """Nothing is known: the whole hold."""
    VOIDED = "voided"
    """Nothing was sent, or the provider refused before work: no ledger entry, amount 0."""


class HoldRecord(msgspec.Struct, frozen=True, array_like=True, tag="H"):
    """A hold was taken; written before the first byte goes upstream. Carries all a ledger entry needs to know of its
    origin.
    """

    attempt_id: str
    request_id: str
    at_ns: int
    """Wall clock, nanoseconds since 1970 UTC, of admission."""
    org_id: str
    user_id: str
    key_id: str
    endpoint: str
    provider: str
    requested_model: str
    upstream_model: str
    price_version: str
    hold_nusd: int
    hold_tokens: int
    max_output_tokens: int
    streamed: bool
    budgets: tuple[tuple[str, int], ...]
    """(budget id, start of its window in seconds since 1970 UTC) of every budget this hold counts against."""
    client: str = ""
    """User-Agent family, such as `claude-cli`."""
    session: str = ""
    team_id: str = ""
    """The team the call counts toward."""
    credential_id: str = ""
    """The stored credential it is sent with; empty: the shared one (`credentials.paid_by`)."""
    end_user: str = ""
    """Of the application's own users, as the client says."""


class SettleRecord(msgspec.Struct, frozen=True, array_like=True, tag="S"):
    """A hold was settled, exactly once; written before the last byte goes to the client."""

    attempt_id: str
    at_ns: int
    kind: SettleKind
    amount_nusd: int
    usage: Usage
    served_model: str
    status: int
    """HTTP status the client got, 0 if it was gone before one was sent."""
    code: str
    """Empty when all went well, else the stable code of what ended it (`client_gone`, `upstream_reset`, …)."""
    duration_us: int
    first_byte_us: int
    """From admission to the first byte of the upstream's answer; 0 if there was none."""
    upstream_request_id: str = ""
    response_bytes: int = 0
    tokens: int = 0
    """What token budgets count: input and output, bounded where it is not known; 0 when voided."""


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="R"):
    """A request that never got a hold: refused, malformed, or free of charge. Goes to the request log only."""

    request_id: str
    at_ns: int
    org_id: str
    user_id: str
    key_id: str
    endpoint: str
    requested_model: str
    status: int
    code: str
    duration_us: int
    client: str = ""
    provider: str = ""
    team_id: str = ""
    """The team the call would have counted toward."""
    credential_id: str = ""
    end_user: str = ""
    attempts: int = 0
    """0 unless the provider refused earlier ones of this request; then this one counts among them."""


Record = HoldRecord | SettleRecord
"""What the journal holds."""


class Settlement(msgspec.Struct, frozen=True):
    """A hold with its end: one ledger entry (unless voided) and one row of the request log."""

    hold: HoldRecord
    settle: SettleRecord
