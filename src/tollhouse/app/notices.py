"""Notices put together: from the board into the database, from there to webhooks."""

import ssl
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from tollhouse.app.providers import tls_context
from tollhouse.app.store import Store
from tollhouse.events import Board, Poster
from tollhouse.events.signature import secret_bytes
from tollhouse.rules.addresses import AddressRules, read_networks
from tollhouse.rules.thresholds import past
from tollhouse.rules.webhook_urls import check_webhook_url
from tollhouse.settings import Settings, read_secret
from tollhouse.storage import notices
from tollhouse.terms.errors import SettingsError
from tollhouse.terms.people import DirectoryImage
from tollhouse.terms.webhooks import DECLARED_PREFIX, Webhook
from tollhouse.upstream.guard import AddressGuard
from tollhouse.vault import Binding, Vault, version_of
from tollhouse.workers import Deliverer, DelivererOptions, Recorder, Upkeep

if TYPE_CHECKING:
    import httpx

LOOPBACK = ("127.0.0.0/8", "::1/128")
TEST_MARGIN_S = 5.0
"""How much longer than a try somebody waits to hear how it went."""


class HooksAtRest:
    """What the management API needs of webhooks; where no server runs, this is all there is."""

    running = False

    def __init__(self, settings: Settings, vault: Vault) -> None:
        self._vault = vault
        self._allow_loopback = settings.notices.allow_loopback
        self.max_webhooks = settings.notices.max_webhooks
        self.warnings: list[str] = []
        self._secrets: dict[str, bytes] = {}
        """Of the declared ones, by id."""
        self.declared = tuple(self._read(settings))

    def _read(self, settings: Settings) -> list[Webhook]:
        """The webhooks of the settings. One without a good secret is off, and a warning says why. Raises SettingsError
        for a bad address.
        """
        found = []
        for row in settings.webhooks:
            webhook_id, where = f"{DECLARED_PREFIX}{row.name}", f"webhooks.{row.name}"
            try:
                url = self.check_url(row.url)
            except ValueError as error:
                raise SettingsError(f"{where}.url: {error}") from None
            hint = ""
            try:
                secret = read_secret(row.secret, where=f"{where}.secret") if row.secret else ""
                if not secret:
                    raise SettingsError(f"{where}.secret: is empty")
                self._secrets[webhook_id] = secret_bytes(secret)
                hint = secret[-4:]
            except (SettingsError, ValueError) as error:
                self.warnings.append(f"The webhook {row.name} is off, nothing is sent unsigned: {error}.")
            found.append(Webhook(webhook_id, url, name=row.name, kinds=row.kinds, hint=hint))
        return found

    def check_url(self, url: str) -> str:
        return check_webhook_url(url, allow_loopback=self._allow_loopback)

    def seal(self, webhook_id: str, secret: str) -> tuple[bytes, int]:
        sealed = self._vault.seal(secret.encode(), binding(webhook_id))
        return sealed, version_of(sealed)  # the newest key may have changed in between

    def secret_of(self, hook: Webhook) -> bytes:
        """What signs for a webhook. Raises VaultError."""
        known = self._secrets.get(hook.webhook_id)
        if known is not None:
            return known
        return secret_bytes(self._vault.unseal(hook.sealed, binding(hook.webhook_id)).decode())

    async def tried(self, webhook_id: str, notice_id: str) -> None:
        """Nobody tries."""


def guarded_transport(guard: AddressGuard, tls: ssl.SSLContext) -> "httpx.AsyncBaseTransport":
    from tollhouse.upstream.guarded_http import GuardedTransport  # noqa: PLC0415  httpx, when there is somebody to tell

    return GuardedTransport(guard, tls)


def binding(webhook_id: str) -> Binding:
    """What the envelope of a webhook's secret is bound to; the secret itself is sent nowhere."""
    return Binding("default", webhook_id, "webhook", "")


class Herald(HooksAtRest):
    """Tells the world, while the house is open."""

    running = True

    def __init__(self, settings: Settings, store: Store, board: Board, vault: Vault) -> None:
        super().__init__(settings, vault)
        options = self._options = settings.notices
        self._store = store
        tls = tls_context(settings)
        guard = AddressGuard(
            AddressRules(read_networks((*options.allowed_networks, *(LOOPBACK if options.allow_loopback else ())))),
            whose="a webhook",
            setting="notices.allowed_networks",
        )
        self.poster = Poster(
            timeout_s=options.timeout_s,
            tls=tls,
            parallel=options.parallel,
            transport=partial(guarded_transport, guard, tls),
        )
        self.deliverer = Deliverer(
            store.database,
            self.poster,
            self.secret_of,
            self.declared,
            DelivererOptions(
                parallel=options.parallel,
                first_retry_s=options.first_retry_s,
                last_retry_s=options.last_retry_s,
                give_up_s=options.give_up_s,
            ),
        )
        self.recorder = Recorder(
            board, store.database, self.declared, self.deliverer.wake, max_pending=options.max_pending
        )
        self._upkeep = Upkeep(self._prune)
        self._percents = settings.money.thresholds
        self._caught_up = False

    def open(self, opened: AsyncExitStack) -> None:
        """Begin; `opened` ends it."""
        opened.push_async_callback(self.poster.close)
        self.deliverer.start()
        opened.push_async_callback(self.deliverer.stop)
        self.recorder.start()
        opened.push_async_callback(self.recorder.stop)
        self._upkeep.start()
        opened.push_async_callback(self._upkeep.stop)

    def catch_up(self, image: DirectoryImage) -> None:
        """What the last process may have left untold: thresholds that were passed before the first image was read."""
        if not self._caught_up:
            self._caught_up = True
            self.recorder.add(past(image, self._percents))

    async def tried(self, webhook_id: str, notice_id: str) -> None:
        await self.deliverer.tried(webhook_id, notice_id, self._options.timeout_s + TEST_MARGIN_S)

    async def _prune(self) -> int:
        keep = self._options
        now_ns = time.time_ns()
        return await self._store.database.run(
            lambda connection: notices.prune(
                connection, keep_days=keep.keep_days, keep_rows=keep.keep_rows, now_ns=now_ns
            )
        )
