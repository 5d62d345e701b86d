"""Any history of calls, limits, clocks, disks and deaths, held against the model: never overspent, never refused what
fits, nothing stranded, nothing lost, nothing twice.

`run` plays histories on the real parts of `one_node`; a broken law is raised as `BrokenLawError`, which names it.
"""

import functools
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as play
from sqlalchemy import Connection

from tests.laws.budget_model import Amount, Call, Model, Wish, must, worst
from tests.laws.call_ends import ENDS, VOIDED, Finish, ended
from tests.laws.one_node import OWN_KEY, OWNERS, RETRY_S, TEAM, WITH_OWN_KEY, Clocks, DiedError, Home, Node
from tollhouse.dataplane.holds import MoneyHold
from tollhouse.dataplane.snapshot import Principal
from tollhouse.journal.frames import encode_records
from tollhouse.rules.metering import COMPLETE
from tollhouse.rules.plans import budgets_of
from tollhouse.storage import directory
from tollhouse.storage import plans as stored
from tollhouse.terms.errors import Refusal, StorageError
from tollhouse.terms.events import SettleKind, SettleRecord
from tollhouse.terms.names import DEFAULT_ORG, ScopeKind
from tollhouse.terms.people import Budget, BudgetEdge, BudgetUnit, BudgetWindow, OwnKeyRule, Plan, PlanBudget, User
from tollhouse.terms.seen import Seen
from tollhouse.terms.usage import Usage

T0_S = 1_790_000_000
SCOPES = (
    (ScopeKind.ORGANISATION, DEFAULT_ORG),
    *((ScopeKind.USER, user_id) for user_id in ("alice", "bob")),
    *((ScopeKind.KEY, key_id) for key_id in OWNERS),
    (ScopeKind.TEAM, TEAM),
)
WINDOWS = (BudgetWindow.TOTAL, BudgetWindow.HOUR, BudgetWindow.DAY, BudgetWindow.MONTH, BudgetWindow.FIVE_HOURS)
PLANS = ("free", "paid")
PLAN_WINDOWS = (BudgetWindow.TOTAL, BudgetWindow.DAY)
HOUR_S, DAY_S = 3_600, 86_400
STEPS = 40
BATCH = 10
"""Hypothesis makes its first ten examples independently; later ones are mostly variations of these."""
MAX_BUDGETS = 7
SIZES = (0, 700, 3_000)
CAPS = (None, 1, 60, 400, 2_000)
KEYS = tuple(OWNERS)

edges = st.sampled_from(BudgetEdge)
places = st.integers(0, 9)
fates = st.sampled_from(("", "", "down", "lost", "dies before", "dies after"))
accidents = st.sampled_from(("", "", "", "down", "dies before", "dies after"))
torn_ends = st.sampled_from(("", "cut", "mixed", "zeros"))
verbs = st.sampled_from(("set", "change", "change", "change", "remove"))
percents = st.sampled_from((0, 50, 90, 110, 200, 1_000, 5_000))
moves_s = st.sampled_from((1, 600, 600, HOUR_S, HOUR_S, 4 * HOUR_S, DAY_S, 31 * DAY_S, -1, -HOUR_S, -DAY_S))


@st.composite
def limits(draw: Any) -> tuple[BudgetUnit, int]:
    """Room for some whole calls, or for one token or nano-dollar more or less."""
    unit = draw(st.sampled_from(BudgetUnit))
    most = worst(draw(st.sampled_from(SIZES)), draw(st.sampled_from((1, 60, 400))))
    return unit, max(
        0, draw(st.sampled_from((1, 2, 3, 5, 9, 20, 100, 1_000))) * most.of(unit) + draw(st.integers(-1, 1))
    )


new_budgets = st.tuples(places, limits(), st.sampled_from(WINDOWS), edges)


class Arrival(NamedTuple):
    """Somebody whose call is on its way in, and the budgets it counts toward: while the shared key pays, and while
    their own does. None: they have none that may.
    """

    principal: Principal
    shared: list[str]
    own: list[str] | None


def shared_plan(plan: Plan | None, plans: Mapping[str, Plan]) -> Plan | None:
    """What holds while the shared key pays: of two plans that name each other, the one that was given."""
    if plan is None or plan.own_key is OwnKeyRule.NEVER or not plan.without_own_key:
        return plan
    other = plans[plan.without_own_key]
    back = other.own_key is not OwnKeyRule.NEVER and other.without_own_key
    return plan if back else other


