"""This node's money: what every budget has posted and held right now, and the life of a hold.

The law (docs: budgets). Per budget and window, `posted + held ≤ limit` after every admission; only a lowered limit or a
call that costs more than its bound can break it, and then nothing is admitted until it fits again. Between looking at
the room and taking it there is no await, so no two calls can take the same room.

    reserve   bound the call → choose the cap that fits → take the room → HOLD in the journal → only then send
    settle    once: amount from what was seen → SETTLE in the journal → room given back → entry on its way to the ledger

In one process this node owns all of every budget. With several, a lease grant comes before taking room: `reserve` is a
coroutine for that. A hold keeps the window it was taken in: a stream that crosses a reset settles where it was
admitted.
"""

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from tollhouse.dataplane.plan import Attempt
from tollhouse.dataplane.refusals import behind, exhausted, unrecorded
from tollhouse.dataplane.snapshot import Principal
from tollhouse.ports import BudgetStanding
from tollhouse.rules.bounds import Bound, CapChoice, affordable, bound, choose_cap
from tollhouse.rules.budgets import window_of
from tollhouse.rules.metering import NOT_SENT, Ending, settle_amount
from tollhouse.terms.ask import Ask
from tollhouse.terms.errors import JournalError, Refusal
from tollhouse.terms.events import HoldRecord, Record, SettleKind, Settlement, SettleRecord
from tollhouse.terms.holds import Hold
from tollhouse.terms.people import Budget, BudgetEdge, BudgetUnit, BudgetWindow, DirectoryImage
from tollhouse.terms.seen import Seen


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
        """Raises JournalError when the record could not be written."""

    async def synced(self) -> None:
        """Returns when all appended so far is on the disk. Raises JournalError."""


class Outbox(Protocol):
    """Where settlements wait for the ledger."""

    @property
    def full(self) -> bool: ...

    def put(self, settlement: Settlement) -> None: ...


class Account:
    """One budget in one window. Amounts in the budget's unit."""

    __slots__ = ("budget", "end_s", "held", "posted", "start_s")

    def __init__(self, budget: Budget, start_s: int, end_s: int | None, posted: int) -> None:
        self.budget = budget
        self.start_s = start_s
        self.end_s = math.inf if end_s is None else end_s
        self.posted = posted
        self.held = 0

    @property
    def room(self) -> int:
        return self.budget.limit - self.posted - self.held


class MoneyHold(Hold):
    """A hold in force: where its room was taken, and by what it will be settled."""

    __slots__ = ("accounts", "attempt", "bound", "cap", "settlement")

    def __init__(
        self, record: HoldRecord, accounts: list[Account], attempt: Attempt, limit: Bound, cap: CapChoice
    ) -> None:
        super().__init__(record)
        self.accounts = accounts
        self.attempt = attempt
        self.bound = limit
        self.cap = cap
        self.settlement: Settlement | None = None

    def amount_in(self, unit: BudgetUnit) -> int:
        record = self.record
        return record.hold_nusd if unit is BudgetUnit.USD else record.hold_tokens if unit is BudgetUnit.TOKENS else 1

    def binding(self) -> Account | None:
        """The budget in USD with the least left, else the one in tokens, else in requests."""
        best = None
        for account in self.accounts:
            if best is None or (_RANK[account.budget.unit], account.room) < (_RANK[best.budget.unit], best.room):
                best = account
        return best


_RANK = {BudgetUnit.USD: 0, BudgetUnit.TOKENS: 1, BudgetUnit.REQUESTS: 2}


class Caller(msgspec.Struct, frozen=True):
    """What a hold remembers of the request besides money."""

    request_id: str
    endpoint: str
    at_ns: int
    client: str
    session: str
    number: int = 1
    """Which attempt of the request this is, from 1."""


