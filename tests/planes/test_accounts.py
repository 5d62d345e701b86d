"""The accounts, case by case. Any history of them, with journal and ledger: `tests/laws/test_budget_machine.py`."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from tests.planes.plane import FACTS, T0_NS, FakeCaller, ListJournal, ListOutbox, image
from tollhouse.dataplane.accounts import Accounts, MoneyOptions
from tollhouse.dataplane.plan import Attempt
from tollhouse.dataplane.snapshot import Principal
from tollhouse.rules.budgets import FIVE_HOURS_S
from tollhouse.rules.metering import COMPLETE, NOT_SENT
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import Refusal
from tollhouse.terms.events import SettleKind
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget, BudgetUnit, BudgetWindow, User, VirtualKey
from tollhouse.terms.seen import Seen
from tollhouse.terms.usage import Usage
from tollhouse.upstream.guard import AddressGuard
from tollhouse.upstream.origin import Origin
from tollhouse.upstream.providers import Provider

MIN_OUTPUT = 50
DEFAULT_MAX = 400
PROVIDER = Provider("mock", "anthropic", Origin("localhost", 1), {}, (), (), True, "", "")
ATTEMPT = Attempt(PROVIDER, None, "claude-x", "claude-x", FACTS)


def finish(story: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits."""
    try:
        story.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


class World:
    """Accounts with their fakes and a clock of the test."""

    def __init__(self, budgets: list[Budget], **options: Any) -> None:
        self.now_s = T0_NS // 10**9
        self.journal = ListJournal()
        self.outbox = ListOutbox()
        self.options = MoneyOptions(min_output_tokens=MIN_OUTPUT, default_max_tokens=DEFAULT_MAX, **options)
        self.budgets = budgets
        self.count = 0
        self.restart({})

    def restart(self, posted: dict[tuple[str, int], int]) -> None:
        self.accounts = Accounts(self.journal, self.outbox, self.options, lambda: self.now_s * 10**9)
        self.adopt(posted)

    def adopt(self, posted: dict[tuple[str, int], int]) -> None:
        known = image(posted=posted)
        self.accounts.adopt(msgspec.structs.replace(known, budgets=tuple(self.budgets), read_at_s=self.now_s))
        self.principal = Principal(VirtualKey("key_1", "alice"), User("alice"), tuple(self.budgets))

    def reserve(self, body_bytes: int, max_tokens: int | None) -> Any:
        return finish(self.reserving(body_bytes, max_tokens))

    async def reserving(self, body_bytes: int, max_tokens: int | None) -> Any:
        self.count += 1
        caller = FakeCaller(f"req_{self.count:012x}", self.now_s * 10**9)
        ask = Ask(model="claude-x", body_bytes=body_bytes, max_output_tokens=max_tokens, stream=True)
        hold = self.accounts.reserve(self.principal, ask, ATTEMPT, caller)
        if self.accounts.strict:
            await self.accounts.synced(hold)
        return hold

    def settle(self, hold: Any, seen: Seen, ending: Any) -> Any:
        return self.accounts.settle(hold, seen, ending, True, 200, "")

    def posted(self) -> dict[tuple[str, int], int]:
        """What a ledger would know of USD budgets, from the settlements alone."""
        sums: dict[tuple[str, int], int] = {}
        for settlement in self.outbox.settlements:
            for place in settlement.hold.budgets:
                sums[place] = sums.get(place, 0) + settlement.settle.amount_nusd
        return sums


def budget(limit: int, unit: BudgetUnit = BudgetUnit.USD, **changes: Any) -> Budget:
    return Budget("bud_1", ScopeKind.USER, "alice", limit, unit, **changes)


