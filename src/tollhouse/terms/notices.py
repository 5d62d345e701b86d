"""What somebody may want to be told of: a budget nearly spent, a credential its provider refuses, a door locked."""

from enum import StrEnum
from typing import Any

import msgspec


class NoticeKind(StrEnum):
    """What happened. Names are for good: receivers match them."""

    BUDGET_THRESHOLD = "budget.threshold"
    CREDENTIAL_REFUSED = "credential.refused"
    """A provider refuses a credential that it should take (401, 403): access may be revoked."""
    SOURCE_FAILED = "credential.source_failed"
    """Where a credential is read from cannot be read; the old one serves on."""
    SOURCE_RECOVERED = "credential.source_recovered"
    LOCKED_OUT = "sign_in.locked_out"
    ANOMALY = "anomaly"
    KEY_PAUSED = "key.paused"
    TEST = "test"


class Notice(msgspec.Struct, frozen=True):
    """One thing that happened.

    subject  whom or what it is about, as `user alice`, `key key_1`, `budget bud_1`, `provider anthropic`
    text     one plain sentence for people, without a secret
    data     facts for programs: str, int, bool only
    once     a name under which it is told once and never again; empty: each time
    """

    kind: NoticeKind
    subject: str
    text: str
    data: dict[str, Any] = {}
    once: str = ""
    at_ns: int = 0
    """Wall clock; 0: when it is taken."""
