"""The management API without a server: for commands when nothing runs."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI

from tollhouse.app.store import Store
from tollhouse.controlplane.api import build_api
from tollhouse.controlplane.deps import ControlDeps
from tollhouse.ports import BudgetStanding
from tollhouse.rules.budgets import window_of
from tollhouse.settings import Settings
from tollhouse.storage.image import load_image
from tollhouse.terms.people import Budget


class StoredBudgets:
    """Standing of budgets as the database has it: nothing is held when nothing runs."""

    def __init__(self, posted: dict[tuple[str, int], int]) -> None:
        self._posted = posted

    def standing(self, budget: Budget) -> BudgetStanding:
        now_s = time.time()
        begun = (start for budget_id, start in self._posted if budget_id == budget.budget_id and start <= now_s)
        start_s, end_s = window_of(budget.window, budget.timezone, now_s, max(begun, default=None))
        return BudgetStanding(budget, self._posted.get((budget.budget_id, start_s), 0), 0, start_s, end_s)


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
                timezone=settings.money.timezone,
            )
        )
    finally:
        store.close()
