"""The accounts against a plain model: no budget is ever overspent, and no call refused that would have fitted.

The model knows per budget and window what is posted and which holds are open; what a call may cost at most is computed
from the price list in the test's own words.
"""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.planes.plane import FACTS, T0_NS, ListJournal, ListOutbox, image
from tollhouse.dataplane.accounts import Accounts, MoneyOptions
from tollhouse.dataplane.holds import Caller, Outcome
from tollhouse.dataplane.plan import Attempt
from tollhouse.dataplane.snapshot import Principal
from tollhouse.rules.bounds import INPUT_OVERHEAD_TOKENS
from tollhouse.rules.budgets import FIVE_HOURS_S, window_of
from tollhouse.rules.metering import CLIENT_GONE, COMPLETE, CUT_BY_UPSTREAM, NOT_SENT
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import Refusal
from tollhouse.terms.events import HoldRecord, SettleKind, SettleRecord
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget, BudgetEdge, BudgetUnit, BudgetWindow, User, VirtualKey
from tollhouse.terms.seen import Seen
from tollhouse.terms.usage import Usage
from tollhouse.upstream.origin import Origin
from tollhouse.upstream.providers import Provider

MIN_OUTPUT = 50
DEFAULT_MAX = 400
INPUT_NUSD, OUTPUT_NUSD = 6_000, 15_000
"""Dearest prices per token of the test's card: a one-hour cache write, an output token."""
PROVIDER = Provider("mock", "anthropic", Origin("localhost", 1), {}, (), (), True, "", "")
ATTEMPT = Attempt(PROVIDER, None, "claude-x", "claude-x", FACTS)
ENDINGS = [COMPLETE, CUT_BY_UPSTREAM, CLIENT_GONE, NOT_SENT]
WINDOWS = [BudgetWindow.TOTAL, BudgetWindow.HOUR, BudgetWindow.DAY, BudgetWindow.FIVE_HOURS]


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
        self.accounts.adopt(msgspec.structs.replace(image(posted=posted), budgets=tuple(self.budgets)))
        self.principal = Principal(VirtualKey("key_1", "alice"), User("alice"), tuple(self.budgets))

    def reserve(self, body_bytes: int, max_tokens: int | None) -> Any:
        return finish(self.reserving(body_bytes, max_tokens))

    def try_to_reserve(self, body_bytes: int, max_tokens: int | None) -> tuple[Any, Refusal | None]:
        try:
            return self.reserve(body_bytes, max_tokens), None
        except Refusal as refusal:
            return None, refusal

    def reserving(self, body_bytes: int, max_tokens: int | None) -> Coroutine[Any, Any, Any]:
        self.count += 1
        caller = Caller(f"req_{self.count:012x}", "messages", self.now_s * 10**9, "", "")
        ask = Ask(model="claude-x", body_bytes=body_bytes, max_output_tokens=max_tokens, stream=True)
        return self.accounts.reserve(self.principal, ask, ATTEMPT, caller)

    def settle(self, hold: Any, seen: Seen, ending: Any) -> Any:
        return self.accounts.settle(hold, seen, ending, True, Outcome(200, ""))

    def posted(self) -> dict[tuple[str, int], int]:
        """What a ledger would know, from the settlements alone."""
        sums: dict[tuple[str, int], int] = {}
        units = {budget.budget_id: budget.unit for budget in self.budgets}
        for settlement in self.outbox.settlements:
            for place in settlement.hold.budgets:
                sums[place] = sums.get(place, 0) + amount(settlement.settle, units[place[0]])
        return sums


def amount(settle: SettleRecord, unit: BudgetUnit) -> int:
    if unit is BudgetUnit.USD:
        return settle.amount_nusd
    if unit is BudgetUnit.TOKENS:
        return settle.tokens
    return 0 if settle.kind is SettleKind.VOIDED else 1


def worst(body_bytes: int, output_tokens: int, unit: BudgetUnit) -> int:
    """The most a call can take of a budget, in the test's own words."""
    input_tokens = body_bytes + INPUT_OVERHEAD_TOKENS
    if unit is BudgetUnit.USD:
        return input_tokens * INPUT_NUSD + output_tokens * OUTPUT_NUSD
    return input_tokens + output_tokens if unit is BudgetUnit.TOKENS else 1


