"""The tree of what can go wrong. Each leaf says whose fault it is, carries a stable code, and what to do.

TollhouseError
├── Refusal                the caller gets an answer in their dialect: `status`, `code`, `message`
├── SettingsError          the operator's file or environment is wrong: what, where, what to write instead
├── JournalError           this machine's disk refused a write: stop admitting, never run unrecorded
├── StorageError           the database is locked, gone or of another version
├── SourceError            a secret cannot be read where it stands, or what stands there is none; it may get better
├── VaultError             a secret cannot be stored or opened: no master key, another one, or it was tampered with
└── UpstreamError          the provider or the way to it failed; `sent` says whether it may have started work
    ├── UpstreamUnreachable     no connection (refused, DNS, TLS, queue full): certainly not sent
    ├── UpstreamTimeout         no answer within `phase` (connect, first_byte, idle, total)
    ├── UpstreamClosed          the connection ended before the answer did
    └── UpstreamGarbled         what came is not HTTP
"""

from collections.abc import Collection
from typing import Any


class TollhouseError(Exception):
    """Root of everything this house raises on purpose."""


class SettingsError(TollhouseError):
    """The operator's settings are wrong; the message names the place and the remedy."""


class JournalError(TollhouseError):
    """The journal could not be written; nothing may be admitted until it can.

    `lost` are the attempts whose holds it could not write: as if they had never been.
    """

    def __init__(self, message: str, lost: Collection[str] = ()) -> None:
        super().__init__(message)
        self.lost = lost


class StorageError(TollhouseError):
    """The database could not be read or written."""


class SourceError(TollhouseError):
    """A secret could not be read where it stands, or what stands there cannot be one. Says why, never what it read.

    withdrawn  somebody took it away on purpose: nothing that was read before is to be used any more
    """

    def __init__(self, message: str, *, withdrawn: bool = False) -> None:
        super().__init__(message)
        self.withdrawn = withdrawn


class VaultError(TollhouseError):
    """A secret could not be sealed or opened. Says why, never anything of the secret."""


class UpstreamError(TollhouseError):
    """The provider or the way to it failed.

    `sent` is True as soon as one byte of the request may have reached the provider: then its cost is unknown.
    """

    code = "upstream_error"

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class UpstreamTimeout(UpstreamError):
    code = "upstream_timeout"

    def __init__(self, message: str, *, phase: str, sent: bool = True) -> None:
        super().__init__(message, sent=sent)
        self.phase = phase


class UpstreamClosed(UpstreamError):
    code = "upstream_closed"


class UpstreamGarbled(UpstreamError):
    code = "upstream_garbled"


class Refusal(TollhouseError):
    """An answer of our own instead of the provider's: what was refused, by what, until when, and what to do.

    status         HTTP status in the Anthropic and OpenAI chat dialects (the table in docs: refusals)
    code           stable, machine-readable, such as `budget_exhausted`
    message        one or two sentences for a person
    scope          what refused, such as `user alice`; empty when nobody's policy did
    retry_after_s  seconds until it makes sense to try again; None when it does not
    should_retry   False adds `x-should-retry: false`, which official SDKs and Claude Code obey
    details        extra facts for the error body (JSON values), such as `affordable_max_tokens`
    close          True when the connection cannot be used further
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        scope: str = "",
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
        details: dict[str, Any] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.scope = scope
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry
        self.details = details or {}
        self.close = close
        self.attempt = 0
        """Which attempt it ended before anything was held for it; 0 for the first."""
