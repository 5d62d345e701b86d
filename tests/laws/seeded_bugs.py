"""Bugs of the kind that gateways have had, each as one function or method of the real code put in another's place.

A bug is a function from the real thing to the wrong one; `seeded` says where it goes, `BUGS` lists them by name, and
`with planted(name):` puts it there for a while.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tollhouse.dataplane import accounts, snapshot
from tollhouse.dataplane.accounts import Accounts
from tollhouse.dataplane.holds import Account, MoneyHold, Purse
from tollhouse.dataplane.payers import Payers
from tollhouse.dataplane.snapshot import Principal
from tollhouse.dataplane.turn import Turn
from tollhouse.journal import Journal, frames
from tollhouse.journal.segments import Shelf
from tollhouse.journal.writer import Writer
from tollhouse.rules import metering
from tollhouse.rules.bounds import Bound, CapChoice, affordable
from tollhouse.rules.metering import NOTHING, EndingKind, Settled
from tollhouse.rules.plans import BUDGET_PREFIX
from tollhouse.storage import image, ledger
from tollhouse.terms.errors import Refusal
from tollhouse.terms.events import HoldRecord, SettleKind, Settlement
from tollhouse.terms.money import PUSD_PER_NUSD
from tollhouse.workers import Shipper, recovery

Wrong = Callable[[Any], Any]
"""From the real function to the wrong one."""
BUGS: dict[str, tuple[Any, str, Wrong]] = {}
"""Name → whose attribute, its name, and what to make of it."""


def seeded(owner: Any, attribute: str) -> Callable[[Wrong], Wrong]:
    def register(wrong: Wrong) -> Wrong:
        BUGS[wrong.__name__] = owner, attribute, wrong
        return wrong

    return register


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The real code with this bug."""
    owner, attribute, wrong = BUGS[name]
    real = owner.__dict__[attribute]
    setattr(owner, attribute, wrong(real))
    try:
        yield
    finally:
        setattr(owner, attribute, real)


# Admission


@seeded(accounts, "choose_cap")
def hold_shrunk_to_what_is_left(real: Any) -> Any:
    def wrong(ask: Any, bound: Bound, room_nusd: int | None, room_tokens: int | None, *options: Any) -> Any:
        """The request itself goes on as it came."""
        cap = real(ask, bound, room_nusd, room_tokens, *options)
        room = affordable(bound, room_nusd, room_tokens)
        return CapChoice(room, *bound.amounts(room)) if cap is None and room >= 0 else cap

    return wrong


@seeded(accounts, "choose_cap")
def clamped_but_sent_whole(real: Any) -> Any:
    def wrong(*facts: Any) -> Any:
        cap = real(*facts)
        return cap if cap is None else msgspec.structs.replace(cap, edit=False)

    return wrong


@seeded(accounts, "choose_cap")
def token_budgets_not_looked_at(real: Any) -> Any:
    return lambda ask, bound, room_nusd, room_tokens, *options: real(ask, bound, room_nusd, None, *options)


@seeded(Accounts, "reserve")
def one_of_several_budgets_not_checked(real: Any) -> Any:
    def wrong(self: Accounts, principal: Principal, *facts: Any) -> Any:
        fewer = Principal(principal.key, principal.user, principal.budgets[:-1] or principal.budgets)
        return real(self, fewer, *facts)

    return wrong


@seeded(accounts, "bound")
def unknown_price_is_nothing(real: Any) -> Any:
    def wrong(ask: Any, facts: Any, budgeted: bool, *options: Any) -> Any:
        return real(ask, facts, budgeted and facts.card is not None, *options)

    return wrong


@seeded(Bound, "amounts")
def hold_rounded_down(real: Any) -> Any:
    def wrong(self: Bound, max_output_tokens: int) -> tuple[int, int]:
        output_tokens = self.choices * max_output_tokens
        pusd = self.input_tokens * self.input_pusd + output_tokens * self.output_pusd
        return pusd // PUSD_PER_NUSD + self.fixed_nusd, self.input_tokens + output_tokens

    return wrong


