"""Home, database and journal: what both the running server and a command without one need."""

import secrets
import time
from contextlib import ExitStack
from typing import Any

import msgspec

from tollhouse.app.vaulting import read_master_keys
from tollhouse.journal import Journal, JournalOptions
from tollhouse.rules.budgets import TIMELESS, parse_budget
from tollhouse.settings import Settings, database_url
from tollhouse.storage import directory
from tollhouse.storage.anchor import Anchor
from tollhouse.storage.database import Database
from tollhouse.storage.engines import DatabaseOptions
from tollhouse.storage.erasing import complete_all
from tollhouse.storage.home import Home
from tollhouse.storage.ledger import SqlLedger
from tollhouse.storage.trail import Trail
from tollhouse.terms.names import DEFAULT_ORG, ScopeKind
from tollhouse.terms.people import Budget
from tollhouse.vault import Vault
from tollhouse.workers import RecoveryReport, recover


class Store:
    """All that lies in TOLLHOUSE_HOME, and the database, wherever it is: this process's own from `open` to `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self.recovery: RecoveryReport | None = None
        self._opened = ExitStack()

    async def open(self) -> None:
        """Take the home, open the database, bring journalled calls into the ledger. Raises SettingsError, StorageError,
        JournalError; then nothing stays open.
        """
        settings = self.settings.storage
        with ExitStack() as opened:
            self.home.open()
            opened.callback(self.home.close)
            self.vault = Vault(read_master_keys(self.settings))
            self.database = Database.open(database_url(self.settings) or self.home.database, self._bounds())
            opened.callback(self.database.close)
            used = self.database.run_sync(directory.anybody)
            self.server_secret = self.home.server_secret(used_by=self.database.place if used else "")
            self.trail = Trail(self.server_secret, Anchor(self.home.audit_head), time.time_ns, secrets.token_bytes)
            self.database.recorded_by(self.trail)
            await self.database.run(self.trail.open)
            self.ledger = SqlLedger(self.database)
            self.journal = Journal.open(
                JournalOptions(
                    directory=self.home.journal,
                    durability=settings.durability,
                    segment_bytes=settings.segment_bytes,
                    min_free_bytes=settings.min_free_bytes,
                )
            )
            opened.callback(self.journal.close)
            self.recovery = await recover(self.journal, self.ledger, now_ns=time.time_ns())
            await complete_all(self.database)
            await self.database.run(self._declare_budgets)
            self._opened = opened.pop_all()

    def _bounds(self) -> DatabaseOptions:
        storage = self.settings.storage
        return DatabaseOptions(
            query_limit_s=storage.query_limit_s,
            max_waiting=storage.max_waiting,
            readers=storage.readers,
            connect_timeout_s=storage.connect_timeout_s,
            owner_wait_s=storage.owner_wait_s,
            silence_s=storage.silence_s,
        )

    def _declare_budgets(self, connection: Any) -> None:
        """Budgets of the organisation as the settings state them: made, changed, and gone when no longer stated."""
        wanted = {}
        for text in self.settings.money.organisation_budgets:
            limit, unit, window = parse_budget(text)
            budget = Budget(
                f"bud_settings_{unit}_{window}",
                ScopeKind.ORGANISATION,
                DEFAULT_ORG,
                limit,
                unit,
                window,
                self.settings.money.timezone,
                created_at_ns=time.time_ns(),
            )
            wanted[budget.budget_id] = budget
        stored = {
            budget.budget_id: budget
            for budget in directory.list_budgets(connection, scope=ScopeKind.ORGANISATION, limit=1000)
            if budget.budget_id.startswith("bud_settings_")
        }
        for budget_id, old in stored.items():
            new = wanted.get(budget_id)
            if new is not None and (new.timezone == old.timezone or new.window in TIMELESS):
                directory.update_budget(connection, msgspec.structs.replace(old, limit=new.limit))
                del wanted[budget_id]
            else:  # no longer stated, or its windows begin at another midnight
                directory.delete_budget(connection, budget_id)
        for budget in wanted.values():
            directory.create_budget(connection, budget)

    def close(self) -> None:
        """Close the journal, then the database, then give up the home."""
        self._opened.close()
