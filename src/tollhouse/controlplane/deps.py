"""What the management API is handed by the composition root."""

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Request
from sqlalchemy import Connection

from tollhouse.controlplane.credential_terms import DEFAULTS as CREDENTIAL_DEFAULTS
from tollhouse.controlplane.credential_terms import AskProvider, CredentialOptions
from tollhouse.controlplane.hooks import Hooks, NoHooks
from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.rates import DEFAULTS, ManagementOptions
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.ports import BudgetReader, CallerStanding, LimitHolder, StatusReader, WhoCalls
from tollhouse.rules.limits import Room
from tollhouse.storage.database import Database
from tollhouse.storage.trail import Trail, event
from tollhouse.storage.watch import Event
from tollhouse.terms.errors import Refusal
from tollhouse.terms.notices import Notice
from tollhouse.terms.people import VirtualKey
from tollhouse.terms.providers import ProviderRow
from tollhouse.vault import MasterKeys, Vault

MAX_BODY_BYTES = 1 << 20
"""Largest body of a management request; the largest legitimate one (metadata) is a few kilobytes."""

T = TypeVar("T")


async def _nothing_to_ship() -> None:
    """Default of `shipped` and `captured` where nothing is called."""


async def _quiet_already(_user_id: str, _before_ns: int) -> bool:
    """Default of `quiet` where nothing is called."""
    return True


class ProviderBook(Protocol):
    """The providers in use."""

    def rows(self) -> Sequence[dict[str, Any]]:
        """One a provider, in the order in which they are asked for a model (see `controlplane.providers`)."""
        ...

    def faults(self, rows: Sequence[ProviderRow]) -> Sequence[tuple[str, str, str]]:
        """Why such declared providers could not be called: name, field, reason."""
        ...

    async def adopt(self) -> None:
        """Read the declared ones again and use them; calls under way finish as they began."""
        ...

    def host_of(self, name: str) -> str | None:
        """Scheme, host and port of a provider, to which credentials for it are bound; None: it takes none."""
        ...

    async def refresh(self, name: str) -> dict[str, Any] | None:
        """Read its credential now; what is known of it then (see `controlplane.providers`), None when it has none."""
        ...


class NoProviders:
    """Where nothing can be called."""

    def rows(self) -> Sequence[dict[str, Any]]:
        return ()

    def faults(self, rows: Sequence[ProviderRow]) -> Sequence[tuple[str, str, str]]:
        return ()

    async def adopt(self) -> None:
        """Nobody to tell."""

    def host_of(self, name: str) -> str | None:
        return None

    async def refresh(self, name: str) -> dict[str, Any] | None:
        return None


_NO_PROVIDERS = NoProviders()
_NO_HOOKS = NoHooks()


def _nobody_told(_notice: Notice) -> None:
    """Default of `notify` where nobody delivers."""


def _no_models() -> Sequence[dict[str, Any]]:
    return ()


async def _room_unknown(_holder: LimitHolder) -> Sequence[Room]:
    """Default of `room` where nothing is called, so nothing is counted."""
    return ()


