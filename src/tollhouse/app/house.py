"""The house put together.

Order of start, each step needing the one before: home (lock, secret) → database → journal and recovery → embedded model
→ prices and providers → directory → data plane. Shutdown runs the other way: ship what is settled, close the journal
with its clean mark.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI

from tollhouse.app import privacy, sign_in, standing
from tollhouse.app import providers as setup
from tollhouse.app.asker import CredentialAsker
from tollhouse.app.chat import pinned
from tollhouse.app.fleet import Fleet
from tollhouse.app.identity import schemes
from tollhouse.app.key_sources import open_keyring
from tollhouse.app.lookout import start_lookout
from tollhouse.app.metrics import counted
from tollhouse.app.notices import Herald
from tollhouse.app.opening import KeyOpener, open_credential_watch
from tollhouse.app.request_ids import RequestIds
from tollhouse.app.restoring import restore_limits
from tollhouse.app.store import Store
from tollhouse.app.vaulting import credential_options, read_master_keys, read_stored, vault_warnings
from tollhouse.controlplane.api import build_api
from tollhouse.controlplane.deps import ControlDeps
from tollhouse.controlplane.rates import ManagementOptions
from tollhouse.controlplane.sign_in.inviting import first_owner
from tollhouse.controlplane.vault import look
from tollhouse.dataplane.accounts import Accounts, MoneyOptions
from tollhouse.dataplane.exchange import Exchange
from tollhouse.dataplane.forward_auth import who
from tollhouse.dataplane.gate import EdgeOptions, Gate
from tollhouse.dataplane.identify import VirtualKeyScheme
from tollhouse.dataplane.plane import Plane, PlaneOptions
from tollhouse.dataplane.snapshot import Snapshot
from tollhouse.dataplane.thresholds import Thresholds
from tollhouse.dataplane.turn import Turn
from tollhouse.dialects.anthropic import ANTHROPIC
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.openai_chat import OPENAI_CHAT
from tollhouse.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from tollhouse.dialects.openai_responses import OPENAI_RESPONSES
from tollhouse.dialects.page import PAGE
from tollhouse.events import Board
from tollhouse.limiter.memory import MemoryLimiter
from tollhouse.ports import SessionFinder
from tollhouse.rules import keys
from tollhouse.settings import Settings
from tollhouse.storage import captures, requests
from tollhouse.storage.image import load_image
from tollhouse.telemetry import Telemetry
from tollhouse.terms.errors import Refusal
from tollhouse.terms.events import Refused, Settlement
from tollhouse.terms.names import Endpoint
from tollhouse.terms.people import VirtualKey
from tollhouse.upstream.local import LocalModel
from tollhouse.upstream.pool import Pool, PoolOptions
from tollhouse.upstream.providers import Provider
from tollhouse.workers import Census, Follower, Shipper, ShipperOptions, StrangerGate, Upkeep, tallied

DIALECTS: tuple[Dialect, ...] = (ANTHROPIC, OPENAI_CHAT, OPENAI_RESPONSES, OPENAI_EMBEDDINGS, PAGE)
NO_PROVIDER = (
    "No provider is configured: set ANTHROPIC_API_KEY or OPENAI_API_KEY, write `providers:` into the settings or a "
    "file to apply, or install the extra `local`."
)
SHIP_TIMEOUT_S = 5.0
"""How long a look at the log, and a shutdown, wait for the ledger to catch up; the journal keeps what is late."""


class House:
    """The running gateway: store, providers, data plane and management API."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.vault = store.vault
        self.local: LocalModel | None = None
        self.sessions: SessionFinder | None = None
        """Who is signed in; None: nobody can."""
        self.setup_token: str | None = None
        """Makes its holder the first owner; for who started this, and nobody's log."""
        self.board = Board()
        self.control: ControlDeps
        """What the management API has in hand, once it is built."""
        self.started_ns = time.time_ns()
        self.base_url = ""
        """Set by who serves."""
        self.background: set[asyncio.Task[None]] = set()
        self.follower = Follower(self._adopt)
        self.changed = self.follower.follow
        self.request_stop: Callable[[], None] = lambda: None
        """Set by who serves: ends serving, with a drain."""
        self._stopping = False
        self._opened = contextlib.AsyncExitStack()
        """How to close what was opened so far, latest first: a start may fail half-way."""

    async def start(self) -> None:
        """Everything up to the listeners. Raises TollhouseError with what is wrong and what to do."""
        settings, store = self.settings, self.store
        await store.database.run(lambda connection: look(connection, self.vault))
        self.herald = Herald(settings, store, self.board, self.vault)
        self.keyring = open_keyring(settings, self.board.emit, partial(read_stored, store.database, self.vault))
        self._opened.push_async_callback(self.keyring.stop)
        self.fleet = Fleet(settings, store, self.keyring)
        others = await self.fleet.read()
        if setup.wants_local(settings, others=others):
            self.local = LocalModel(setup.local_options(settings))
            self._opened.push_async_callback(self.local.stop)
            await asyncio.gather(self.fleet.open(), self.local.start())
            self.fleet.embed(self.local)
        else:
            await self.fleet.open()
        self.shipper = Shipper(
            store.ledger,
            store.journal,
            ShipperOptions(
                max_backlog=settings.storage.max_backlog,
                max_refused=settings.storage.max_refused_backlog,
            ),
        )
        self.snapshot = Snapshot()
        self.turn = Turn(store.journal, asyncio.get_running_loop())
        self.accounts = Accounts(
            self.turn,
            self.shipper,
            MoneyOptions(
                min_output_tokens=settings.money.min_output_tokens,
                default_max_tokens=settings.money.default_max_tokens,
                default_window_tokens=settings.money.default_window_tokens,
                strict=settings.storage.durability == "strict",
            ),
            time.time_ns,
            Thresholds(settings.money.thresholds, self.board.emit),
        )
        self.turn.lost = self.accounts.lost
        self.limiter = MemoryLimiter(timezone=settings.money.timezone)
        self.doorkeeper = await sign_in.open_doorkeeper(settings, store, self.changed, self.board.emit, self._opened)
        self.sessions = self.doorkeeper.book
        self.setup_token = await first_owner(self.doorkeeper)
        self._opened.push_async_callback(self.follower.stop)
        await self.changed(None)
        await store.database.run(partial(restore_limits, self))
        self.shipper.start()
        self._opened.push_async_callback(self.shipper.stop, SHIP_TIMEOUT_S)
        rows_per_s = settings.storage.max_stranger_rows_per_s
        self.strangers = StrangerGate(self.shipper.put_refused, rows_per_s, time.monotonic)
        self.capturer = privacy.start_capturer(self)
        self._opened.push_async_callback(self.capturer.stop, privacy.CAPTURE_TIMEOUT_S)
        self.upkeep = Upkeep(self._prune)
        self.upkeep.start()
        self._opened.push_async_callback(self.upkeep.stop)
        self.credential_watch = await open_credential_watch(store, self.board.emit)
        self._opened.push_async_callback(self.credential_watch.stop)
        self._open_plane()
        self.herald.open(self._opened)
        self.census = Census()
        self.telemetry.more = partial(counted, self)
        self.lookout = start_lookout(self)
        self._opened.push_async_callback(self.lookout.stop)
        self.shipper.told = self._shipped

    @property
    def warnings(self) -> list[str]:
        """What the operator should know of, once it has started."""
        found = [
            *self.fleet.warnings,
            *self.keyring.warnings(),
            *self.herald.warnings,
            *vault_warnings(self.settings, self.vault),
            *((self.store.trail.trouble,) if self.store.trail.trouble else ()),
        ]
        return found if self.providers else [*found, NO_PROVIDER]

    @property
    def providers(self) -> tuple[Provider, ...]:
        """Those in use now."""
        return self.fleet.providers

    def _open_plane(self) -> None:
        listen, upstream = self.settings.listen, self.settings.upstream
        pool_options = PoolOptions(**{name: getattr(upstream, name) for name in PoolOptions.__struct_fields__})
        self.pool = Pool(pool_options, self.turn.call)
        self.fleet.pool = self.pool
        self.own_endpoints = setup.own_endpoints(self.settings)
        self._opened.callback(self.pool.close)
        self.virtual_keys = VirtualKeyScheme(self.snapshot, self.store.server_secret, time.time_ns)
        self.telemetry = Telemetry(
            partial(standing.gauges, self), partial(standing.infos, self), partial(standing.by_provider, self)
        )
        cors_origins = frozenset(origin.encode("ascii") for origin in listen.cors_origins)
        self.plane = Plane(
            options=PlaneOptions(
                answer_buffer_bytes=upstream.answer_buffer_bytes,
                ping_after_s=upstream.ping_after_s,
                drain_s=upstream.drain_s,
                free_calls_per_minute=self.settings.count_tokens_per_minute,
                cors_origins=cors_origins,
            ),
            dialects={dialect.name: dialect for dialect in DIALECTS},
            schemes=schemes(self),
            directory=self.snapshot,
            planner=self.fleet.planner,
            limiter=self.limiter,
            accounts=self.accounts,
            pool=self.pool,
            telemetry=self.telemetry,
            note_refused=self.strangers.put,
            credential_refused=self.credential_refused,
            request_id=RequestIds().make,
            now_ns=time.time_ns,
            chat=pinned(self.settings.chat, self.fleet.planner, self.warnings),
            captured=privacy.captured_relay(self),
            open_key=KeyOpener(self.vault, self.own_endpoints),
            credential_worked=self.credential_watch.worked,
        )
        options = EdgeOptions(
            **{name: value for name, value in listen if name in EdgeOptions.__struct_fields__},
            closed=frozenset(() if self.plane.chat else (Endpoint.CHAT,)),
        )
        self.gate = Gate(options, partial(Exchange, self.plane), asyncio.get_running_loop(), self.turn)
        self._opened.callback(self.gate.close)

    async def stop(self) -> None:
        """After the drain, or a start that failed: everything settled is shipped and all that was opened closed. What
        cannot be shipped stays in the journal.
        """
        self._stopping = True
        await self._opened.aclose()

    async def _prune(self) -> int:
        """Some rows of the request log beyond its bounds, and content whose time is over."""
        keep, now_ns = self.settings.storage, time.time_ns()

        def act(connection: Any) -> int:
            keep_rows, keep_days = keep.keep_requests_rows, keep.keep_requests_days
            gone = requests.prune(connection, keep_rows=keep_rows, keep_days=keep_days, now_ns=now_ns)
            return gone + captures.forget_expired(connection, now_ns)

        return await self.store.database.run(act)

    def credential_refused(self, provider: Provider, credential_id: str, status: int) -> None:
        """A provider refuses (401, 403) its own credential, or a stored one."""
        if credential_id:
            self.credential_watch.refused(provider.name, credential_id, status)
        else:
            self.fleet.credential_refused(provider, status)

    # --- what the management API is handed

    async def _adopt(self, user_id: str | None) -> None:
        """Read the directory, or one user's part of it: the next request sees it."""
        now_s = int(time.time())
        timezone = self.settings.money.timezone
        image = await self.store.database.run(
            lambda connection: load_image(connection, user_id, now_s=now_s, timezone=timezone)
        )
        self.accounts.adopt(image)
        self.snapshot.replace(image, user_id)
        self.herald.catch_up(image)
        if user_id is None:
            self.keyring.read_soon("stored")
        await self.doorkeeper.people_changed(image.users)

    def _shipped(self, settlements: Sequence[Settlement], refused: Sequence[Refused]) -> None:
        self.accounts.shipped(settlements)
        tallies = tallied(settlements)
        self.lookout.shipped(tallies, refused)
        self.census.take(tallies)

    def own_key(self, text: str) -> VirtualKey | None:
        """The key this text is, if it is good."""
        if not keys.is_well_formed(text):
            return None
        try:
            return self.virtual_keys.principal_of(text.encode("ascii")).key
        except Refusal:
            return None

    def ready(self) -> str | None:
        """Why calls cannot be served right now."""
        if self._stopping or self.gate.draining:
            return "shutting down"
        if not self.store.journal.healthy:
            return "the journal cannot be written"
        if self.shipper.full:
            return "the ledger is behind"
        if self.local is not None and len(self.providers) == 1 and self.local.state != "ready":
            return f"the embedded model is {self.local.state}"
        return None

    def build_api(self) -> FastAPI:
        api = build_api(
            ControlDeps(
                database=self.store.database,
                server_secret=self.store.server_secret,
                master_key=self.settings.master_key or None,
                changed=self.changed,
                notify=self.board.emit,
                vault=self.vault,
                capture_days=self.settings.capture.max_days,
                captured=self.captured,
                hooks=self.herald,
                quiet=partial(privacy.quiet, self),
                standing=self.accounts,
                status=partial(standing.status, self),
                own_key=self.own_key,
                ready=self.ready,
                metrics=self.telemetry.render,
                room=self.limiter.room,
                shipped=self.shipped,
                models=partial(standing.models, self),
                probe=partial(standing.probe, self),
                providers=self.fleet,
                metrics_open=self.settings.metrics_open,
                doorkeeper=self.doorkeeper,
                who=partial(who, self.plane),
                timezone=self.settings.money.timezone,
                master_keys=partial(read_master_keys, self.settings),
                credentials=credential_options(self.settings),
                ask_provider=CredentialAsker(self.settings, self.fleet, self.pool, self.own_endpoints),
                options=ManagementOptions(**self.settings.management.model_dump()),
                trail=self.store.trail,
            )
        )
        self.control = api.state.deps
        return api

    async def captured(self) -> None:
        """The content of calls that are over is stored, or the wait for it was long enough."""
        await self.capturer.flush(privacy.CAPTURE_TIMEOUT_S)

    async def shipped(self) -> None:
        """Everything settled so far stands in the ledger, or the wait for it was long enough."""
        await self.shipper.flush(SHIP_TIMEOUT_S)
