"""This node's money: what every budget has posted and held right now, and the life of a hold.

The law (docs: budgets). Per budget and window, `posted + held ≤ limit` after every admission; only a lowered limit or a
call that costs more than its bound can break it, and then nothing is admitted until it fits again. Between looking at
the room and taking it there is no await, so no two calls can take the same room.

    reserve   bound the call → choose the cap that fits → take the room → HOLD in the journal → only then send
    settle    once: amount from what was seen → SETTLE in the journal → room given back → entry on its way to the ledger

In one process this node owns all of every budget. With several, a lease grant comes before taking room, by a wait of
its own, as for the disk in durability `strict`; most calls need none. A hold keeps the window it was taken in: a stream
that crosses a reset settles where it was admitted.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

import msgspec

from tollhouse.dataplane.head import MAX_SESSION_CHARS
from tollhouse.dataplane.holds import TOKENS, USD, Account, Caller, MoneyHold, Purse, tightest
from tollhouse.dataplane.plan import Attempt
from tollhouse.dataplane.refusals import behind, exhausted, unrecorded
from tollhouse.dataplane.snapshot import Principal
from tollhouse.dataplane.thresholds import NO_THRESHOLDS, Thresholds
from tollhouse.ports import BudgetStanding
from tollhouse.rules.bounds import Bound, CapChoice, affordable, bound, choose_cap
from tollhouse.rules.budgets import window_of
from tollhouse.rules.metering import NOT_SENT, Ending, not_believed, settle_amount
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import JournalError, Refusal
from tollhouse.terms.events import HoldRecord, Record, SettleKind, Settlement, SettleRecord
from tollhouse.terms.people import Budget, DirectoryImage
from tollhouse.terms.seen import Seen

VOIDED = SettleKind.VOIDED


FIRST_ATTEMPT = "-1"
"""Behind the request's id; that of a second attempt is `-2`."""
MAX_SAID_CHARS = 256
"""Kept of a model's name and of an error's as an answer tells them: a user's own endpoint may say anything."""


class MoneyOptions(msgspec.Struct, frozen=True):
    """Numbers of the edge of a budget; settings under `money`."""

    min_output_tokens: int = 4096
    default_max_tokens: int = 32_000
    default_window_tokens: int = 200_000
    strict: bool = False
    """Durability `strict`: a hold is on the disk, not only written, before a byte goes upstream."""


class Journal(Protocol):
    """What accounts need of the journal."""

    def append(self, record: Record) -> None:
        """Takes every settlement. Raises JournalError when no hold can be written; one that could not be after all is
        told to `Accounts.lost`.
        """

    async def synced(self) -> None:
        """Returns when all appended so far is on the disk. Raises JournalError."""


class Outbox(Protocol):
    """Where settlements wait for the ledger."""

    full: bool
    """The ledger does not keep up: take no new holds."""

    def put(self, settlement: Settlement) -> None: ...