def test_a_five_hour_window_goes_on_after_a_restart() -> None:
    world = World([budget(10**9, window=BudgetWindow.FIVE_HOURS)])
    hold = world.reserve(10, 10)
    opened_s = world.now_s
    world.settle(hold, Seen(usage=Usage(100), final=True), COMPLETE)
    world.now_s += 3_600
    world.restart(world.posted())
    standing = world.accounts.standing(world.budgets[0])
    assert (standing.window_start_s, standing.resets_at_s) == (opened_s, opened_s + FIVE_HOURS_S)
    assert standing.posted == 300_000
    world.now_s = opened_s + FIVE_HOURS_S + 7
    world.restart(world.posted())
    standing = world.accounts.standing(world.budgets[0])
    assert (standing.window_start_s, standing.posted) == (world.now_s, 0)


def test_a_hold_that_crosses_a_reset_settles_where_it_was_taken() -> None:
    world = World([budget(10**9, window=BudgetWindow.HOUR)])
    hold = world.reserve(10, 10)
    world.now_s += 3_600
    assert world.accounts.standing(world.budgets[0]).held == 0
    world.settle(hold, Seen(usage=Usage(100), final=True), COMPLETE)
    standing = world.accounts.standing(world.budgets[0])
    assert (standing.posted, standing.held) == (0, 0)
    assert list(world.posted()) == [("bud_1", hold.record.budgets[0][1])]
    assert hold.record.budgets[0][1] < standing.window_start_s


def test_a_clock_that_runs_backwards_opens_no_old_window() -> None:
    world = World([budget(10**9, window=BudgetWindow.HOUR)])
    world.now_s += 3_600
    world.settle(world.reserve(10, 10), Seen(usage=Usage(100), final=True), COMPLETE)
    start_s = world.accounts.standing(world.budgets[0]).window_start_s
    world.now_s -= 7_200
    standing = world.accounts.standing(world.budgets[0])
    assert (standing.window_start_s, standing.posted) == (start_s, 300_000)


def test_after_a_restart_a_clock_set_right_finds_what_was_posted() -> None:
    """It had been ahead, and opened the next window before its time."""
    world = World([budget(10**9, window=BudgetWindow.HOUR)])
    start_s = world.now_s - world.now_s % 3_600
    world.restart({("bud_1", start_s): 400, ("bud_1", start_s + 3_600): 7})
    assert world.accounts.standing(world.budgets[0]).posted == 400
    world.now_s += 3_600
    assert world.accounts.standing(world.budgets[0]).posted == 7


def test_no_window_is_opened_that_is_older_than_what_is_known() -> None:
    world = World([budget(10**9, window=BudgetWindow.HOUR)])
    start_s = world.now_s - world.now_s % 3_600
    world.restart({("bud_1", start_s): 400})
    world.now_s -= 7_200
    standing = world.accounts.standing(world.budgets[0])
    assert (standing.window_start_s, standing.posted) == (start_s, 400)


@pytest.mark.parametrize("opened", [False, True])
def test_a_call_that_was_on_its_way_in_finds_the_new_limit(opened: bool) -> None:
    """It was identified before the limit was lowered, and is the first in a window."""
    world = World([budget(10**9, window=BudgetWindow.HOUR)])
    if opened:
        world.settle(world.reserve(10, 10), Seen(usage=Usage(100), final=True), COMPLETE)
    early = world.principal
    world.budgets = [msgspec.structs.replace(world.budgets[0], limit=1_000)]
    world.adopt({})
    world.now_s += 3_600
    world.principal = early
    with pytest.raises(Refusal) as caught:
        world.reserve(10, 10)
    assert caught.value.code == "budget_exhausted"


def test_a_cost_above_the_bound_is_posted_and_counted() -> None:
    world = World([budget(10**9)])
    hold = world.reserve(10, 10)
    world.settle(hold, Seen(usage=Usage(1_000_000), final=True), COMPLETE)
    assert world.accounts.bound_violations == 1
    standing = world.accounts.standing(world.budgets[0])
    assert (standing.posted, standing.held) == (3 * 10**9, 0)
    with pytest.raises(Refusal) as caught:
        world.reserve(0, 1)
    assert caught.value.details["affordable_max_tokens"] == 0


