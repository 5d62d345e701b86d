"""Who is told of notices over HTTP, and how far that has come."""

from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from tollhouse.terms.notices import Notice

HOOK_PREFIX: Final = "hook_"
DECLARED_PREFIX: Final = "settings:"
"""Before the name of a webhook that the settings declare: it has no row."""
EVERYTHING: Final = ("*",)


class Webhook(msgspec.Struct, frozen=True):
    """Where notices are sent. Without a secret nothing is sent at all: nobody could tell ours from another's.

    kinds         globs over `NoticeKind`, such as `budget.*`
    sealed        the signing secret in an envelope of the vault; empty: the hook is off
    sealed_under  the version of the master key that opens it
    gone_at_ns    when the receiver said that it is gone for good (410), which switched it off
    """

    webhook_id: str
    url: str
    name: str = ""
    kinds: tuple[str, ...] = EVERYTHING
    enabled: bool = True
    hint: str = ""
    """The secret's last four characters."""
    created_by: str = ""
    created_at_ns: int = 0
    gone_at_ns: int | None = None
    sealed: bytes = b""
    sealed_under: int = 0

    @property
    def on(self) -> bool:
        return self.enabled and bool(self.hint)


def wants(kinds: tuple[str, ...], kind: str) -> bool:
    """Whether one of the globs admits this kind."""
    return any(fnmatchcase(kind, glob) for glob in kinds)


class DeliveryState(StrEnum):
    """Pending until its receiver took it, or for good too late."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class RecordedNotice(msgspec.Struct, frozen=True):
    """A notice with the id under which it is sent, each time it is."""

    notice_id: str
    notice: Notice


class Delivery(msgspec.Struct, frozen=True):
    """One notice on its way to one webhook."""

    webhook_id: str
    notice_id: str
    kind: str
    state: DeliveryState
    attempts: int
    created_at_ns: int
    next_at_ns: int
    """When it is tried next; of use while it is pending."""
    ended_at_ns: int | None
    status: int
    """What the receiver answered last; 0: nothing."""
    error: str
    """Why the last try failed; empty when it did not."""