class Accounts:
    """All budgets of this node."""

    def __init__(
        self,
        journal: Journal,
        outbox: Outbox,
        options: MoneyOptions,
        now_ns: Callable[[], int],
        thresholds: Thresholds = NO_THRESHOLDS,
    ) -> None:
        self._journal = journal
        self._outbox = outbox
        self._options = options
        self.strict = options.strict
        self._now_ns = now_ns
        self.thresholds = thresholds
        self._accounts: dict[str, Account] = {}
        self._budgets: dict[str, Budget] = {}
        """As last adopted: a call may come with an older one, found before its body was complete."""
        self._posted: dict[str, dict[int, int]] = {}
        """Budget id → window start → what earlier runs posted, of windows not opened yet."""
        self._adopted_s = 0
        self._version = 0
        """Counts changes of budgets and windows: a purse of another version is looked up again."""
        self.holds: set[MoneyHold] = set()
        self.bound_violations = 0

    # --- what budgets there are

    def adopt(self, image: DirectoryImage) -> None:
        """Learn of new and changed budgets. What this node already counts for a window stands: it is newer than the
        image.
        """
        self._version += 1
        self._adopted_s = max(self._adopted_s, image.read_at_s)
        posted: dict[str, dict[int, int]] = defaultdict(dict)
        for (budget_id, start_s), amount in image.posted.items():
            posted[budget_id][start_s] = amount
        for budget in image.budgets:
            budget_id = budget.budget_id
            self._budgets[budget_id] = budget
            account = self._accounts.get(budget_id)
            if account is not None:
                account.change(budget)
            elif budget_id in posted:
                self._posted[budget_id] = posted[budget_id]

    def account(self, budget: Budget, now_s: float) -> Account:
        """The account of the window that holds now. A clock that runs backwards stays in the window it was in, and
        opens none older than the image: of older ones this node does not know what is posted.
        """
        budget_id = budget.budget_id
        account = self._accounts.get(budget_id)
        if account is not None and now_s < account.end_s:
            return account
        budget = self._budgets.get(budget_id, budget)
        now_s = max(now_s, self._adopted_s)
        posted = self._posted.get(budget_id, {})
        opened_at_s = max((start_s for start_s in posted if start_s <= now_s), default=None)
        start_s, end_s = window_of(budget.window, budget.timezone, now_s, opened_at_s)
        if account is not None:
            self.thresholds.look(account)  # the last time: what is shipped from now on looks at the next window
        account = Account(budget, start_s, end_s, posted.pop(start_s, 0), self.thresholds)
        self._accounts[budget_id] = account
        self._version += 1
        return account

    def shipped(self, settlements: Iterable[Settlement]) -> None:
        """These stand in the ledger: tell of thresholds that their budgets have passed."""
        # Calls of one purse share one tuple, and to compare tuples costs more than all else here.
        found: dict[int, tuple[tuple[str, int], ...]] = {}
        last: object = None
        for one in settlements:
            windows = one.hold.budgets
            if windows is not last:
                last = found[id(windows)] = windows
        for windows in found.values():
            for budget_id, _ in windows:
                account = self._accounts.get(budget_id)
                if account is not None and account.posted >= account.mark:
                    self.thresholds.look(account)

    def standing(self, budget: Budget) -> BudgetStanding:
        """The current window of a budget, for people to look at."""
        account = self.account(budget, self._now_ns() / 1e9)
        end_s = None if account.end_s == math.inf else int(account.end_s)
        return BudgetStanding(budget, account.posted, account.held, account.start_s, end_s)

    # --- the life of a hold

    def reserve(
        self, principal: Principal, ask: Ask, attempt: Attempt, caller: Caller, mark: str = FIRST_ATTEMPT
    ) -> MoneyHold:
        """Take room for the worst case of this attempt in every budget that applies, and journal it. In durability
        `strict` a wait for `synced` follows, before anything is sent.

        `mark` stands behind the request's id in the attempt's.

        Raises Refusal: 402 `budget_exhausted`, 400 for what cannot be bounded or priced, 503 when journal or ledger
        cannot keep up.
        """
        if self._outbox.full:
            raise behind()
        now_s = caller.at_ns / 1e9
        purse = principal.purse
        if purse is None or now_s >= purse.until_s or purse.version != self._version:
            purse = self._open(principal, now_s)
        requests = tightest(purse.requests) if purse.requests else None
        if requests is not None and requests.free < 1:
            raise exhausted(requests, needed=1, affordable_max_tokens=None)
        usd = tightest(purse.usd) if purse.usd else None
        tokens = tightest(purse.tokens) if purse.tokens else None
        binding = usd or tokens or requests
        options = self._options
        budgeted = usd is not None or tokens is not None
        limit = bound(ask, attempt.facts, budgeted, options.default_window_tokens)
        choose = purse.choose_cap
        cap = choose(
            ask,
            limit,
            None if usd is None else usd.free,
            None if tokens is None else tokens.free,
            purse.clamps,
            options.min_output_tokens,
            options.default_max_tokens,
        )
        if cap is None:
            raise self._does_not_fit(purse, ask, limit)
        hold = MoneyHold(
            hold_record(principal, ask, attempt, caller, purse, cap, mark), purse, attempt, limit, cap, binding
        )
        hold.take()
        try:
            self._journal.append(hold.record)
        except JournalError as error:
            hold.give_back(0, 0, 0)
            raise unrecorded() from error
        self.holds.add(hold)
        return hold

    def _open(self, principal: Principal, now_s: float) -> Purse:
        """Look all budgets of a principal up, in the windows that hold now."""
        accounts = [self.account(budget, now_s) for budget in principal.budgets]
        purse = principal.purse = Purse(accounts, self._version, principal.output_cap)
        purse.choose_cap = choose_cap if purse.by_plan is None else purse.by_plan.choose
        return purse

    def lost(self, attempt_ids: Collection[str]) -> None:
        """These holds could not be journalled: what they are for may not be sent."""
        for hold in self.holds:
            if hold.record.attempt_id in attempt_ids:
                hold.unrecorded = True

    async def synced(self, hold: MoneyHold) -> None:
        """Wait until this hold is on the disk; whatever ends the wait otherwise, the hold is given back and nothing may
        be sent. Raises Refusal (503).
        """
        try:
            await self._journal.synced()
            if hold.unrecorded:
                raise JournalError("the hold could not be written")
        except BaseException as error:
            self.settle(hold, Seen(), NOT_SENT, False, 503, "journal_unavailable")
            if isinstance(error, JournalError):
                raise unrecorded() from error
            raise

    def settle(
        self,
        hold: MoneyHold,
        seen: Seen,
        ending: Ending,
        cancel_stops_billing: bool,
        status: int,
        code: str,
        duration_us: int = 0,
        first_byte_us: int = 0,
        upstream_request_id: str = "",
        response_bytes: int = 0,
    ) -> Settlement:
        """Post the real cost and give the rest back. A plain function: nothing can come between. The first call
        decides. From `status` on: what is remembered of the answer besides money, as in `SettleRecord`.

        A SETTLE that the disk refuses is kept and written again by the journal; until then the HOLD on disk stands for
        it.
        """
        if hold.settlement is not None:
            return hold.settlement
        record = hold.record
        settled = settle_amount(
            hold.attempt.facts.card,
            hold.bound,
            record.hold_nusd,
            record.hold_tokens,
            seen,
            ending,
            cancel_stops_billing,
        )
        if settled.amount_nusd > record.hold_nusd or settled.tokens > record.hold_tokens:
            if hold.attempt.provider.origin.guard is None:
                self.bound_violations += 1
            else:
                settled = not_believed(record.hold_nusd, record.hold_tokens)
        served_model = seen.served_model
        if len(served_model) > MAX_SAID_CHARS or len(code) > MAX_SAID_CHARS:
            served_model, code = served_model[:MAX_SAID_CHARS], code[:MAX_SAID_CHARS]
        now_ns = self._now_ns
        settle = SettleRecord(
            record.attempt_id,
            now_ns(),
            settled.kind,
            settled.amount_nusd,
            settled.usage,
            served_model,
            status,
            code,
            duration_us,
            first_byte_us,
            upstream_request_id,
            response_bytes,
            settled.tokens,
        )
        settlement = hold.settlement = Settlement(record, settle)
        if not hold.unrecorded:  # else the journal knows nothing of it, and nothing was sent
            self._journal.append(settle)
        hold.give_back(settled.amount_nusd, settled.tokens, 0 if settled.kind is VOIDED else 1)
        self.holds.discard(hold)
        self._outbox.put(settlement)
        return settlement

    # --- refusals that explain themselves

    def _does_not_fit(self, purse: Purse, ask: Ask, limit: Bound) -> Refusal:
        """402 by the budget that binds: the one that leaves the smallest answer."""

        def fits(account: Account) -> int:
            usd, tokens = account.unit == USD, account.unit == TOKENS
            return affordable(limit, account.free if usd else None, account.free if tokens else None)

        binding = min(purse.usd + purse.tokens, key=fits)
        default = self._options.default_max_tokens
        if purse.by_plan is not None:
            ask = purse.by_plan.within(ask, limit, default)
        needed = limit.amounts(ask.max_output_tokens or default)[binding.unit]
        return exhausted(binding, needed=needed, affordable_max_tokens=max(fits(binding), 0))


def hold_record(
    principal: Principal, ask: Ask, attempt: Attempt, caller: Caller, purse: Purse, cap: CapChoice, mark: str
) -> HoldRecord:
    """All a ledger entry needs to know of a call's origin."""
    key, card, head, request_id = principal.key, attempt.facts.card, caller.head, caller.request_id
    return HoldRecord(
        request_id + mark,
        request_id,
        caller.at_ns,
        principal.user.org_id,
        key.user_id,
        key.key_id,
        caller.route.endpoint_name,
        attempt.provider.name,
        attempt.requested_model,
        attempt.upstream_model,
        "" if card is None else card.version,
        cap.nusd,
        cap.tokens,
        cap.max_output_tokens,
        ask.stream,
        purse.keys,
        head.client,
        head.session or ask.session[:MAX_SESSION_CHARS],
        "" if principal.team is None else principal.team.team_id,
        attempt.credential_id,
        ask.end_user or head.end_user,
    )
