"""What an exchange is given: everything it needs, and nothing else."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from tollhouse.dataplane.accounts import Accounts
from tollhouse.dataplane.identify import Scheme
from tollhouse.dataplane.plan import Planner
from tollhouse.dataplane.relay import Relay
from tollhouse.dataplane.snapshot import Snapshot
from tollhouse.dataplane.stored_keys import Opener
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.page import Pinned
from tollhouse.ports import Limiter
from tollhouse.telemetry import Telemetry
from tollhouse.terms.credentials import Credential
from tollhouse.terms.errors import VaultError
from tollhouse.terms.events import Refused
from tollhouse.terms.names import DialectName
from tollhouse.upstream.pool import Pool
from tollhouse.upstream.providers import Provider

if TYPE_CHECKING:
    from tollhouse.dataplane.exchange import Exchange


def nobody_cares(_provider: Provider, _credential_id: str, _status: int) -> None:
    """Default of `Plane.credential_refused`."""


def nobody_heeds(_credential_id: str) -> None:
    """Default of `Plane.credential_worked`."""


def no_vault(_provider: Provider, _credential: Credential) -> Provider:
    """Default of `Plane.open_key`."""
    raise VaultError("this gateway has no vault")


class PlaneOptions(msgspec.Struct, frozen=True):
    """Numbers of the exchange; settings under `upstream` and `listen`."""

    answer_buffer_bytes: int = 8 * 1024 * 1024
    ping_after_s: float = 15.0
    drain_s: float = 120.0
    free_calls_per_minute: int = 1_000
    cors_origins: frozenset[bytes] = frozenset()


class Plane(msgspec.Struct, frozen=True):
    """Everything an exchange needs, put together by the composition root."""

    options: PlaneOptions
    dialects: dict[DialectName, Dialect]
    schemes: Sequence[Scheme]
    directory: Snapshot
    """Whose version says whether what was found by a scheme still holds."""
    planner: Planner
    limiter: Limiter
    accounts: Accounts
    pool: Pool
    telemetry: Telemetry
    note_refused: Callable[[Refused], None]
    request_id: Callable[[int], str]
    """From the time of a request, in nanoseconds since 1970 UTC."""
    now_ns: Callable[[], int]
    chat: Pinned | None = None
    """Of pages; None: `/api/chat` is closed."""
    credential_refused: Callable[[Provider, str, int], None] = nobody_cares
    """Told of each 401 and 403 of a provider: which one, the id of the stored credential it was asked with (empty: its
    own), the status. Plain and quick: the answer waits for it.
    """
    captured: Callable[["Exchange"], Relay] = Relay
    """Makes the relay of a call whose key has its content kept."""
    credential_worked: Callable[[str], None] = nobody_heeds
    """Told of each answer that a provider gave by a stored credential, as plainly and quickly."""
    open_key: Opener = no_vault
    """The provider with a stored credential instead of its own."""