def _given(user_id: str, plan: Plan | None) -> list[Budget]:
    return list(budgets_of(plan, ScopeKind.USER, user_id, "UTC"))


def scene(**facts: Any) -> Callable[[Any], Any]:
    """A rule before which some calls come and go: there is traffic, whatever else happens. A drawn number and the count
    of steps throw the dice for it, so that a step played again is not the same again.
    """

    def make(act: Callable[..., None]) -> Any:
        @functools.wraps(act)
        def played(self: "BudgetMachine", traffic: int, **drawn: Any) -> None:
            self.step += 1
            self._traffic(random.Random(traffic * STEPS + self.step))
            act(self, **drawn)

        return rule(traffic=st.integers(0, 2**32), **facts)(played)

    return make


class BudgetMachine(RuleBasedStateMachine):
    """`home` is set by `run`."""

    home: Home
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(looked_at_s=T0_S)
        self.clocks = Clocks(T0_S)
        self.step = 0
        self.holds: dict[str, MoneyHold] = {}
        self.waiting: list[Arrival] = []
        """Who was identified, and has not sent the whole body yet."""
        self.plans: dict[str, Plan] = {}
        self.plan_of: dict[str, str | None] = {}
        self.given: dict[str, Budget] = {}
        """The budgets that users have by their plans now."""
        self.node = Node(self.home, self.clocks, self.entered)
        self.node.start()

    def entered(self, attempt_id: str) -> None:
        call = self.model.calls.get(attempt_id)
        must(call is not None, "double_row", f"{attempt_id} was never admitted")
        assert call is not None
        call.entered = True

    # --- budgets

    @initialize(several=st.lists(new_budgets, min_size=1, max_size=4))
    def budgets_there_are(self, several: list[Any]) -> None:
        self._write([self._new(*one) for one in several], directory.create_budget)

    @scene(new=new_budgets, which=places, verb=verbs, percent=percents, wall_s=st.sampled_from((0, 0, HOUR_S, DAY_S)))
    def owner_acts(self, new: Any, which: int, verb: str, percent: int, wall_s: int) -> None:
        """Another budget, another limit, or one budget less; while calls are under way, and others on their way in,
        which may come only in another window.
        """
        self.waiting += map(self._arrives, KEYS)
        if verb == "set" and len(self._stated) < MAX_BUDGETS:
            self._write([self._new(*new)], directory.create_budget)
        elif there := self._stated:
            budget = there[which % len(there)]
            if verb == "remove":
                self.model.removed.add(budget.budget_id)
                self._write([budget], lambda one, gone: directory.delete_budget(one, gone.budget_id))
            else:
                changed = msgspec.structs.replace(budget, limit=budget.limit * percent // 100, edge=new[3])
                self._write([changed], directory.update_budget)
        self._pass(wall_s, late=wall_s > 0)

    @scene(
        user_id=st.sampled_from(("alice", "bob")),
        plan_id=st.sampled_from(PLANS),
        limit=limits(),
        window=st.sampled_from(PLAN_WINDOWS),
        edge=edges,
        what=st.sampled_from(("gives", "is given", "is given", "is taken")),
        own_key=st.sampled_from(("", "pays", "pays", "pays and counts")),
        instead=st.booleans(),
    )
    def plan_changes(
        self,
        user_id: str,
        plan_id: str,
        limit: tuple[BudgetUnit, int],
        window: BudgetWindow,
        edge: BudgetEdge,
        what: str,
        own_key: str,
        instead: bool,
    ) -> None:
        """It gives something else, or to somebody else; calls of those who had it are on their way in. Own keys may
        pay, and another plan hold `instead` while they do not.
        """
        self.waiting += map(self._arrives, KEYS)
        if what == "gives" or plan_id not in self.plans:
            plan = self.plans[plan_id] = Plan(
                plan_id,
                budgets=(PlanBudget(limit[1], limit[0], window),),
                edge=edge,
                own_key=OwnKeyRule.OWN_FIRST if own_key else OwnKeyRule.NEVER,
                without_own_key=next((other for other in self.plans if other != plan_id), "") if instead else "",
                counts_own_key=own_key == "pays and counts",
            )
            self.node.change(lambda one: stored.update_plan(one, plan) or stored.create_plan(one, plan))
        if what != "gives":
            self.plan_of[user_id] = plan_id if what == "is given" else None
            moved = User(user_id, plan_id=self.plan_of[user_id], team_id=TEAM if user_id == "bob" else None)
            self.node.change(lambda one: directory.update_user(one, moved), user_id)
        self._looked()
        self.given = {
            budget.budget_id: budget
            for user_id, plan_id in self.plan_of.items()
            for plan in (self.plans.get(plan_id or ""),)
            for budget in (*_given(user_id, plan), *_given(user_id, shared_plan(plan, self.plans)))
        }
        self.model.budgets.update(self.given)

    def _new(self, scope: int, limit: tuple[BudgetUnit, int], window: BudgetWindow, edge: BudgetEdge) -> Budget:
        kind, scope_id = SCOPES[scope % len(SCOPES)]
        budget = Budget(f"bud_{len(self.model.budgets)}", kind, scope_id, limit[1], limit[0], window, edge=edge)
        self.model.budgets[budget.budget_id] = budget
        return budget

    def _write(self, budgets: list[Budget], act: Callable[[Connection, Budget], Any]) -> None:
        self.model.budgets.update({budget.budget_id: budget for budget in budgets})
        whose = {ScopeKind.USER: budgets[0].scope_id, ScopeKind.KEY: OWNERS.get(budgets[0].scope_id)}
        user_id = whose.get(budgets[0].scope) if len(budgets) == 1 else None
        self.node.change(lambda connection: [act(connection, budget) for budget in budgets], user_id)
        self._looked()

    def _looked(self) -> None:
        self.model.looked_at_s = max(self.model.looked_at_s, self.clocks.wall_s)

    @property
    def _alive(self) -> list[Budget]:
        return [*self._stated, *self.given.values()]

    @property
    def _stated(self) -> list[Budget]:
        """Those that have a row."""
        return [
            one for one in self.model.budgets.values() if one.budget_id not in self.model.removed and not one.owned_by
        ]

    # --- calls

    @scene()
    def nothing_else(self) -> None:
        """Only calls."""

    @scene(key_id=st.sampled_from(KEYS), others=st.integers(1, 6))
    def long_call_lasts(self, key_id: str, others: int) -> None:
        """And short ones come, are refused by the provider, and shipped."""
        principal = self._arrives(key_id)
        self._call(principal, Wish(0, 1))
        for _ in range(others):
            attempt_id = self._call(principal, Wish(0, 1))
            if attempt_id:
                self._end(attempt_id, VOIDED, 0, 0, 0)
            self.node.ship_a_batch()
        self.node.sync()

    def _traffic(self, dice: random.Random) -> None:
        """Who calls is found when the head is there; the body may take its time."""
        for _ in range(dice.randint(0, 10)):
            under_way = self.model.open
            what = dice.random()
            if what < 0.04:
                self.node.sync()
            elif what < 0.1:
                self.node.ship_a_batch()
            elif what < 0.2:
                self.waiting.append(self._arrives(dice.choice(KEYS)))
            elif what < 0.25 and self.waiting:
                arrival = self.waiting.pop(dice.randrange(len(self.waiting)))
                self._call(arrival, self._wish(dice), own=dice.random() < 0.5)
            elif what < 0.6 or not under_way:
                self._call(self._arrives(dice.choice(KEYS)), self._wish(dice), own=dice.random() < 0.5)
            else:
                self._end(dice.choice(under_way), dice.choice(ENDS), *(dice.randint(0, 2) for _ in range(3)))

    def _wish(self, dice: random.Random) -> Wish:
        return Wish(dice.choice(SIZES), dice.choice(CAPS), priced=dice.random() < 0.95)

    def _arrives(self, key_id: str) -> Arrival:
        """Whose call it is, and by the directory of this moment the budgets that it counts toward: by what holds while
        the shared key pays, and while their own one does.
        """
        user_id = OWNERS[key_id]
        scopes = {(ScopeKind.ORGANISATION, DEFAULT_ORG), (ScopeKind.USER, user_id), (ScopeKind.KEY, key_id)}
        if user_id == "bob":
            scopes.add((ScopeKind.TEAM, TEAM))
        stated = [one.budget_id for one in self._stated if (one.scope, one.scope_id) in scopes]
        plan = self.plans.get(self.plan_of.get(user_id) or "")
        shared = [*stated, *(one.budget_id for one in _given(user_id, shared_plan(plan, self.plans)))]
        own = None
        if user_id == WITH_OWN_KEY and plan is not None and plan.own_key is not OwnKeyRule.NEVER:
            own = [*stated, *(one.budget_id for one in _given(user_id, plan))] if plan.counts_own_key else []
        return Arrival(self.node.identify(key_id), shared, own)

    def _call(self, arrival: Arrival, wish: Wish, *, own: bool = False) -> str | None:
        """The attempt's id, if it was admitted. `own`: paid by their own key, where they have one."""
        model, now_s = self.model, self.clocks.wall_s
        principal, budget_ids, credential_id = arrival.principal, arrival.shared, ""
        if own and arrival.own is not None:
            assert principal.payers is not None, "their plan lets own keys pay"
            principal, budget_ids, credential_id = principal.payers.own_face, arrival.own, OWN_KEY
        bound = tuple(model.place(budget_id, now_s) for budget_id in budget_ids)
        verdict = model.verdict(wish, bound)
        given = self.node.reserve(
            principal, wish.body_bytes, wish.max_tokens, priced=wish.priced, credential_id=credential_id
        )
        if isinstance(given, Refusal):
            law = "wrong_row" if verdict != 200 else "false_refusal"
            must(given.status == verdict, law, f"{given.status} {given.message}, not {verdict}")
            affordable = given.details.get("affordable_max_tokens")
            more = isinstance(affordable, int) and model.fits(wish, affordable + 1, bound)
            must(not more, "false_refusal", f"{affordable} tokens, although more fit")
            return None
        must(verdict == 200, "overspend", f"admitted, not refused with {verdict}: {bound}")
        must(given.record.credential_id == credential_id, "wrong_row", f"paid by {given.record.credential_id!r}")
        self._admitted(given, wish, bound)
        attempt_id: str = given.record.attempt_id
        return attempt_id

    def _admitted(self, hold: MoneyHold, wish: Wish, bound: tuple[tuple[str, int], ...]) -> None:
        model, record = self.model, hold.record
        got = Amount(record.hold_nusd, record.hold_tokens)
        must(set(record.budgets) >= set(bound), "overspend", f"held in {record.budgets}, not in {bound}")
        must(set(record.budgets) == set(bound), "wrong_window", f"held in {record.budgets}, not in {bound}")
        sent = record.max_output_tokens if hold.cap.edit else wish.max_tokens
        limited = any(model.budgets[place[0]].unit is not BudgetUnit.REQUESTS for place in bound)
        most = got
        if limited:
            must(sent is not None, "overspend", "sent without a cap")
            assert sent is not None
            most = wish.worst(sent)
            covered = got.nusd >= most.nusd and got.tokens >= most.tokens
            must(covered, "overspend", f"holds {got} for what may cost {most}")
            must(got == most, "stranded", f"holds {got} for what costs at most {most}")
            less = model.smallest(wish, [place[0] for place in bound])
            must(less <= sent <= wish.wanted, "wrong_row", f"cap {sent} not in {less} … {wish.wanted}")
            if sent < wish.wanted:
                must(not model.fits(wish, sent + 1, bound), "false_refusal", f"cut to {sent} although more fits")
        self.holds[record.attempt_id] = hold
        model.admit(record.attempt_id, Call(bound, wish, record.max_output_tokens, got, most))

    def _end(self, attempt_id: str, finish: Finish, inputs: int, outputs: int, cache: int) -> None:
        """It used none, half or all of what it could, at one of three prices of input."""
        call = self.model.calls[attempt_id]
        seen, amount, bill = ended(call, finish, inputs, outputs, cache)
        hold = self.holds.pop(attempt_id)
        stops = finish.kind == "estimated"
        settle = self.node.settle(hold, seen, finish.ending, stops).settle
        again = self.node.settle(hold, Seen(), COMPLETE, False).settle
        self.model.settle(attempt_id, finish.kind, amount, bill)
        got = settle.amount_nusd, settle.tokens
        covered = settle.kind != "voided" or finish.kind == "voided"
        must(covered and got >= (bill.nusd, 0), "overspend", f"entered {settle.kind} {got} for what may cost {bill}")
        must((settle.kind, *got) == (finish.kind, amount.nusd, amount.tokens), "wrong_row", f"{got}, not {amount}")
        must(again is settle, "double_row", "settled twice")

    # --- time

    @scene(wall_s=moves_s, monotonic_s=st.sampled_from((0.0, 0.5, 60.0)), late=st.booleans())
    def time_passes(self, wall_s: int, monotonic_s: float, late: bool) -> None:
        """The wall clock jumps as it likes. The first calls after it may be some that came long before."""
        self.clocks.monotonic_s += monotonic_s
        self._pass(wall_s, late=late)

    def _pass(self, wall_s: int, *, late: bool) -> None:
        self.clocks.wall_s += wall_s
        while late and self.waiting:
            self._call(self.waiting.pop(0), Wish(0, 60))

    @scene()
    def somebody_looks(self) -> None:
        for budget in self._alive:
            self.model.place(budget.budget_id, self.clocks.wall_s)
            self._stands(budget)

    # --- the ledger and the disk

    @scene(fate=fates, batches=st.integers(1, 3))
    def ship(self, fate: str, batches: int) -> None:
        self.node.door.fate = fate
        try:
            for _ in range(batches):
                self.node.ship_a_batch()
        except DiedError:
            self._dies("", "")
        self.node.door.fate = ""
        self._books()

    @precondition(lambda self: self.node.door.batches)
    @scene(which=places)
    def batch_comes_again(self, which: int) -> None:
        batches = self.node.door.batches
        self.home.wait(self.node.door.ship(batches[which % len(batches)], ()))
        self._books()

    @scene()
    def sync(self) -> None:
        self.node.sync()

    @scene(dice=st.integers(0, 2**32), then=st.sampled_from(("it stays", "space returns", "the process dies soon")))
    def disk_is_full(self, dice: int, then: str) -> None:
        self.node.space.full, self.model.writable = True, False
        self._traffic(random.Random(dice))
        if then != "it stays":
            self._space_returns()
        if then == "the process dies soon":
            self._dies("", "")

    @precondition(lambda self: not self.model.writable)
    @scene()
    def disk_has_space(self) -> None:
        self._space_returns()

    def _space_returns(self) -> None:
        self.node.space.full = False
        self.clocks.monotonic_s += RETRY_S
        must(self.node.journal.healthy, "false_refusal", self.node.journal.facts)
        must(self.node.journal.facts.parked == 0, "lost_row", self.node.journal.facts)
        self.model.written()

    # --- the end of a process, and the next

    @scene(orderly=st.booleans(), torn=torn_ends, accident=accidents)
    def another_process(self, orderly: bool, torn: str, accident: str) -> None:
        if orderly:
            self._stops()
        else:
            self._dies(torn, accident)

    def _dies(self, torn: str, accident: str) -> None:
        self.node.die()
        self.model.die()
        if torn:
            self._tear(torn)
        try:
            self._starts(accident)
        except DiedError:
            self.node.die()
            self._starts("")
        except StorageError:
            self.node.journal.close()
            self._starts("")
        rows, _ = self.node.books()
        self.model.begin({attempt_id for attempt_id, row in rows.items() if row[0] == "upper"})
        self._reborn()

    def _stops(self) -> None:
        """As told to: what is under way is ended, and everything shipped."""
        for number, attempt_id in enumerate(self.model.open):
            self._end(attempt_id, ENDS[number % len(ENDS)], 1, 1, 0)
        if not self.model.writable:
            self._space_returns()
        self.node.stop()
        self._books(all_of_them=True)
        report = self._starts("")
        must(report.crashed == 0, "stranded", report)
        self.model.begin()
        self._reborn()

    def _starts(self, accident: str) -> Any:
        self.node.door.fate = accident
        report = self.node.start()
        self.node.door.fate = ""
        return report

    def _reborn(self) -> None:
        self.holds.clear()
        self.waiting.clear()
        self.model.looked_at_s = self.clocks.wall_s
        self._books(all_of_them=True)

    def _tear(self, how: str) -> None:
        """What a write that was never finished may leave at the end of the journal."""
        segments = sorted(self.node.journal_path.glob("*.journal"))
        if not segments:  # given up by a full disk, shipped and deleted
            return
        text = bytes(64)
        if how != "zeros" and self.holds:
            attempt_id, hold = next(iter(self.holds.items()))
            if how == "cut":
                text = encode_records([msgspec.structs.replace(hold.record, attempt_id="req_never-1")])[:-3]
            else:
                record = SettleRecord(attempt_id, 0, SettleKind.VOIDED, 0, Usage(), "", 0, "", 0, 0)
                text = bytearray(encode_records([record]))  # type: ignore[assignment]
                text[4] ^= 1  # type: ignore[index]  # another checksum
        with segments[-1].open("ab") as end:
            end.write(text)

    # --- what always holds

    @invariant()
    def accounts_are_right(self) -> None:
        """Of every window this process has opened."""
        type(self).steps += 1
        now_s = self.clocks.wall_s
        for budget in self._alive:
            if budget.budget_id in self.model.windows and now_s < self.model.windows[budget.budget_id][1]:
                self._stands(budget)
        strays = set(self.holds) ^ {hold.record.attempt_id for hold in self.node.accounts.holds}
        must(not strays, "stranded", strays)
        must(self.node.accounts.bound_violations == self.model.overruns, "wrong_row", "violations of bounds")

    def _stands(self, budget: Budget) -> None:
        standing = self.node.accounts.standing(budget)
        free = self.node.accounts.account(budget, self.clocks.wall_s).free
        place = self.model.place(budget.budget_id, self.clocks.wall_s)
        room = self.model.room(place)
        must(standing.window_start_s == place[1], "wrong_window", f"{standing}, not {place}")
        posted, held = self.model.posted[place], self.model.held[place]
        must(standing.posted >= posted, "overspend", f"{place}: {standing.posted} posted of {posted}")
        must(standing.posted == posted, "double_row", f"{place}: {standing.posted} posted of {posted}")
        must(standing.held >= held, "overspend", f"{place}: {standing.held} held of {held}")
        must(standing.held == held, "stranded", f"{place}: {standing.held} held of {held}")
        must(free <= room, "overspend", f"{place}: room for {free}, not {room}")
        must(free == room, "false_refusal", f"{place}: room for {free}, not {room}")

    def _books(self, *, all_of_them: bool = False) -> None:
        """The ledger against the calls, and what it has posted against its own rows."""
        model, (rows, posted) = self.model, self.node.books()
        due: dict[str, tuple[str, int, int]] = {}
        for attempt_id, call in model.calls.items():
            if call.end is not None and call.end[0] != "voided" and (call.entered or all_of_them):
                due[attempt_id] = (call.end[0], call.end[1].nusd, call.end[1].tokens)
        must(due.keys() <= rows.keys(), "lost_row", due.keys() - rows.keys())
        must(rows.keys() <= due.keys(), "double_row", rows.keys() - due.keys())
        wrong = {attempt_id: (row, due[attempt_id]) for attempt_id, row in rows.items() if row != due[attempt_id]}
        must(not wrong, "wrong_row", wrong)
        sums: dict[tuple[str, int], int] = {}
        for attempt_id in due:
            call = model.calls[attempt_id]
            assert call.end is not None
            for place in call.places:
                if place[0] not in model.removed:
                    sums[place] = sums.get(place, 0) + call.end[1].of(model.budgets[place[0]].unit)
        for place in sums.keys() | posted.keys():
            got, wanted = posted.get(place, 0), sums.get(place, 0)
            must(got >= wanted, "lost_row", f"{place}: {got} posted of {wanted}")
            must(got <= wanted, "double_row", f"{place}: {got} posted of {wanted}")

        if all_of_them:
            must(self.node.recount() == 0, "wrong_row", "counting anew gives something else")

    def teardown(self) -> None:
        self.node.die()


def run(home: Home, *, examples: int, first_seed: int) -> int:
    """Play so many histories, `BATCH` to a seed; the same first seed plays the same ones. How many steps that were.
    Raises BrokenLawError.
    """
    BudgetMachine.home = home
    before = BudgetMachine.steps
    options = settings(
        max_examples=BATCH,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        print_blob=False,
        report_multiple_bugs=False,
    )
    for number in range(-(-examples // BATCH)):
        play(seed(first_seed + number)(BudgetMachine), settings=options)  # type: ignore[arg-type]
    return BudgetMachine.steps - before
