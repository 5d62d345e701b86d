"""The management API without a server: for commands when nothing runs."""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from tollhouse.app import providers as setup
from tollhouse.app.fleet import Fleet, at_rest
from tollhouse.app.key_sources import open_keyring
from tollhouse.app.notices import HooksAtRest
from tollhouse.app.store import Store
from tollhouse.app.vaulting import credential_options, read_master_keys
from tollhouse.controlplane.api import build_api
from tollhouse.controlplane.deps import ControlDeps
from tollhouse.ports import BudgetStanding
from tollhouse.rules.budgets import window_of
from tollhouse.settings import Settings
from tollhouse.storage.image import load_image
from tollhouse.storage.providers import all_providers
from tollhouse.terms.people import Budget
from tollhouse.terms.providers import ProviderRow
from tollhouse.upstream.origin import address_of
from tollhouse.upstream.providers import parse_base_url


class StoredBudgets:
    """Standing of budgets as the database has it: nothing is held when nothing runs."""

    def __init__(self, posted: dict[tuple[str, int], int]) -> None:
        self._posted = posted

    def standing(self, budget: Budget) -> BudgetStanding:
        now_s = time.time()
        begun = (start for budget_id, start in self._posted if budget_id == budget.budget_id and start <= now_s)
        start_s, end_s = window_of(budget.window, budget.timezone, now_s, max(begun, default=None))
        return BudgetStanding(budget, self._posted.get((budget.budget_id, start_s), 0), 0, start_s, end_s)


class ProvidersAtRest:
    """Providers as they are written down: nobody calls them when nothing runs."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._declared: tuple[ProviderRow, ...] = ()
        self.faults = fleet.faults

    def rows(self) -> Sequence[dict[str, Any]]:
        return [*map(at_rest, setup.provider_rows(self._fleet.settings)), *map(at_rest, self._declared)]

    def host_of(self, name: str) -> str | None:
        for row in self.rows():
            if row["name"] == name:
                address = parse_base_url(row["base_url"], where="base_url", allow_plain_http=True)
                return address_of(address.scheme, address.host, address.port)
        return None

    async def refresh(self, name: str) -> dict[str, Any] | None:
        return None

    async def adopt(self) -> None:
        self._declared = await self._fleet.store.database.read(all_providers)


@contextlib.asynccontextmanager
async def offline_api(settings: Settings) -> AsyncIterator[FastAPI]:
    """The API on this home's store, ours alone until the end. Raises SettingsError when somebody else has it."""
    store = Store(settings)
    await store.open()
    try:
        timezone = settings.money.timezone
        image = await store.database.run(
            lambda connection: load_image(connection, now_s=int(time.time()), timezone=timezone)
        )

        providers = ProvidersAtRest(Fleet(settings, store, open_keyring(settings, lambda _: None)))
        await providers.adopt()

        async def changed(_user_id: str | None) -> None:
            """No snapshot to refresh."""

        yield build_api(
            ControlDeps(
                database=store.database,
                server_secret=store.server_secret,
                master_key=None,
                changed=changed,
                standing=StoredBudgets(dict(image.posted)),
                status=lambda: {"home": str(Path(settings.home)), "running": False},
                own_key=lambda _text: None,
                ready=lambda: "no server runs",
                metrics=lambda: b"",
                providers=providers,
                hooks=HooksAtRest(settings, store.vault),
                timezone=settings.money.timezone,
                capture_days=settings.capture.max_days,
                vault=store.vault,
                master_keys=partial(read_master_keys, settings),
                credentials=credential_options(settings),
                trail=store.trail,
            )
        )
    finally:
        store.close()