@seeded(Accounts, "lost")
def hold_that_was_lost_is_used_all_the_same(real: Any) -> Any:
    return lambda self, attempt_ids: None


@seeded(Accounts, "_does_not_fit")
def what_was_taken_stays_taken_when_another_budget_refuses(real: Any) -> Any:
    def wrong(self: Accounts, purse: Purse, ask: Any, bound: Bound) -> Any:
        refusal = real(self, purse, ask, bound)
        if len(purse.accounts) > 1:
            first = purse.accounts[0]
            first.free -= (*bound.amounts(ask.max_output_tokens or 1), 1)[first.unit]
        return refusal

    return wrong


@seeded(Accounts, "reserve")
def unrecorded_hold_stays_held(real: Any) -> Any:
    def wrong(self: Accounts, principal: Principal, *facts: Any) -> Any:
        try:
            return real(self, principal, *facts)
        except Refusal as refusal:
            if refusal.code == "journal_unavailable" and principal.purse is not None:
                for account in principal.purse.requests:
                    account.free -= 1
            raise

    return wrong


@seeded(Turn, "append")
def hold_not_journalled(real: Any) -> Any:
    return lambda self, record: None if isinstance(record, HoldRecord) else real(self, record)


# Settlement


HOLD_NUSD, SEEN, ENDING = 2, 4, 5
"""Places among the arguments of `settle_amount`."""


@seeded(accounts, "settle_amount")
def cancelled_is_free(real: Any) -> Any:
    def wrong(*facts: Any) -> Settled:
        gone = facts[ENDING].kind is EndingKind.CLIENT_GONE and not facts[SEEN].final
        return NOTHING if gone else real(*facts)

    return wrong


@seeded(accounts, "settle_amount")
def missing_usage_refunds_everything(real: Any) -> Any:
    def wrong(*facts: Any) -> Settled:
        untold = facts[ENDING].kind is EndingKind.COMPLETE and not facts[SEEN].final
        return Settled(SettleKind.EXACT, facts[SEEN].usage, 0, 0) if untold else real(*facts)

    return wrong


@seeded(accounts, "settle_amount")
def unknown_end_counts_no_tokens(real: Any) -> Any:
    def wrong(*facts: Any) -> Settled:
        settled: Settled = real(*facts)
        return msgspec.structs.replace(settled, tokens=0) if settled.kind is SettleKind.UPPER else settled

    return wrong


@seeded(accounts, "settle_amount")
def more_than_held_is_rolled_back_to_the_hold(real: Any) -> Any:
    def wrong(*facts: Any) -> Settled:
        settled: Settled = real(*facts)
        return msgspec.structs.replace(settled, amount_nusd=min(settled.amount_nusd, facts[HOLD_NUSD]))

    return wrong