def test_a_settlement_the_disk_refuses_still_counts() -> None:
    world = World([budget(10**9)])
    hold = world.reserve(10, 10)
    world.journal.broken = True
    settlement = world.settle(hold, Seen(usage=Usage(100), final=True), COMPLETE)
    assert world.outbox.settlements == [settlement]
    assert world.accounts.standing(world.budgets[0]).posted == 300_000


def test_when_the_ledger_is_behind_nothing_is_admitted() -> None:
    world = World([budget(10**9)])
    world.outbox.full = True
    with pytest.raises(Refusal) as caught:
        world.reserve(10, 10)
    assert (caught.value.status, caught.value.code) == (503, "store_unavailable")
    assert world.journal.records == []


@pytest.mark.parametrize("how", ["the disk is gone", "cancelled"])
def test_strict_durability_gives_back_what_was_never_sent(how: str) -> None:
    world = World([budget(10**9)], strict=True)

    async def story() -> None:
        world.journal.sync_broken = how == "the disk is gone"
        task = asyncio.ensure_future(world.reserving(10, 10))
        await asyncio.sleep(0)
        if how == "cancelled":
            task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if how == "cancelled":
            assert isinstance(result, asyncio.CancelledError)
        else:
            assert isinstance(result, Refusal)
            assert result.code == "journal_unavailable"

    asyncio.run(story())
    assert world.accounts.standing(world.budgets[0]).held == 0
    assert [one.settle.kind for one in world.outbox.settlements] == [SettleKind.VOIDED]


@pytest.mark.parametrize(
    ("limit", "unit", "spent"),
    [
        (30_000_000, BudgetUnit.USD, "$0.0248"),
        (4_500, BudgetUnit.TOKENS, "4,116 tokens"),
        (1, BudgetUnit.REQUESTS, "1 request"),
    ],
)
def test_a_refusal_explains_itself(limit: int, unit: BudgetUnit, spent: str) -> None:
    world = World([budget(limit, unit, window=BudgetWindow.DAY)])
    hold = world.reserve(10, 10)
    with pytest.raises(Refusal) as caught:
        world.reserve(1_000, 300)
    refusal = caught.value
    assert refusal.status == 402
    assert "user alice" in refusal.message
    assert "per day" in refusal.message
    assert spent in refusal.message, refusal.message
    assert "starts anew at 2026-" in refusal.message
    resets_at = refusal.details["resets_at"]
    assert isinstance(resets_at, int)
    assert resets_at % 86_400 == 0
    assert refusal.scope == "user alice"
    assert refusal.should_retry is False
    world.settle(hold, Seen(), NOT_SENT)
    assert world.reserve(10, 10)


def test_what_a_users_own_endpoint_reports_is_not_believed_beyond_the_hold() -> None:
    at_own = Origin("evil.example", 443, guard=AddressGuard())
    there = msgspec.structs.replace(ATTEMPT, provider=msgspec.structs.replace(PROVIDER, origin=at_own))
    made_up = Seen(
        usage=Usage(input_tokens=1 << 40, output_tokens=1 << 40), final=True, complete=True, served_model="m" * 10_000
    )
    world = World([budget(10**9)])
    ask = Ask(model="claude-x", body_bytes=10, max_output_tokens=10)
    for attempt, believed in ((there, False), (ATTEMPT, True)):
        hold = world.accounts.reserve(world.principal, ask, attempt, FakeCaller("req_1", world.now_s * 10**9))
        settle = world.accounts.settle(hold, made_up, COMPLETE, False, 200, "e" * 10_000).settle
        assert settle.kind is (SettleKind.EXACT if believed else SettleKind.UPPER)
        assert (settle.amount_nusd == hold.record.hold_nusd) != believed
        assert (settle.tokens == hold.record.hold_tokens) != believed
        assert (settle.usage == made_up.usage) == believed
        assert world.accounts.bound_violations == believed
        assert (settle.served_model, settle.code) == ("m" * 256, "e" * 256)