async def _nobody(_method: str, _headers: Sequence[tuple[bytes, bytes]]) -> CallerStanding:
    """Default of `who` where nothing is called."""
    raise Refusal(503, "not_serving", "No gateway is running here.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlDeps:
    """Narrow values and calls; the API knows nothing of who stands behind them.

    server_secret   key of the keyed hash under which virtual keys are stored
    master_key      None: nobody is owner by bearer, only by the Unix socket or in-process
    changed         makes a committed change of one user (None: of everybody) effective; awaited before the answer
    own_key         which valid virtual key this text is; None for anything else
    ready           None when the gateway may serve, else the reason why not
    room            what each limit of a user, team or key leaves at this instant
    shipped         returns when everything settled so far stands in the ledger
    models          what can be asked for: `id`, `provider`, `priced` and prices, one row a model or pattern
    probe           one bounded look at each provider: name → `reachable`, `detail`, `duration_ms`; None: nothing runs
    providers       the providers in use; declared ones come and go
    metrics_open    True: /metrics answers without credentials
    doorkeeper      who lets people sign in; None: nobody does, as without a server
    hooks           who is told of notices, and by whom
    notify          puts a notice up for whoever wants to be told
    vault           seals and opens what is secret at rest
    capture_days    how long a key may have its content kept, at most
    quiet           ends the calls of a user that were admitted before a time, and returns when all that they left
                    stands in the ledger and nowhere else; False when that takes too long
    captured        returns when the content of calls that are over is stored
    who             who a request belongs to on the data plane; refuses everybody where there is none
    timezone        whose calendar a new budget follows when nobody says
    options         bounds of this API
    master_keys     reads the master keys anew from where the settings say; None: nobody says
    credentials     bounds of stored credentials
    ask_provider    asks a provider whether it takes a credential; None: nothing runs that could
    also            what else belongs into the transaction of a change
    trail           the audit trail that the database keeps; None: none
    """

    database: Database
    server_secret: bytes
    master_key: str | None
    changed: Callable[[str | None], Awaitable[None]]
    standing: BudgetReader
    status: StatusReader
    own_key: Callable[[str], VirtualKey | None]
    ready: Callable[[], str | None]
    metrics: Callable[[], bytes]
    room: Callable[[LimitHolder], Awaitable[Sequence[Room]]] = _room_unknown
    shipped: Callable[[], Awaitable[None]] = _nothing_to_ship
    models: Callable[[], Sequence[dict[str, Any]]] = _no_models
    probe: Callable[[], Awaitable[dict[str, Any]]] | None = None
    providers: ProviderBook = _NO_PROVIDERS
    metrics_open: bool = False
    doorkeeper: Doorkeeper | None = None
    notify: Callable[[Notice], None] = _nobody_told
    vault: Vault = field(default_factory=Vault)
    capture_days: int = 30
    captured: Callable[[], Awaitable[None]] = _nothing_to_ship
    hooks: Hooks = _NO_HOOKS
    quiet: Callable[[str, int], Awaitable[bool]] = _quiet_already
    who: WhoCalls = _nobody
    timezone: str = "UTC"
    max_body_bytes: int = MAX_BODY_BYTES
    options: ManagementOptions = DEFAULTS
    master_keys: Callable[[], MasterKeys] | None = None
    credentials: CredentialOptions = CREDENTIAL_DEFAULTS
    ask_provider: AskProvider | None = None
    also: Callable[[Connection], None] | None = None
    trail: Trail | None = None
    now_ns: Callable[[], int] = time.time_ns
    monotonic: Callable[[], float] = time.monotonic
    random_bytes: Callable[[int], bytes] = secrets.token_bytes

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query. Raises StorageError."""
        return await self.database.read(query)

    async def write(self, change: Callable[[Connection], T], *, touches: Callable[[T], str | None]) -> T:
        """Commit a change, then make it effective, before anybody is told that it was made.

        touches   from the result, whose part of the directory changed: a user id, None for everybody

        Raises StorageError; also when the change is committed but could not be made effective.
        """
        also = self.also

        def both(connection: Connection) -> T:
            made = change(connection)
            if also is not None:
                also(connection)
            return made

        result = await self.database.run(both)
        await self.changed(touches(result))
        return result

    async def record(self, act: str, kind: str, **facts: Any) -> None:
        """Tell the audit trail of an act that changes nothing in the database. Raises StorageError."""
        await self.database.run(lambda connection: event(connection, Event(act, kind, "", facts)))


async def deps_of(request: Request) -> ControlDeps:
    """A coroutine, for FastAPI would run a plain function in a thread."""
    deps: ControlDeps = request.app.state.deps
    mark = request.scope.get("tollhouse.mark")
    return deps if mark is None else replace(deps, also=mark)


Deps = Annotated[ControlDeps, Depends(deps_of)]


def _keeper(deps: Deps) -> Doorkeeper:
    if deps.doorkeeper is None:
        raise Problem(503, "no_server", "Nobody signs in where no server runs: start `tollhouse serve`.")
    return deps.doorkeeper


Keeper = Annotated[Doorkeeper, Depends(_keeper)]