@seeded(metering, "cost")
def cost_rounded_down(real: Any) -> Any:
    def wrong(card: Any, usage: Any) -> int:
        rates = card.standard[0]
        pusd = usage.input_tokens * rates.input + usage.output_tokens * rates.output
        pusd += usage.cache_read_tokens * rates.cache_read + usage.cache_write_1h_tokens * rates.cache_write_1h
        return int(pusd // PUSD_PER_NUSD)

    return wrong


@seeded(Accounts, "settle")
def settled_twice_is_posted_twice(real: Any) -> Any:
    def wrong(self: Accounts, hold: MoneyHold, *facts: Any) -> Any:
        hold.settlement = None
        return real(self, hold, *facts)

    return wrong


@seeded(MoneyHold, "give_back")
def nothing_is_given_back_when_nothing_was_spent(real: Any) -> Any:
    return lambda self, *posted: real(self, *posted) if any(posted) else None


@seeded(MoneyHold, "give_back")
def voided_call_is_counted(real: Any) -> Any:
    return lambda self, nusd, tokens, requests: real(self, nusd, tokens, 1)


# Windows and limits


@seeded(Accounts, "settle")
def settled_in_the_window_of_the_day(real: Any) -> Any:
    def wrong(self: Accounts, hold: MoneyHold, *facts: Any) -> Any:
        now_s = self._now_ns() / 1e9
        hold.purse = Purse([self.account(account.budget, now_s) for account in hold.purse.accounts], self._version)
        return real(self, hold, *facts)

    return wrong


@seeded(Purse, "__init__")
def budgets_once_looked_up_outlive_their_windows(real: Any) -> Any:
    def wrong(self: Purse, *facts: Any) -> None:
        real(self, *facts)
        self.until_s = math.inf

    return wrong


@seeded(Accounts, "account")
def window_never_resets(real: Any) -> Any:
    return lambda self, budget, now_s: self._accounts.get(budget.budget_id) or real(self, budget, now_s)


@seeded(Accounts, "account")
def clock_that_runs_backwards_opens_an_old_window(real: Any) -> Any:
    def wrong(self: Accounts, budget: Any, now_s: float) -> Any:
        account = self._accounts.get(budget.budget_id)
        if account is not None and now_s < account.start_s:
            del self._accounts[budget.budget_id]
            self._adopted_s = 0
        return real(self, budget, now_s)

    return wrong


@seeded(Accounts, "adopt")
def after_a_restart_only_the_latest_window_counts(real: Any) -> Any:
    def wrong(self: Accounts, image: Any) -> None:
        latest = {budget_id: max(s for b, s in image.posted if b == budget_id) for budget_id, _ in image.posted}
        kept = {place: amount for place, amount in image.posted.items() if latest[place[0]] == place[1]}
        real(self, msgspec.structs.replace(image, posted=kept))

    return wrong


@seeded(Accounts, "adopt")
def window_older_than_the_image_opens_empty(real: Any) -> Any:
    return lambda self, image: real(self, msgspec.structs.replace(image, read_at_s=0))


@seeded(Accounts, "adopt")
def budgets_of_plans_are_forgotten_when_somebody_else_changes(real: Any) -> Any:
    def wrong(self: Accounts, image: Any) -> None:
        there = {budget.budget_id for budget in image.budgets}
        for budget_id in [one for one in self._accounts if one.startswith(BUDGET_PREFIX) and one not in there]:
            del self._accounts[budget_id]
        real(self, image)

    return wrong


@seeded(ledger, "unit_of")
def budgets_of_plans_are_not_posted_for_they_have_no_row(real: Any) -> Any:
    return lambda budget_id: None


@seeded(Accounts, "adopt")
def image_overwrites_what_was_counted_since(real: Any) -> Any:
    def wrong(self: Accounts, image: Any) -> None:
        real(self, image)
        for account in self._accounts.values():
            posted = image.posted.get(account.key, account.posted)
            account.free += account.posted - posted
            account.posted = posted

    return wrong


@seeded(accounts, "window_of")
def five_hours_open_anew_after_a_restart(real: Any) -> Any:
    return lambda window, timezone, now_s, opened_at_s: real(window, timezone, now_s, None)


@seeded(Account, "change")
def lowered_limit_ignored(real: Any) -> Any:
    return lambda self, budget: real(self, budget) if budget.limit >= self.budget.limit else None


@seeded(Account, "change")
def raised_limit_ignored(real: Any) -> Any:
    return lambda self, budget: real(self, budget) if budget.limit <= self.budget.limit else None


@seeded(Accounts, "account")
def call_brings_the_limit_it_was_identified_with(real: Any) -> Any:
    def wrong(self: Accounts, budget: Any, now_s: float) -> Any:
        self._budgets.pop(budget.budget_id, None)
        return real(self, budget, now_s)

    return wrong


# Whose key pays


@seeded(Payers, "own_face")
def own_spend_counted_though_the_plan_says_no(real: Any) -> Any:
    def wrong(self: Payers) -> Principal:
        face: Principal = real.fget(self)
        face.budgets = self.shared.budgets
        return face

    return property(wrong)


@seeded(Payers, "own_face")
def own_spend_counted_nowhere_though_the_plan_says_so(real: Any) -> Any:
    def wrong(self: Payers) -> Principal:
        face: Principal = real.fget(self)
        face.budgets = ()
        return face

    return property(wrong)


@seeded(snapshot, "holds_under")
def budgets_of_both_plans_count_whoever_pays(real: Any) -> Any:
    return lambda budget, plan: True


@seeded(snapshot, "Payers")
def shared_spend_counted_as_if_the_own_key_paid(real: Any) -> Any:
    def wrong(shared: Principal, plan: Any, *facts: Any) -> Any:
        payers = real(shared, plan, *facts)
        if plan is not None and not plan.counts_own_key:
            shared.budgets = ()
        return payers

    return wrong


@seeded(image, "plan_in_force")
def budgets_of_the_plan_itself_are_not_there(real: Any) -> Any:
    return lambda plans, plan_id, *, has_own_key=False: real(plans, plan_id)


@seeded(accounts, "hold_record")
def own_key_is_not_recorded(real: Any) -> Any:
    return lambda *facts: msgspec.structs.replace(real(*facts), credential_id="")


# Journal, ledger, recovery


@seeded(ledger, "ship")
def batch_that_comes_again_counts_again(real: Any) -> Any:
    def wrong(connection: Any, settlements: list[Settlement], refused: Any = ()) -> int:
        inserted: int = real(connection, settlements, refused)
        billable = [one for one in settlements if one.settle.kind is not SettleKind.VOIDED]
        if inserted < len(billable):
            ledger._POST.write(connection, ledger._added(billable), tuple)
        return inserted

    return wrong


@seeded(Shipper, "_ship_some")
def segment_deleted_before_the_commit(real: Any) -> Any:
    async def wrong(self: Shipper) -> Any:
        self._journal.shipped(self._next()[0])
        return await real(self)

    return wrong


@seeded(Shelf, "take_finished")
def newer_segment_goes_first(real: Any) -> Any:
    def wrong(self: Shelf, active: Any) -> Any:
        finished = [segment for segment in self._segments if segment is not active and segment.open == 0]
        for segment in finished:
            self._segments.remove(segment)
        return finished

    return wrong


@seeded(Writer, "_carry")
def old_hold_not_written_again(real: Any) -> Any:
    def wrong(self: Writer, segment: Any, holds: Any) -> None:
        for hold in holds:
            self.shelf.carried(hold, segment)
        self._doom()

    return wrong


@seeded(Writer, "_write_waiting")
def settlement_that_waited_for_the_disk_forgotten(real: Any) -> Any:
    return lambda self, segment: self.parked.clear()


@seeded(frames, "_frame")
def torn_tail_accepted(real: Any) -> Any:
    def wrong(data: bytes, offset: int) -> Any:
        payload, after = real(data, offset)
        return (data[offset + frames.FRAME_HEAD.size : after] if after else payload), after

    return wrong


@seeded(recovery, "crashed_settlement")
def recovery_drops_what_was_under_way(real: Any) -> Any:
    def wrong(hold: HoldRecord, now_ns: int) -> Settlement:
        dropped = real(hold, now_ns)
        settle = msgspec.structs.replace(dropped.settle, kind=SettleKind.VOIDED, amount_nusd=0, tokens=0)
        return Settlement(hold, settle)

    return wrong


@seeded(Journal, "replay")
def recovery_takes_holds_alone(real: Any) -> Any:
    def wrong(self: Journal) -> Any:
        found = real(self)
        holds = (*found.open_holds, *(settlement.hold for settlement in found.settlements))
        return msgspec.structs.replace(found, settlements=(), open_holds=holds)

    return wrong


@seeded(Journal, "replay")
def recovery_counts_what_was_settled_again(real: Any) -> Any:
    def wrong(self: Journal) -> Any:
        found = real(self)
        again = [
            Settlement(
                msgspec.structs.replace(one.hold, attempt_id=f"{one.hold.request_id}-2"),
                msgspec.structs.replace(one.settle, attempt_id=f"{one.hold.request_id}-2"),
            )
            for one in found.settlements
        ]
        return msgspec.structs.replace(found, settlements=(*found.settlements, *again))

    return wrong
