"""Budgets of the organisation that the settings state: the same at every start, changed where the settings changed."""

import asyncio
import contextlib
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from tests.planes.records import settlement
from tollhouse.app.store import Store
from tollhouse.settings import Settings
from tollhouse.settings.sections import Money
from tollhouse.storage import directory
from tollhouse.storage.database import Database
from tollhouse.terms.money import NUSD_PER_USD
from tollhouse.terms.people import Budget, BudgetEdge


def opened(home: Path, *budgets: str, timezone: str = "UTC") -> dict[str, Budget]:
    """Start and stop; the budgets that are there then, by id."""

    async def go() -> tuple[Budget, ...]:
        store = Store(Settings(home=home, money=Money(organisation_budgets=budgets, timezone=timezone)))
        await store.open()
        try:
            return await store.database.run(directory.list_budgets)
        finally:
            store.close()

    return {budget.budget_id: budget for budget in asyncio.run(go())}


def test_they_are_there_and_stay_as_they_are(tmp_path: Path) -> None:
    first = opened(tmp_path / "home", "100/month", "500 requests/day")
    assert sorted(budget.limit for budget in first.values()) == [500, 100 * NUSD_PER_USD]
    assert opened(tmp_path / "home", "100/month", "500 requests/day") == first


def test_another_limit_is_taken_over_and_what_people_set_is_kept(tmp_path: Path) -> None:
    (budget_id,) = opened(tmp_path / "home", "100/month")

    async def refuse_at_the_edge() -> None:
        store = Store(Settings(home=tmp_path / "home", money=Money(organisation_budgets=("100/month",))))
        await store.open()

        def change(connection: Connection) -> None:
            (budget,) = directory.list_budgets(connection)
            changed = msgspec.structs.replace(budget, edge=BudgetEdge.REFUSE)
            assert directory.update_budget(connection, changed)

        await store.database.run(change)
        store.close()

    asyncio.run(refuse_at_the_edge())
    changed = opened(tmp_path / "home", "40/month")
    assert (changed[budget_id].limit, changed[budget_id].edge) == (40 * NUSD_PER_USD, BudgetEdge.REFUSE)


def test_gone_from_the_settings_is_gone(tmp_path: Path) -> None:
    assert len(opened(tmp_path / "home", "100/month", "10/day")) == 2
    assert [budget.limit for budget in opened(tmp_path / "home", "10/day").values()] == [10 * NUSD_PER_USD]
    assert opened(tmp_path / "home") == {}


def test_another_midnight_is_another_window(tmp_path: Path) -> None:
    opened(tmp_path / "home", "10/day")
    (budget,) = opened(tmp_path / "home", "10/day", timezone="Europe/Berlin").values()
    assert budget.timezone == "Europe/Berlin"


def test_another_time_zone_does_not_forget_what_is_spent_of_a_total(tmp_path: Path) -> None:
    home, batch = tmp_path / "home", [settlement(1, budgets=(("bud_settings_usd_total", 0),))]

    async def spend() -> None:
        store = Store(Settings(home=home, money=Money(organisation_budgets=("10",))))
        await store.open()
        await store.ledger.ship(batch, ())
        store.close()

    asyncio.run(spend())
    for timezone in ("UTC", "Europe/Berlin"):
        (budget,) = opened(home, "10", timezone=timezone).values()
    with contextlib.closing(Database.open(home / "tollhouse.db")) as database:
        posted = database.run_sync(lambda connection: directory.posted_windows(connection, budget.budget_id))
    assert posted == {0: batch[0].settle.amount_nusd}