class Law(RuleBasedStateMachine):
    """Any history of calls, windows, limits, restarts and disks."""

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        budgets = []
        for number in range(data.draw(st.integers(1, 3))):
            unit = data.draw(st.sampled_from(BudgetUnit))
            scale = {BudgetUnit.USD: 10**8, BudgetUnit.TOKENS: 15_000, BudgetUnit.REQUESTS: 5}[unit]
            budgets.append(
                Budget(
                    f"bud_{number}",
                    ScopeKind.USER,
                    "alice",
                    data.draw(st.integers(scale // 2, scale * 8) | st.integers(0, scale)),
                    unit,
                    data.draw(st.sampled_from(WINDOWS)),
                    edge=data.draw(st.sampled_from(BudgetEdge)),
                )
            )
        self.world = World(budgets)
        self.open: list[Any] = []
        self.windows: dict[str, tuple[int, float]] = {}
        self.posted: dict[tuple[str, int], int] = {}

    # The model

    def window(self, budget: Budget) -> tuple[str, int]:
        start_s, end_s = self.windows.get(budget.budget_id, (0, -1))
        if self.world.now_s >= end_s:
            start_s, end = window_of(budget.window, budget.timezone, self.world.now_s, None)
            self.windows[budget.budget_id] = start_s, math.inf if end is None else end
        return budget.budget_id, start_s

    def held(self, budget: Budget, place: tuple[str, int]) -> int:
        amounts = 0
        for hold in self.open:
            if place in hold.record.budgets:
                record: HoldRecord = hold.record
                by_unit = {BudgetUnit.USD: record.hold_nusd, BudgetUnit.TOKENS: record.hold_tokens}
                amounts += by_unit.get(budget.unit, 1)
        return amounts

    def room(self, budget: Budget) -> int:
        place = self.window(budget)
        return budget.limit - self.posted.get(place, 0) - self.held(budget, place)

    # What happens

    @rule(calls=st.lists(st.tuples(st.integers(0, 3_000), st.none() | st.integers(1, 2_000)), min_size=1, max_size=6))
    def calls(self, calls: list[tuple[int, int | None]]) -> None:
        for body_bytes, max_tokens in calls:
            self.call(body_bytes, max_tokens)

    def call(self, body_bytes: int, max_tokens: int | None) -> None:
        budgets = self.world.budgets
        rooms = {budget.budget_id: self.room(budget) for budget in budgets}
        wanted = DEFAULT_MAX if max_tokens is None else max_tokens
        clamps = all(budget.edge is BudgetEdge.CLAMP for budget in budgets)
        only_requests = all(budget.unit is BudgetUnit.REQUESTS for budget in budgets)
        smallest = min(MIN_OUTPUT, wanted) if clamps else wanted
        fits = all(worst(body_bytes, smallest, budget.unit) <= rooms[budget.budget_id] for budget in budgets)
        hold, refusal = self.world.try_to_reserve(body_bytes, max_tokens)
        if refusal is not None:
            assert not fits, f"a false refusal: {refusal.message}"
            assert (refusal.status, refusal.code) == (402, "budget_exhausted")
            affordable = refusal.details.get("affordable_max_tokens")
            if affordable is not None:
                assert isinstance(affordable, int)
                money = [one for one in budgets if one.unit is not BudgetUnit.REQUESTS]
                over = any(worst(body_bytes, affordable + 1, one.unit) > rooms[one.budget_id] for one in money)
                assert over
            return
        assert fits
        record: HoldRecord = hold.record
        sent = record.max_output_tokens
        assert smallest <= sent <= wanted
        assert sent == wanted or hold.cap.clamped
        assert only_requests or record.hold_nusd == worst(body_bytes, sent, BudgetUnit.USD)
        assert set(record.budgets) == {self.window(budget) for budget in budgets}
        assert self.world.journal.records[-1] is record
        self.open.append(hold)
        for budget in budgets:
            assert self.room(budget) >= 0, "posted + held > limit after an admission"
        if sent < wanted:  # clamped no further than needed
            over = any(worst(body_bytes, sent + 1, budget.unit) > rooms[budget.budget_id] for budget in budgets)
            assert over

    @precondition(lambda self: self.open)
    @rule(data=st.data(), ending=st.sampled_from(ENDINGS), final=st.booleans())
    def settle(self, data: st.DataObject, ending: Any, final: bool) -> None:
        hold = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        record: HoldRecord = hold.record
        used = Usage(
            data.draw(st.integers(0, 4_000)), output_tokens=data.draw(st.integers(0, record.max_output_tokens))
        )
        seen = Seen(usage=used, final=True, input_known=True) if final else Seen(output_bound_tokens=10)
        settlement = self.world.settle(hold, seen, ending)
        again = self.world.settle(hold, Seen(), COMPLETE)
        assert again is settlement
        settle: SettleRecord = settlement.settle
        assert settle.amount_nusd <= record.hold_nusd
        units = {budget.budget_id: budget.unit for budget in self.world.budgets}
        for place in record.budgets:
            self.posted[place] = self.posted.get(place, 0) + amount(settle, units[place[0]])
        assert self.world.journal.records[-1] is settle

    @rule(seconds=st.sampled_from([1, 600, 3_600, 4 * 3_600, FIVE_HOURS_S, 86_400]))
    def time_passes(self, seconds: int) -> None:
        self.world.now_s += seconds

    @rule(number=st.integers(0, 3), percent=st.integers(0, 200), edge=st.sampled_from(BudgetEdge))
    def the_limit_changes(self, number: int, percent: int, edge: BudgetEdge) -> None:
        """The operator's image is older than what this node counts, and must not undo it."""
        budgets = self.world.budgets
        if number < len(budgets):
            limit = budgets[number].limit * percent // 100
            budgets[number] = msgspec.structs.replace(budgets[number], limit=limit, edge=edge)
            self.world.adopt(dict.fromkeys(self.posted, 0))

    @rule()
    def the_disk_is_full(self) -> None:
        """Nothing is admitted, and nothing stays held."""
        self.world.journal.broken = True
        before = [self.world.accounts.standing(budget).held for budget in self.world.budgets]
        _, refusal = self.world.try_to_reserve(10, 10)
        assert refusal is not None, "admitted unrecorded"
        assert refusal.code in ("journal_unavailable", "budget_exhausted")
        self.world.journal.broken = False
        assert [self.world.accounts.standing(budget).held for budget in self.world.budgets] == before

    @rule()
    def a_restart(self) -> None:
        """Open holds are recovered at their upper bound, then the ledger alone is known."""
        for hold in self.open:
            self.world.settle(hold, Seen(), CUT_BY_UPSTREAM)
            for budget in self.world.budgets:
                for place in hold.record.budgets:
                    if place[0] == budget.budget_id:
                        self.posted[place] = self.posted.get(place, 0) + amount(hold.settlement.settle, budget.unit)
        self.open = []
        latest: dict[tuple[str, int], int] = {}
        for (budget_id, start_s), value in sorted(self.world.posted().items()):
            latest = {place: kept for place, kept in latest.items() if place[0] != budget_id}
            latest[budget_id, start_s] = value
        self.world.restart(latest)
        for budget in self.world.budgets:
            place = budget.budget_id, self.windows.get(budget.budget_id, (0, 0))[0]
            if budget.window is BudgetWindow.FIVE_HOURS and place not in latest:
                self.windows.pop(budget.budget_id, None)  # it had been looked at, never used

    # What always holds

    @invariant()
    def the_accounts_know_what_the_model_knows(self) -> None:
        if not hasattr(self, "world"):
            return
        for budget in self.world.budgets:
            place = self.window(budget)
            standing = self.world.accounts.standing(budget)
            assert standing.window_start_s == place[1]
            assert standing.posted == self.posted.get(place, 0)
            assert standing.held == self.held(budget, place) >= 0
        assert self.world.accounts.holds == set(self.open)
        assert self.world.posted() == self.posted
        assert self.world.accounts.bound_violations == 0


TestLaw = Law.TestCase
TestLaw.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, phases=[Phase.generate, Phase.shrink]
)


# Single cases


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
