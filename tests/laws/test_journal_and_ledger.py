"""Laws of money on the real journal and ledger, held to random histories.

Posted is the sum of the entries; every acknowledged hold is entered exactly once, whenever the process dies; what was
voided never costs.
"""

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from tests.planes.records import hold, settle, settlement
from tollhouse.journal import Journal, JournalOptions
from tollhouse.storage import directory
from tollhouse.storage.database import Database
from tollhouse.storage.ledger import recount, ship
from tollhouse.storage.tables import budget_windows
from tollhouse.terms.events import Refused, SettleKind, Settlement
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget, BudgetUnit
from tollhouse.terms.usage import Usage
from tollhouse.workers import recover

WINDOWS = [(f"bud_{unit.value}", start) for unit in BudgetUnit for start in (0, 3600)]

settlements = st.builds(
    lambda number, budgets, kind, amount, tokens: settlement(
        number, budgets=tuple(budgets), kind=kind, amount_nusd=amount, usage=Usage(output_tokens=tokens)
    ),
    st.integers(0, 12),
    st.lists(st.sampled_from(WINDOWS), unique=True, max_size=4),
    st.sampled_from(SettleKind),
    st.integers(0, 10**12),
    st.integers(0, 10**6),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(settlements, max_size=8), max_size=6))
def test_posted_is_the_sum_of_the_entries(database: Database, batches: list[list[Settlement]]) -> None:
    expected: Counter[tuple[str, int]] = Counter()
    seen: set[str] = set()
    for one in (one for batch in batches for one in batch):
        if one.settle.kind is SettleKind.VOIDED or one.hold.attempt_id in seen:
            continue
        seen.add(one.hold.attempt_id)
        tokens = one.hold.hold_tokens if one.settle.kind is SettleKind.UPPER else one.settle.usage.output_tokens
        adds = {"bud_usd": one.settle.amount_nusd, "bud_tokens": tokens, "bud_requests": 1}
        for window in one.hold.budgets:
            expected[window] += adds[window[0]]

    def run(connection: Connection) -> None:
        for unit in BudgetUnit:
            directory.create_budget(connection, Budget(f"bud_{unit.value}", ScopeKind.USER, "alice", 1, unit=unit))
        assert sum(ship(connection, batch) for batch in [*batches, *batches]) == len(seen)
        assert recount(connection) == 0
        rows = connection.execute(select(budget_windows))
        assert {(row.budget_id, row.window_start_s): row.posted for row in rows} == dict(expected)
        connection.rollback()  # empty for the next history

    database.run_sync(run)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database.open(tmp_path_factory.mktemp("laws") / "tollhouse.db")
    yield opened
    opened.close()


class Book:
    """A ledger of plain dictionaries: once per attempt id, voided ones not at all."""

    def __init__(self) -> None:
        self.entries: dict[str, int] = {}

    async def ship(self, settlements: Sequence[Settlement], refused: Sequence[Refused]) -> None:
        for one in settlements:
            if one.settle.kind is not SettleKind.VOIDED:
                self.entries.setdefault(one.hold.attempt_id, one.settle.amount_nusd)


STEPS = ["hold", "hold", "exact", "voided", "ship", "sync", "die"]


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 7)), max_size=60))
def test_every_acknowledged_hold_is_entered_once_whenever_the_process_dies(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as home:
        asyncio.run(Life(Path(home)).live([*steps, ("die", 0)]))


class Life:
    """Runs of one gateway on one disk, with what must come out in the end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.runs = 0
        self.number = 0
        self.book = Book()
        self.expected: dict[str, int] = {}
        self.running: list[int] = []
        self.waiting: list[Settlement] = []

    async def live(self, steps: list[tuple[str, int]]) -> None:
        self.journal = await self.begin()
        for step, choice in steps:
            if step == "hold":
                self.number += 1
                self.journal.append(hold(self.number, session="x" * 40 * choice))
                self.running.append(self.number)
            elif step in ("exact", "voided") and self.running:
                self.end(self.running.pop(choice % len(self.running)), SettleKind(step))
            elif step == "ship":
                batch, self.waiting = self.waiting[: choice + 1], self.waiting[choice + 1 :]
                await self.book.ship(batch, ())
                self.journal.shipped(batch)
            elif step == "sync":
                self.journal.sync()
            elif step == "die":
                self.die()
                self.journal = await self.begin()
                assert self.book.entries == self.expected
        self.journal.close()

    def end(self, number: int, kind: SettleKind) -> None:
        done = settle(number, kind=kind, amount_nusd=number if kind is SettleKind.EXACT else 0)
        self.journal.append(done)
        self.waiting.append(Settlement(hold(number), done))
        if kind is SettleKind.EXACT:
            self.expected[done.attempt_id] = number

    def die(self) -> None:
        """What is on the disk now is all the next run gets."""
        with self.journal._cycle_lock:  # not while the background thread deletes
            shutil.copytree(self.directory, self.home / str(self.runs + 1))
        self.journal.close()
        for number in self.running:
            self.expected[hold(number).attempt_id] = hold(number).hold_nusd
        self.running, self.waiting = [], []
        self.runs += 1

    @property
    def directory(self) -> Path:
        return self.home / str(self.runs)

    async def begin(self) -> Journal:
        options = JournalOptions(
            directory=self.directory,
            durability="process",
            segment_bytes=900,
            max_segments=2,
            min_free_bytes=0,
        )
        journal = Journal.open(options)
        await recover(journal, self.book, now_ns=1)
        return journal