class Accounts:
    """All budgets of this node."""

    def __init__(self, journal: Journal, outbox: Outbox, options: MoneyOptions, now_ns: Callable[[], int]) -> None:
        self._journal = journal
        self._outbox = outbox
        self._options = options
        self._now_ns = now_ns
        self._accounts: dict[str, Account] = {}
        self._posted: dict[tuple[str, int], int] = {}
        self.holds: set[MoneyHold] = set()
        self.bound_violations = 0

    # --- what budgets there are

    def adopt(self, image: DirectoryImage) -> None:
        """Learn of new and changed budgets. What this node already counts for a window stands: it is newer than the
        image.
        """
        posted: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for (budget_id, start_s), amount in image.posted.items():
            posted[budget_id].append((start_s, amount))
        for budget in image.budgets:
            account = self._accounts.get(budget.budget_id)
            if account is None:
                self._posted.update(
                    {(budget.budget_id, start_s): amount for start_s, amount in posted[budget.budget_id]}
                )
            elif (account.budget.window, account.budget.timezone) == (budget.window, budget.timezone):
                account.budget = budget
            else:
                del self._accounts[budget.budget_id]

    def account(self, budget: Budget, now_s: float) -> Account:
        """The account of the window that holds now; a clock that runs backwards stays in the window it was in."""
        account = self._accounts.get(budget.budget_id)
        if account is not None and now_s < account.end_s:
            return account
        opened_at_s = self._last_opened(budget) if budget.window is BudgetWindow.FIVE_HOURS else None
        start_s, end_s = window_of(budget.window, budget.timezone, now_s, opened_at_s)
        account = Account(budget, start_s, end_s, self._posted.pop((budget.budget_id, start_s), 0))
        self._accounts[budget.budget_id] = account
        return account

    def _last_opened(self, budget: Budget) -> int | None:
        return max((start_s for budget_id, start_s in self._posted if budget_id == budget.budget_id), default=None)

    def standing(self, budget: Budget) -> BudgetStanding:
        """The current window of a budget, for people to look at."""
        account = self.account(budget, self._now_ns() / 1e9)
        end_s = None if account.end_s == math.inf else int(account.end_s)
        return BudgetStanding(budget, account.posted, account.held, account.start_s, end_s)

    # --- the life of a hold

    async def reserve(self, principal: Principal, ask: Ask, attempt: Attempt, caller: Caller) -> MoneyHold:
        """Take room for the worst case of this attempt in every budget that applies, and journal it.

        Raises Refusal: 402 `budget_exhausted`, 400 for what cannot be bounded or priced, 503 when journal or ledger
        cannot keep up.
        """
        if self._outbox.full:
            raise behind()
        accounts = [self.account(budget, caller.at_ns / 1e9) for budget in principal.budgets]
        room_nusd = room_tokens = None
        clamp = True
        for account in accounts:
            unit = account.budget.unit
            if unit is BudgetUnit.USD:
                room_nusd = account.room if room_nusd is None else min(room_nusd, account.room)
            elif unit is BudgetUnit.TOKENS:
                room_tokens = account.room if room_tokens is None else min(room_tokens, account.room)
            elif account.room < 1:
                raise exhausted(account, needed=1, affordable_max_tokens=None)
            clamp = clamp and account.budget.edge is BudgetEdge.CLAMP
        options = self._options
        limit = bound(
            ask,
            attempt.facts,
            budgeted=room_nusd is not None or room_tokens is not None,
            default_window_tokens=options.default_window_tokens,
        )
        cap = choose_cap(
            ask,
            limit,
            room_nusd,
            room_tokens,
            clamp=clamp,
            min_output_tokens=options.min_output_tokens,
            default_max_tokens=options.default_max_tokens,
        )
        if cap is None:
            raise self._does_not_fit(accounts, ask, limit, room_nusd, room_tokens)
        hold = self._hold(principal, ask, attempt, caller, accounts, limit, cap)
        if options.strict:
            await self._sync(hold)
        return hold

    async def _sync(self, hold: MoneyHold) -> None:
        """Wait for the disk; whatever ends the wait otherwise, nothing was sent and the hold is given back."""
        try:
            await self._journal.synced()
        except BaseException as error:
            self.settle(
                hold,
                Seen(),
                NOT_SENT,
                cancel_stops_billing=False,
                status=503,
                code="journal_unavailable",
                duration_us=0,
                first_byte_us=0,
            )
            if isinstance(error, JournalError):
                raise unrecorded() from error
            raise

    def _hold(
        self,
        principal: Principal,
        ask: Ask,
        attempt: Attempt,
        caller: Caller,
        accounts: list[Account],
        limit: Bound,
        cap: CapChoice,
    ) -> MoneyHold:
        hold_nusd, hold_tokens = limit.amounts(cap.max_output_tokens)
        card = attempt.facts.card
        record = HoldRecord(
            f"{caller.request_id}-{caller.number}",
            caller.request_id,
            caller.at_ns,
            principal.user.org_id,
            principal.user.user_id,
            principal.key.key_id,
            caller.endpoint,
            attempt.provider.name,
            attempt.requested_model,
            attempt.upstream_model,
            "" if card is None else card.version,
            hold_nusd,
            hold_tokens,
            cap.max_output_tokens,
            ask.stream,
            tuple([(account.budget.budget_id, account.start_s) for account in accounts]),
            caller.client,
            caller.session,
        )
        hold = MoneyHold(record, accounts, attempt, limit, cap)
        for account in accounts:
            account.held += hold.amount_in(account.budget.unit)
        try:
            self._journal.append(record)
        except JournalError as error:
            for account in accounts:
                account.held -= hold.amount_in(account.budget.unit)
            raise unrecorded() from error
        self.holds.add(hold)
        return hold

    def settle(
        self,
        hold: MoneyHold,
        seen: Seen,
        ending: Ending,
        *,
        cancel_stops_billing: bool,
        status: int,
        code: str,
        duration_us: int,
        first_byte_us: int,
        upstream_request_id: str = "",
        response_bytes: int = 0,
    ) -> Settlement:
        """Post the real cost and give the rest back. A plain function: nothing can come between. The first call
        decides.

        A SETTLE that the disk refuses is kept and written again by the journal; until then the HOLD on disk stands for
        it.
        """
        if hold.settlement is not None:
            return hold.settlement
        record = hold.record
        settled = settle_amount(
            card=hold.attempt.facts.card,
            bound=hold.bound,
            hold_nusd=record.hold_nusd,
            hold_tokens=record.hold_tokens,
            seen=seen,
            ending=ending,
            cancel_stops_billing=cancel_stops_billing,
        )
        if settled.amount_nusd > record.hold_nusd or settled.tokens > record.hold_tokens:
            self.bound_violations += 1
        settle = SettleRecord(
            record.attempt_id,
            self._now_ns(),
            settled.kind,
            settled.amount_nusd,
            settled.usage,
            seen.served_model,
            status,
            code,
            duration_us,
            first_byte_us,
            upstream_request_id,
            response_bytes,
            settled.tokens,
        )
        settlement = hold.settlement = Settlement(record, settle)
        with contextlib.suppress(
            JournalError
        ):  # the journal keeps it and is unhealthy: admission stops until it is written
            self._journal.append(settle)
        requests = 0 if settled.kind is SettleKind.VOIDED else 1
        for account in hold.accounts:
            unit = account.budget.unit
            account.held -= hold.amount_in(unit)
            account.posted += (
                settled.amount_nusd
                if unit is BudgetUnit.USD
                else settled.tokens
                if unit is BudgetUnit.TOKENS
                else requests
            )
        self.holds.discard(hold)
        self._outbox.put(settlement)
        return settlement

    # --- refusals that explain themselves

    def _does_not_fit(
        self, accounts: Sequence[Account], ask: Ask, limit: Bound, room_nusd: int | None, room_tokens: int | None
    ) -> Refusal:
        """402 by the budget that binds: the one that leaves the smallest answer."""
        money = [account for account in accounts if account.budget.unit is not BudgetUnit.REQUESTS]
        binding = min(
            money,
            key=lambda account: affordable(
                limit,
                account.room if account.budget.unit is BudgetUnit.USD else None,
                account.room if account.budget.unit is BudgetUnit.TOKENS else None,
            ),
        )
        wanted = ask.max_output_tokens or self._options.default_max_tokens
        nusd, tokens = limit.amounts(wanted)
        needed = nusd if binding.budget.unit is BudgetUnit.USD else tokens
        fits = max(affordable(limit, room_nusd, room_tokens), 0)
        return exhausted(binding, needed=needed, affordable_max_tokens=fits)
