"""The ledger, the request log, the shipper and recovery, on a real database and journal."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, event, select, text
from sqlalchemy.exc import IntegrityError

from tests.planes.records import T0_NS, hold, settle, settlement
from tollhouse.journal import Journal, JournalOptions
from tollhouse.storage import directory
from tollhouse.storage.database import Database
from tollhouse.storage.ledger import SqlLedger, recount, ship, usage
from tollhouse.storage.requests import (
    RequestRow,
    count_admitted,
    cursor_after,
    get_request,
    list_requests,
    prune,
)
from tollhouse.storage.tables import budget_windows, ledger
from tollhouse.terms.errors import StorageError
from tollhouse.terms.events import Refused, SettleKind, Settlement
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget, BudgetUnit, KeySecret, VirtualKey
from tollhouse.terms.usage import Usage
from tollhouse.workers import Shipper, ShipperOptions, recover


@pytest.fixture
def database(location: str) -> Iterator[Database]:
    opened = Database.open(location)

    def people(connection: Connection) -> None:
        directory.create_key(connection, VirtualKey("key_1", "alice", name="ci"), KeySecret(b"x", "key_1"))
        directory.create_budget(connection, Budget("bud_org", ScopeKind.ORGANISATION, "default", 10**12))
        directory.create_budget(connection, Budget("bud_alice", ScopeKind.USER, "alice", 10**6, unit=BudgetUnit.TOKENS))
        directory.create_budget(connection, Budget("bud_n", ScopeKind.KEY, "key_1", 10, unit=BudgetUnit.REQUESTS))

    opened.run_sync(people)
    yield opened
    opened.close()


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database._engines.writer.begin() as opened:
        yield opened


ALL = (("bud_org", 0), ("bud_alice", 60), ("bud_n", 0), ("bud_deleted", 0))


def posted(connection: Connection) -> dict[tuple[str, int], int]:
    return {(row.budget_id, row.window_start_s): row.posted for row in connection.execute(select(budget_windows))}


def entries(connection: Connection) -> list[Any]:
    return list(connection.execute(select(ledger).order_by(ledger.c.request_id, ledger.c.attempt)))


def refused(number: int, **changes: Any) -> Refused:
    made = Refused(
        f"req_r{number}", T0_NS + number, "default", "alice", "key_1", "messages", "gpt-9", 400, "unknown_model", 80
    )
    return msgspec.structs.replace(made, **changes)


# Entries and what is posted


def test_every_field_is_in_the_entry(connection: Connection) -> None:
    used = Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, variant="priority")
    one = Settlement(
        hold(1, session="s", client="c"),
        settle(1, usage=used, kind=SettleKind.ESTIMATED, code="client_gone", amount_nusd=77),
    )
    assert ship(connection, [one]) == 1
    (row,) = entries(connection)
    stored = dict(row._mapping)
    assert stored.pop("entry_id") == 1
    assert stored == entry_of(one)
    assert (stored["budgets"], stored["variant"]) == ('[["bud_org",0],["bud_alice",1790000000]]', "priority")


def entry_of(one: Settlement) -> dict[str, Any]:
    """What the row of a first attempt must say."""
    used = msgspec.structs.asdict(one.settle.usage)
    known = {**msgspec.structs.asdict(one.hold), **msgspec.structs.asdict(one.settle), **used}
    known |= {"attempt": 1, "at_ns": one.hold.at_ns, "settled_at_ns": one.settle.at_ns}
    known |= {"variant": one.settle.usage.variant or "", "streamed": int(one.hold.streamed)}
    known["budgets"] = msgspec.json.encode(one.hold.budgets).decode()
    return {column.name: known[column.name] for column in ledger.columns if column.name != "entry_id"}


def test_entries_that_are_partly_alike_keep_what_is_their_own(connection: Connection) -> None:
    """160 of one kind, 30 of another, and each in one more way than the last: some statements share, others do not."""

    def one(number: int) -> Settlement:
        kind = 0 if number < 160 else 1 if number < 190 else number
        held = hold(
            number,
            user_id=f"user{number % 7}",
            key_id=f"key_{number % 11}",
            provider=f"provider{kind}",
            client=f"tool{kind}",
            team_id=f"team{kind}",
            streamed=kind % 2 == 0,
            session=f"session{number}",
            hold_nusd=1_000_000 + number,
            budgets=(("bud_org", number % 3),),
        )
        used = Usage(number, 2 * number, kind, 4 * number, 5, kind, 7, web_searches=kind, variant=f"variant{kind}")
        return Settlement(held, settle(number, usage=used, status=200 + kind, duration_us=number, amount_nusd=number))

    some = [one(number) for number in range(240)]
    assert ship(connection, some) == len(some)
    stored = [
        {name: value for name, value in row._mapping.items() if name != "entry_id"} for row in entries(connection)
    ]
    assert stored == [entry_of(one) for one in some]
    assert sum(posted(connection).values()) == sum(range(240))
    assert (ship(connection, some[100:]), recount(connection)) == (0, 0)


def test_each_unit_is_posted_once(connection: Connection) -> None:
    for _ in range(2):
        ship(connection, [settlement(1, budgets=ALL), settlement(1, budgets=ALL)])
    assert posted(connection) == {("bud_org", 0): 12_345, ("bud_alice", 60): 15, ("bud_n", 0): 1}
    assert ship(connection, [settlement(1, budgets=ALL), settlement(2, budgets=ALL)]) == 1
    assert posted(connection) == {("bud_org", 0): 24_690, ("bud_alice", 60): 30, ("bud_n", 0): 2}


def test_entries_of_many_statements_are_posted_once_whoever_they_are_of(connection: Connection) -> None:
    people = ("alice", "bob", "carol")
    some = [
        Settlement(hold(number, user_id=people[number % 3], budgets=ALL[: 1 + number % 2]), settle(number))
        for number in range(400)
    ]
    assert ship(connection, some[:150]) == 150
    assert ship(connection, some[100:]) == 250
    assert ship(connection, some) == 0
    assert posted(connection) == {("bud_org", 0): 400 * 12_345, ("bud_alice", 60): 200 * 15}
    assert recount(connection) == 0
    assert [(row.request_id, row.user_id) for row in entries(connection)] == [
        (one.hold.request_id, one.hold.user_id) for one in some
    ]


def test_an_unknown_end_posts_the_tokens_of_the_whole_hold(connection: Connection) -> None:
    ship(connection, [settlement(1, budgets=ALL, kind=SettleKind.UPPER, amount_nusd=1_000_000)])
    assert posted(connection) == {("bud_org", 0): 1_000_000, ("bud_alice", 60): 9_000, ("bud_n", 0): 1}


def test_a_voided_hold_is_in_the_request_log_only(connection: Connection) -> None:
    assert ship(connection, [settlement(1, budgets=ALL, kind=SettleKind.VOIDED, status=429, code="upstream_429")]) == 0
    assert (entries(connection), posted(connection)) == ([], {})
    row = get_request(connection, hold(1).request_id)
    assert row is not None
    assert (row.kind, row.amount_nusd, row.status, row.code) == ("voided", 0, 429, "upstream_429")


def test_an_absurd_number_does_not_stop_the_others(connection: Connection) -> None:
    absurd = settlement(1, budgets=ALL, amount_nusd=10**30, usage=Usage(output_tokens=10**30))
    ship(connection, [absurd, settlement(2, budgets=ALL)])
    assert len(entries(connection)) == 2
    assert posted(connection) == {("bud_org", 0): 2**53 + 12_345, ("bud_alice", 60): 2**53 + 15, ("bud_n", 0): 2}
    assert recount(connection) == 0
    (bounded,) = (row for row in entries(connection) if row.amount_nusd == 2**53)
    assert (bounded.output_tokens, bounded.tokens, bounded.at_ns) == (2**53, 2**53, absurd.hold.at_ns)
    assert bounded.hold_nusd == absurd.hold.hold_nusd


def test_a_character_that_a_database_may_refuse_does_not_stop_the_others(connection: Connection) -> None:
    """JSON can spell U+0000: a client in the name of its session, a provider in that of its model."""
    odd, mended = "a\0\\u0000\t\n\"'é\U0001f600%s?{}", "a\ufffd\\u0000\t\n\"'é\U0001f600%s?{}"
    some = [
        Settlement(hold(1, session=odd), settle(1, served_model=odd)),
        Settlement(hold(2, session=odd), settle(2, served_model=odd, kind=SettleKind.VOIDED)),
        Settlement(hold(3, client=mended), settle(3, code=mended)),
    ]
    assert ship(connection, some) == 2
    third, *others = list_requests(connection)
    assert [(row.session, row.served_model) for row in others] == [(mended, mended)] * 2
    assert (third.client, third.code) == (mended, mended)
    if connection.dialect.name == "postgresql":  # no header carries it, but an old journal may; SQLite stores it
        assert ship(connection, [Settlement(hold(4, client=odd), settle(4))]) == 1
        assert list_requests(connection)[0].client == mended


def test_a_row_that_breaks_a_rule_leaves_nothing_of_its_transaction(database: Database) -> None:
    """In SQLite its statement ends where it stands, with the rows before it: only the transaction undoes those."""
    some = [Settlement(hold(number, budgets=ALL), settle(number)) for number in range(60)]
    broken = Settlement(hold(60, key_id=None), settle(60))
    with pytest.raises(IntegrityError):
        database.run_sync(lambda connection: ship(connection, [*some[:40], broken, *some[40:]]))
    assert database.run_sync(lambda connection: (entries(connection), posted(connection))) == ([], {})
    assert database.run_sync(lambda connection: ship(connection, some)) == 60


def test_recounting_mends_what_is_posted(connection: Connection) -> None:
    ship(connection, [settlement(number, budgets=ALL) for number in range(5)])
    ship(connection, [settlement(9, budgets=ALL, kind=SettleKind.UPPER)])
    right = posted(connection)
    assert recount(connection) == 0
    connection.execute(text("UPDATE budget_windows SET posted = 1 WHERE budget_id = 'bud_org'"))
    assert recount(connection) == 1
    assert posted(connection) == right


def test_usage_by_everything(connection: Connection) -> None:
    day_ns = 86_400 * 10**9
    ship(
        connection,
        [
            settlement(1, amount_nusd=5),
            settlement(2, amount_nusd=7, kind=SettleKind.UPPER),
            Settlement(
                hold(3, at_ns=T0_NS + day_ns, user_id="bob", key_id="key_2", client="curl"), settle(3, amount_nusd=1)
            ),
        ],
    )
    (alice, bob) = usage(connection, "user")
    assert (alice.group, alice.calls, alice.amount_nusd, alice.upper_nusd, alice.estimated_nusd) == (
        "alice",
        2,
        12,
        7,
        0,
    )
    assert (alice.input_tokens, alice.cache_write_tokens, alice.cache_read_tokens, alice.output_tokens) == (
        2,
        10,
        8,
        10,
    )
    assert bob.group == "bob"
    assert [(row.group, row.label) for row in usage(connection, "key")] == [("key_1", "ci"), ("key_2", "")]
    assert [row.group for row in usage(connection, "client")] == ["claude-cli", "curl"]
    assert [(row.group, row.amount_nusd) for row in usage(connection, "day")] == [("2026-09-21", 12), ("2026-09-22", 1)]
    assert [row.group for row in usage(connection, "day", limit=1)] == ["2026-09-22"]
    assert [row.calls for row in usage(connection, "model", since_s=T0_NS // 10**9 + 1)] == [1]
    assert [row.calls for row in usage(connection, "model", until_s=T0_NS // 10**9 + 1)] == [2]
    assert [row.calls for row in usage(connection, "model", user_id="bob")] == [1]
    assert usage(connection, "model", key_id="key_9") == ()


# The request log


def test_a_request_tells_of_its_latest_attempt_and_the_sum_of_all(connection: Connection) -> None:
    first = settlement(1, kind=SettleKind.UPPER, amount_nusd=100, status=0, code="upstream_timeout")
    second = Settlement(
        hold(1, attempt_id=f"{hold(1).request_id}-2", provider="other"),
        settle(1, attempt_id=f"{hold(1).request_id}-2", amount_nusd=7),
    )
    ship(connection, [second, first])
    for _ in range(2):
        ship(connection, [first])
        ship(connection, [second])
    row = get_request(connection, hold(1).request_id)
    assert row is not None
    assert (row.attempts, row.amount_nusd, row.provider, row.status, row.code) == (2, 107, "other", 200, "")
    assert row.usage == Usage(1, 2, 3, 4, 5)
    assert row.streamed is True


def test_refused_requests_are_listed_with_the_others_newest_first(connection: Connection) -> None:
    ship(connection, [settlement(1), settlement(3)], [refused(2), refused(2), refused(4, user_id="")])
    everything = list_requests(connection)
    assert [row.at_ns - T0_NS for row in everything] == [4, 3, 2, 1]
    assert (everything[2].attempts, everything[2].kind, everything[2].usage) == (0, "", Usage())
    assert list_requests(connection, cursor=cursor_after(everything[1])) == everything[2:]
    assert [row.at_ns - T0_NS for row in list_requests(connection, user_id="alice", failed=True)] == [2]
    assert [row.at_ns - T0_NS for row in list_requests(connection, key_id="key_1", failed=False)] == [3, 1]
    with pytest.raises(ValueError, match="cursor"):
        list_requests(connection, cursor="drop table")


def test_a_request_whose_last_attempt_was_refused_tells_of_that(connection: Connection) -> None:
    request_id = hold(1).request_id
    first = settlement(1, kind=SettleKind.VOIDED, status=401, code="upstream_401")
    last = refused(1, request_id=request_id, status=402, code="budget_exhausted", attempts=2)
    for some, others in (([first], [last]), ([], [last]), ([first], [])):
        ship(connection, some, others)
        row = get_request(connection, request_id)
        assert row is not None
        assert (row.attempts, row.status, row.code, row.kind) == (2, 402, "budget_exhausted", "voided")
        assert count_admitted(connection, "user", since_ns=T0_NS) == {"alice": 1}


def test_a_request_whose_last_attempt_was_voided_keeps_what_the_others_cost(connection: Connection) -> None:
    request_id = hold(1).request_id

    def attempt(number: int, kind: SettleKind, **changes: Any) -> Settlement:
        attempt_id = f"{request_id}-{number}"
        return Settlement(
            hold(1, attempt_id=attempt_id, at_ns=T0_NS + number), settle(1, attempt_id=attempt_id, kind=kind, **changes)
        )

    first = attempt(1, SettleKind.UPPER, amount_nusd=100, status=0, code="upstream_timeout")
    second = attempt(2, SettleKind.VOIDED, amount_nusd=0, status=429, code="upstream_429")
    third = attempt(12, SettleKind.EXACT, amount_nusd=7)
    for some, expected in (
        ([first], (1, 100, "upper", "upstream_timeout")),
        ([second], (2, 100, "voided", "upstream_429")),
        ([third, first, second], (12, 107, "exact", "")),
    ):
        for _ in range(2):
            ship(connection, some)
        row = get_request(connection, request_id)
        assert row is not None
        assert (row.attempts, row.amount_nusd, row.kind, row.code) == expected
        assert list_requests(connection) == (row,)
        assert list_requests(connection, failed=row.code == "") == ()
        assert count_admitted(connection, "user", since_ns=T0_NS)["alice"] == 1
    assert count_admitted(connection, "key", since_ns=T0_NS)["key_1"] == 1
    assert "key_1" not in count_admitted(connection, "key", since_ns=T0_NS + 13)


def test_pages_of_the_log_run_through_both_tables(connection: Connection) -> None:
    ship(
        connection,
        [settlement(number, kind=SettleKind.VOIDED if number % 3 == 0 else SettleKind.EXACT) for number in range(20)],
        [refused(number, at_ns=T0_NS + 5) for number in range(20)],
    )
    seen: list[RequestRow] = []
    while page := list_requests(connection, key_id="key_1", limit=3, cursor=cursor_after(seen[-1]) if seen else ""):
        seen += page
    assert len({row.request_id for row in seen}) == len(seen) == 40
    assert tuple(seen) == list_requests(connection)
    assert count_admitted(connection, "key", since_ns=T0_NS)["key_1"] == 20
    assert list_requests(connection, user_id="bob", key_id="key_1") == list_requests(connection, key_id="key_9") == ()


def test_what_cost_nothing_is_kept_within_bounds(connection: Connection) -> None:
    ship(connection, [settlement(number, kind=SettleKind.VOIDED) for number in range(10)])
    ship(connection, [settlement(20)])
    now_ns = T0_NS + 86_400 * 10**9
    assert prune(connection, keep_rows=7, keep_days=30, now_ns=now_ns) == 3
    assert prune(connection, keep_rows=7, keep_days=1, now_ns=now_ns + 5) == 2
    assert [row.at_ns - T0_NS for row in list_requests(connection)] == [20, 9, 8, 7, 6, 5]


def test_a_call_without_any_cost_keeps_whether_it_was_streamed(connection: Connection) -> None:
    ship(connection, [settlement(1, kind=SettleKind.VOIDED)], [refused(2)])
    assert [row.streamed for row in list_requests(connection)] == [False, True]
    assert all(type(row.streamed) is bool for row in list_requests(connection))


@pytest.mark.parametrize("attempt_id", ["req_9-1", f"{hold(1).request_id}-01", f"{hold(1).request_id}-x"])
def test_an_attempt_of_another_request_is_not_entered(connection: Connection, attempt_id: str) -> None:
    """Its number alone would take the place of another attempt."""
    stranger = Settlement(hold(1, attempt_id=attempt_id), settle(1, attempt_id=attempt_id))
    with pytest.raises(ValueError, match=r"attempt|int\(\)"):
        ship(connection, [stranger])


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_later_attempts_are_sought_in_the_small_index(connection: Connection) -> None:
    """For every row of the log, so the index over all attempts would be read from one end to the other."""
    plans: list[str] = []

    @event.listens_for(connection, "before_cursor_execute")
    def explain(_: Any, __: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if "later" in statement:
            raw: Any = connection.connection.driver_connection
            plans.extend(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    list_requests(connection, user_id="alice")
    count_admitted(connection, "user", since_ns=T0_NS)
    sought = {plan.partition(" (")[0] for plan in plans if " later " in plan}
    assert sought == {"SEARCH later USING INDEX ix_ledger_request_id_attempt"}


# The shipper


class FakeLedger:
    """Keeps what it is given; fails as long as it is told to."""

    def __init__(self) -> None:
        self.fails = 0
        self.poison: set[str] = set()
        self.settlements: list[Settlement] = []
        self.refused: list[Refused] = []

    async def ship(self, settlements: Sequence[Settlement], refused: Sequence[Refused]) -> None:
        if self.fails:
            self.fails -= 1
            raise StorageError("locked")
        if any(one.hold.attempt_id in self.poison for one in settlements):
            raise OverflowError("no column takes this")
        self.settlements += settlements
        self.refused += refused


class FakeJournal:
    def __init__(self) -> None:
        self.told: list[Settlement] = []

    def shipped(self, settlements: Sequence[Settlement]) -> None:
        self.told += settlements


WAIT_S = 30.0
"""For what comes at once where nothing is wrong."""
QUICK = ShipperOptions(interval_s=0.01, first_retry_s=0.001, last_retry_s=0.01, max_backlog=50, max_refused=5)


def test_the_shipper_goes_on_until_the_ledger_has_everything() -> None:
    async def go() -> None:
        store, journal = FakeLedger(), FakeJournal()
        shipper = Shipper(store, journal, QUICK)
        shipper.start()
        store.fails = 3
        for number in range(49):
            shipper.put(settlement(number))
        assert not shipper.full
        shipper.put(settlement(49))
        assert shipper.full
        for number in range(9):
            shipper.put_refused(refused(number))
        async with asyncio.timeout(WAIT_S):
            while shipper.facts.shipped < 50:
                await asyncio.sleep(0.005)
        assert await shipper.stop(WAIT_S)
        expected = [settlement(number) for number in range(50)]
        assert store.settlements == journal.told == expected
        assert store.refused == [refused(number) for number in range(5)]
        assert (shipper.facts.failures, shipper.facts.refused_dropped, shipper.facts.trouble) == (3, 4, "")
        assert not shipper.full

    asyncio.run(go())


def test_what_the_ledger_can_never_take_is_set_aside() -> None:
    async def go() -> None:
        store, journal = FakeLedger(), FakeJournal()
        store.poison = {hold(3).attempt_id}
        shipper = Shipper(store, journal, QUICK)
        for number in range(6):
            shipper.put(settlement(number))
        shipper.put_refused(refused(1))
        assert not await shipper.flush(WAIT_S)
        assert [one.hold for one in journal.told] == [hold(number) for number in (0, 1, 2, 4, 5)]
        assert store.refused == [refused(1)]
        assert shipper.facts.set_aside == 1

    asyncio.run(go())


def test_enough_rows_of_both_kinds_are_shipped_at_once() -> None:
    async def go() -> None:
        store = FakeLedger()
        shipper = Shipper(store, FakeJournal(), ShipperOptions(interval_s=2 * WAIT_S, eager_rows=3))
        shipper.start()
        for last in (False, True):
            shipper.put_refused(refused(1))
            await asyncio.sleep(0.02)
            shipper.put(settlement(1))
            await asyncio.sleep(0.02)
            assert shipper.facts.backlog == shipper.facts.refused_backlog == 1
            shipper.put_refused(refused(2)) if last else shipper.put(settlement(2))
            async with asyncio.timeout(WAIT_S):
                while shipper.facts.backlog or shipper.facts.refused_backlog:
                    await asyncio.sleep(0.005)
        assert await shipper.stop(WAIT_S)

    asyncio.run(go())


def test_flushing_gives_up_in_time() -> None:
    async def go() -> None:
        store = FakeLedger()
        store.fails = 10**9
        shipper = Shipper(store, FakeJournal(), QUICK)
        shipper.put(settlement(1))
        assert not await shipper.stop(0.05)
        assert shipper.facts.trouble == "locked"

    asyncio.run(go())


# Recovery


def options(tmp_path: Path) -> JournalOptions:
    return JournalOptions(directory=tmp_path / "journal", min_free_bytes=0, durability="process")


def crashed_run(tmp_path: Path) -> None:
    """Ends without shipping: 0 settled, 1 voided, 2 and 3 still running."""
    journal = Journal.open(options(tmp_path))
    for number in range(4):
        journal.append(hold(number, budgets=ALL))
    journal.append(settle(0))
    journal.append(settle(1, kind=SettleKind.VOIDED, amount_nusd=0))
    journal.close()


def test_recovery_brings_the_ledger_up_to_the_journal(tmp_path: Path, database: Database) -> None:
    crashed_run(tmp_path)
    journal = Journal.open(options(tmp_path))
    report = asyncio.run(recover(journal, SqlLedger(database), now_ns=T0_NS))
    assert (report.settled, report.crashed, report.crashed_nusd, report.damage) == (2, 2, 2_000_000, ())
    rows = database.run_sync(entries)
    assert [(f"{row.request_id}-{row.attempt}", row.kind, row.amount_nusd, row.code) for row in rows] == [
        (hold(0).attempt_id, "exact", 12_345, ""),
        (hold(2).attempt_id, "upper", 1_000_000, "crashed"),
        (hold(3).attempt_id, "upper", 1_000_000, "crashed"),
    ]
    expected = {("bud_org", 0): 2_012_345, ("bud_alice", 60): 18_015, ("bud_n", 0): 3}
    assert database.run_sync(posted) == expected
    assert asyncio.run(recover(journal, SqlLedger(database), now_ns=T0_NS)).segments == 0
    journal.close()
    assert database.run_sync(posted) == expected


class DyingLedger(SqlLedger):
    """Commits, then fails: the process ends between the commit and the deletion of the segments, or between two
    batches.
    """

    def __init__(self, database: Database, batches: int) -> None:
        super().__init__(database)
        self.batches = batches

    async def ship(self, settlements: Sequence[Settlement], refused: Sequence[Refused]) -> None:
        await super().ship(settlements, refused)
        self.batches -= 1
        if self.batches == 0:
            raise StorageError("gone")


@pytest.mark.parametrize("batches", [1, 2])
def test_a_crash_in_the_middle_of_recovery_changes_nothing(tmp_path: Path, database: Database, batches: int) -> None:
    crashed_run(tmp_path)
    for _ in range(2):
        journal = Journal.open(options(tmp_path))
        with pytest.raises(StorageError):
            asyncio.run(recover(journal, DyingLedger(database, batches), now_ns=T0_NS))
        journal.close()
    journal = Journal.open(options(tmp_path))
    asyncio.run(recover(journal, SqlLedger(database), now_ns=T0_NS + 5))
    journal.close()
    assert database.run_sync(posted) == {("bud_org", 0): 2_012_345, ("bud_alice", 60): 18_015, ("bud_n", 0): 3}
    assert len(database.run_sync(entries)) == 3


def test_a_crash_between_commit_and_deletion_counts_nothing_twice(tmp_path: Path, database: Database) -> None:
    """The shipper had shipped, the journal had not been told."""
    journal = Journal.open(options(tmp_path))
    journal.append(hold(1, budgets=ALL))
    journal.append(settle(1))
    database.run_sync(lambda connection: ship(connection, [settlement(1, budgets=ALL)]))
    journal.close()
    journal = Journal.open(options(tmp_path))
    asyncio.run(recover(journal, SqlLedger(database), now_ns=T0_NS))
    journal.close()
    assert database.run_sync(posted) == {("bud_org", 0): 12_345, ("bud_alice", 60): 15, ("bud_n", 0): 1}
