"""One gateway's money on one disk, without sockets: the real directory, snapshot, accounts, journal, shipper, ledger
and recovery, put together as the house puts them. The clocks, the disk's space and the moments of death are the test's.

Three things are not the machine's own: time (`Clocks`), the disk's errors (`Space`), and what happens around a commit
(`Door`). The journal's background thread does not run by itself: its cycle is a step of the history (`sync`), so that
the same history always does the same.
"""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, update

from tests.laws.budget_model import CACHED_PUSD, DEFAULT_OUTPUT, INPUT_PUSD, MIN_OUTPUT, OUTPUT_PUSD, WRITTEN_PUSD
from tests.planes.plane import FakeCaller
from tollhouse.dataplane.accounts import Accounts, MoneyOptions
from tollhouse.dataplane.holds import MoneyHold
from tollhouse.dataplane.plan import Attempt
from tollhouse.dataplane.refusals import unrecorded
from tollhouse.dataplane.snapshot import Principal, Snapshot
from tollhouse.dataplane.turn import Turn
from tollhouse.journal import Disk, Journal, JournalOptions
from tollhouse.rules.metering import NOT_SENT, Ending
from tollhouse.rules.prices import ModelFacts, Rates, rate_card
from tollhouse.storage import directory, teams
from tollhouse.storage.credentials import create_credential
from tollhouse.storage.database import Database
from tollhouse.storage.image import load_image
from tollhouse.storage.ledger import SqlLedger, recount
from tollhouse.storage.tables import budget_windows, budgets, ledger, plans, requests, users
from tollhouse.terms.ask import Ask
from tollhouse.terms.credentials import Credential
from tollhouse.terms.errors import Refusal, StorageError
from tollhouse.terms.events import Refused, Settlement
from tollhouse.terms.people import KeySecret, Membership, Team, VirtualKey
from tollhouse.terms.seen import Seen
from tollhouse.upstream.origin import Origin
from tollhouse.upstream.providers import Provider
from tollhouse.workers import RecoveryReport, Shipper, ShipperOptions, recover

OWNERS = {"key_a": "alice", "key_b": "alice", "key_c": "bob"}
TEAM = "red"
"""Of bob, and of nobody else."""
WITH_OWN_KEY, OWN_KEY = "alice", "own_alice"
"""Who has stored a provider key of their own, and its id."""
CARD = rate_card(
    version="law",
    source="law",
    standard=(Rates(INPUT_PUSD, OUTPUT_PUSD, INPUT_PUSD, WRITTEN_PUSD, CACHED_PUSD, 0, 0),),
)
PROVIDER = Provider("mock", "anthropic", Origin("localhost", 1), {}, (), (), True, "", "")
PRICED, UNPRICED = (
    Attempt(PROVIDER, None, "claude-x", "claude-x", ModelFacts(card, 200_000, 64_000)) for card in (CARD, None)
)
RETRY_S = 1.0
"""How long the journal waits after a failure."""
TEMPORARY = Path("/dev/shm")


class DiedError(BaseException):
    """The process ends here."""


class Clocks:
    """The wall's, which people and daemons move at will, and the monotonic one, which only runs."""

    def __init__(self, wall_s: int) -> None:
        self.wall_s = wall_s
        self.monotonic_s = 0.0


class Space(Disk):
    """A disk that may be full, and knows what a dead process had open. What was written survives a process without
    fsync, so there is none.
    """

    def __init__(self) -> None:
        self.full = False
        self.opened: set[int] = set()

    def write(self, descriptor: int, data: bytes) -> int:  # type: ignore[override]
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, data)

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self.opened.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:  # type: ignore[override]
        self.opened.discard(descriptor)
        os.close(descriptor)

    def cut(self, path: Path, size: int) -> None:
        os.truncate(path, size)

    def sync_directory(self, path: Path) -> None:
        """Nothing is lost but processes."""

    def abandon(self) -> None:
        """What the kernel does for a process that was killed."""
        for descriptor in self.opened:
            os.close(descriptor)
        self.opened.clear()


class Stepwise(Journal):
    """Its background thread ends at once; `sync` does its work."""

    def _run(self) -> None:
        return


class Still:
    """An event loop in which a turn ends when the history says so."""

    def call_soon(self, end: Callable[[], None]) -> None:
        """Not by itself."""


class Door:
    """The ledger, with what can happen on the way there and back: `down` (not committed), `lost` (committed, but nobody
    says so), `dies before` and `dies after` the commit.
    """

    def __init__(self, ledger: SqlLedger, entered: Callable[[str], None], meanwhile: Callable[[], None]) -> None:
        self._ledger = ledger
        self._entered = entered
        self._meanwhile = meanwhile
        self.fate = ""
        self.batches: list[Sequence[Settlement]] = []

    async def ship(self, settlements: Sequence[Settlement], refused: Sequence[Refused]) -> None:
        fate, self.fate = self.fate, ""
        self._meanwhile()
        if fate == "down":
            raise StorageError("the database is locked")
        if fate == "dies before":
            raise DiedError
        await self._ledger.ship(settlements, refused)
        self.batches.append(settlements)
        for settlement in settlements:
            self._entered(settlement.hold.attempt_id)
        if fate == "lost":
            raise StorageError("the connection was lost")
        if fate == "dies after":
            raise DiedError


class Here(Executor):
    """The database's thread is the test's own: a hop to another one costs more than what is done there."""

    def submit(self, act: Callable[..., Any], /, *facts: Any, **named: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(act(*facts, **named))
        except BaseException as error:  # noqa: BLE001  it is the caller's
            future.set_exception(error)
        return future


class Home:
    """What outlives a process: a database and a journal's directory. One for many histories, swept between."""

    def __init__(self) -> None:
        place = TEMPORARY if os.access(TEMPORARY, os.W_OK) else None
        self.path = Path(tempfile.mkdtemp(prefix="tollhouse-law-", dir=place))
        self.journal_path = self.path / "journal"
        self.loop = asyncio.new_event_loop()
        self.database = Database.open(self.path / "tollhouse.db")
        self.database._writer._executor.shutdown()
        self.database._writer._executor = Here()  # type: ignore[assignment]
        self.database.run_sync(_people)

    def __enter__(self) -> "Home":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.database.close()
        self.loop.close()
        shutil.rmtree(self.path)

    def sweep(self) -> None:
        """Nobody has called yet."""
        self.database.run_sync(_sweep)
        shutil.rmtree(self.journal_path, ignore_errors=True)

    def wait(self, story: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(story)


def _people(connection: Connection) -> None:
    for key_id, user_id in OWNERS.items():
        directory.ensure_user(connection, user_id, 0)
        directory.create_key(connection, VirtualKey(key_id, user_id), KeySecret(key_id.encode(), key_id))
    teams.create_team(connection, Team(TEAM))
    teams.put_member(connection, Membership(TEAM, "bob"))
    own = Credential(OWN_KEY, PROVIDER.name, PROVIDER.origin.address, user_id=WITH_OWN_KEY, sealed=b"never opened here")
    create_credential(connection, own, sealed_under=1)


def _sweep(connection: Connection) -> None:
    for table in (ledger, budget_windows, budgets, requests, plans):
        connection.execute(delete(table))
    connection.execute(update(users).values(plan_id=None))


class Node:
    """The gateway. After `start` it lives until `stop` or `die`; then it may be started again."""

    def __init__(self, home: Home, clocks: Clocks, entered: Callable[[str], None]) -> None:
        home.sweep()
        self.home = home
        self.clocks = clocks
        self.space = Space()
        self.never_sent: set[str] = set()
        """Attempts whose hold the journal could not write after all: the ledger hears that they are void."""

        def admitted(attempt_id: str) -> None:
            if attempt_id not in self.never_sent:
                entered(attempt_id)

        self.door = Door(SqlLedger(home.database), admitted, self.sync)
        self.journal_path = home.journal_path
        self.count = 0

    # --- its life

    def start(self) -> RecoveryReport:
        """May die in recovery, by the door's fate."""
        options = JournalOptions(
            directory=self.journal_path,
            durability="process",
            segment_bytes=400,
            max_segments=4,
            min_free_bytes=0,
            retry_s=RETRY_S,
        )
        self.journal = Stepwise.open(options, disk=self.space, clock=lambda: self.clocks.monotonic_s)
        report: RecoveryReport = self.home.wait(recover(self.journal, self.door, now_ns=self.now_ns()))
        self.shipper = Shipper(self.door, self.journal, ShipperOptions(batch_rows=4, first_retry_s=0.0))
        options_of_money = MoneyOptions(min_output_tokens=MIN_OUTPUT, default_max_tokens=DEFAULT_OUTPUT)
        self.turn = Turn(self.journal, Still())  # type: ignore[arg-type]
        self.accounts = Accounts(self.turn, self.shipper, options_of_money, self.now_ns)
        self.turn.lost = self.accounts.lost
        self.snapshot = Snapshot()
        self.look(None)
        return report

    def stop(self) -> None:
        """In order, after the last call has ended."""
        assert self.home.wait(self.shipper.stop(10.0)), self.shipper.facts
        self.journal.close()

    def die(self) -> None:
        self.space.abandon()
        self.space.full = False

    def sync(self) -> None:
        """A turn of the journal's background thread."""
        self.journal.sync()

    # --- its owner

    def change(self, act: Callable[[Connection], Any], user_id: str | None = None) -> None:
        """A change of the directory, effective when this returns."""
        self.home.database.run_sync(act)
        self.look(user_id)

    def look(self, user_id: str | None) -> None:
        now_s = self.clocks.wall_s
        image = self.home.database.run_sync(lambda one: load_image(one, user_id, now_s=now_s))
        self.accounts.adopt(image)
        self.snapshot.replace(image, user_id)

    # --- its callers

    def identify(self, key_id: str) -> Principal:
        return self.snapshot.by_digest[key_id.encode()].principal

    def reserve(
        self, principal: Principal, body_bytes: int, max_tokens: int | None, *, priced: bool, credential_id: str = ""
    ) -> Any:
        """The hold, or the refusal. `credential_id`: of who pays, when that is not the shared key."""
        self.count += 1
        caller = FakeCaller(f"req_{self.count:012x}", self.now_ns())
        ask = Ask(model="claude-x", body_bytes=body_bytes, max_output_tokens=max_tokens, stream=True)
        try:
            attempt = PRICED if priced else UNPRICED
            if credential_id:
                attempt = msgspec.structs.replace(attempt, credential_id=credential_id)
            hold = self.accounts.reserve(principal, ask, attempt, caller)
        except Refusal as refusal:
            return refusal
        self.turn.end()
        if hold.unrecorded:
            self.never_sent.add(hold.record.attempt_id)
            self.settle(hold, Seen(), NOT_SENT, False)
            return unrecorded()
        return hold

    def settle(self, hold: MoneyHold, seen: Seen, ending: Ending, cancel_stops_billing: bool) -> Settlement:
        settlement = self.accounts.settle(hold, seen, ending, cancel_stops_billing, 200, "")
        self.turn.end()
        return settlement

    def now_ns(self) -> int:
        return self.clocks.wall_s * 10**9

    # --- its books

    def ship_a_batch(self) -> None:
        self.home.wait(self.shipper._ship_some())

    def books(self) -> tuple[dict[str, tuple[str, int, int]], dict[tuple[str, int], int]]:
        """Attempt id → kind, nano-USD, tokens of the ledger; and what is posted on every window."""

        def read(connection: Connection) -> Any:
            entries = connection.exec_driver_sql(
                "SELECT request_id || '-' || attempt, kind, amount_nusd, tokens FROM ledger"
            )
            windows = connection.exec_driver_sql("SELECT budget_id, window_start_s, posted FROM budget_windows")
            return {row[0]: tuple(row[1:]) for row in entries}, {tuple(row[:2]): row[2] for row in windows}

        found: tuple[dict[str, tuple[str, int, int]], dict[tuple[str, int], int]] = self.home.database.run_sync(read)
        return found

    def recount(self) -> int:
        return self.home.database.run_sync(recount)
