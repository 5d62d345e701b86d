"""What must be, in dicts and ints: the law of budgets told a second time, without journal, ledger or clock.

room      limit - posted - held, per budget and window; a call is admitted exactly if it fits into each of its
          budgets, cut down to the smallest useful answer where all of them clamp
hold      what the provider may bill at most for what is sent
window    of the budget's calendar; a clock that runs backwards opens no window older than the one it is in, nor
          one older than the last look at the directory
end       one entry a call: what was used, or what may have been used, or nothing for what was certainly not worked
          on. A call whose end is not on the disk when the process dies is entered at its whole hold
bill      what the provider may charge in the worst case. No entry is below it, and all bills of a window together
          never pass the limit
"""

import math
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tollhouse.terms.people import Budget, BudgetEdge, BudgetUnit, BudgetWindow

MIN_OUTPUT, DEFAULT_OUTPUT, OVERHEAD, SLACK = 50, 400, 4_096, 256
"""Tokens: the smallest useful answer, the cap of who sets none, what a provider adds to a prompt, and what it may
still write after it was hung up on."""
INPUT_PUSD, CACHED_PUSD, WRITTEN_PUSD, OUTPUT_PUSD = 3_000_001, 300_001, 6_000_007, 15_000_003
"""Prices a token in pico-USD; a written one (to the cache, for an hour) is the dearest of the prompt. Odd, so that
nothing divides evenly."""
FIVE_HOURS_S = 5 * 3_600

Place = tuple[str, int]
"""A budget's id and the start of a window of it."""


class BrokenLawError(AssertionError):
    """A law that did not hold: `overspend`, `false_refusal`, `stranded`, `lost_row`, `double_row`, `wrong_row` or
    `wrong_window`.
    """

    def __init__(self, law: str, what: str) -> None:
        super().__init__(f"{law}: {what}")
        self.law = law


def must(holds: bool, law: str, what: object) -> None:
    """Raise BrokenLawError unless it holds."""
    if not holds:
        raise BrokenLawError(law, str(what))


@dataclass(frozen=True)
class Amount:
    """One call in every unit a budget may count."""

    nusd: int = 0
    tokens: int = 0
    requests: int = 1

    def of(self, unit: BudgetUnit) -> int:
        return {BudgetUnit.USD: self.nusd, BudgetUnit.TOKENS: self.tokens, BudgetUnit.REQUESTS: self.requests}[unit]


NOTHING = Amount(requests=0)


def nusd(pusd: int) -> int:
    """Rounded up."""
    return -(-pusd // 1_000)


def worst(body_bytes: int, output_tokens: int, *, priced: bool = True) -> Amount:
    """The most such a call can take of a budget."""
    input_tokens = body_bytes + OVERHEAD
    pusd = input_tokens * WRITTEN_PUSD + output_tokens * OUTPUT_PUSD
    return Amount(nusd(pusd) if priced else 0, input_tokens + output_tokens)


@dataclass(frozen=True)
class Wish:
    """A call somebody would like to make. `priced`: the model's price is known."""

    body_bytes: int
    max_tokens: int | None
    priced: bool = True

    @property
    def wanted(self) -> int:
        return DEFAULT_OUTPUT if self.max_tokens is None else self.max_tokens

    def worst(self, output_tokens: int) -> Amount:
        return worst(self.body_bytes, output_tokens, priced=self.priced)


@dataclass
class Call:
    """One that was admitted. `end` is what must be entered: (kind, amount); None while it is under way."""

    places: tuple[Place, ...]
    wish: Wish
    cap: int
    hold: Amount
    bill: Amount
    """The worst the provider may have charged so far."""
    end: tuple[str, Amount] | None = None
    on_disk: bool = False
    """Its end is in the journal, not only in memory."""
    entered: bool = False
    """The ledger has committed it."""


@dataclass
class Model:
    """All budgets and calls of one gateway, over all its lives."""

    budgets: dict[str, Budget] = field(default_factory=dict)
    """As they were last said to be; removed ones too."""
    removed: set[str] = field(default_factory=set)
    calls: dict[str, Call] = field(default_factory=dict)
    windows: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Budget id → [start, end) of the window this process is in."""
    openings: dict[str, list[int]] = field(default_factory=dict)
    """Budget id → windows that had entries when the process began."""
    looked_at_s: int = 0
    """The latest time at which the directory was looked at."""
    posted: Counter[Place] = field(default_factory=Counter)
    held: Counter[Place] = field(default_factory=Counter)
    overruns: int = 0
    writable: bool = True

    # --- windows and room

    def place(self, budget_id: str, now_s: int) -> Place:
        start_s, end_s = self.windows.get(budget_id, (0, -1))
        if now_s >= end_s:
            start_s, end_s = self._window(self.budgets[budget_id], max(now_s, self.looked_at_s))
            self.windows[budget_id] = start_s, end_s
        return budget_id, start_s

    def _window(self, budget: Budget, at_s: int) -> tuple[int, float]:
        if budget.window is BudgetWindow.TOTAL:
            return 0, math.inf
        if budget.window is BudgetWindow.FIVE_HOURS:
            start_s = max((one for one in self.openings.get(budget.budget_id, ()) if one <= at_s), default=at_s)
            start_s = start_s if at_s < start_s + FIVE_HOURS_S else at_s
            return start_s, start_s + FIVE_HOURS_S
        if budget.window is BudgetWindow.MONTH:
            first = datetime.fromtimestamp(at_s, UTC).replace(day=1, hour=0, minute=0, second=0)
            after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
            return int(first.timestamp()), int(after.timestamp())
        length_s = {BudgetWindow.HOUR: 3_600, BudgetWindow.DAY: 86_400}[budget.window]
        return at_s - at_s % length_s, at_s - at_s % length_s + length_s

    def room(self, place: Place) -> int:
        return self.budgets[place[0]].limit - self.posted[place] - self.held[place]

    # --- admission

    def smallest(self, wish: Wish, budget_ids: Iterable[str]) -> int:
        clamps = all(self.budgets[one].edge is BudgetEdge.CLAMP for one in budget_ids)
        return min(MIN_OUTPUT, wish.wanted) if clamps else wish.wanted

    def fits(self, wish: Wish, output_tokens: int, places: Iterable[Place]) -> bool:
        most = wish.worst(output_tokens)
        return all(most.of(self.budgets[place[0]].unit) <= self.room(place) for place in places)

    def verdict(self, wish: Wish, places: tuple[Place, ...]) -> int:
        """The status this call must be answered with: 200 stands for admission."""
        units = [self.budgets[place[0]].unit for place in places]
        requests = [place for place, unit in zip(places, units, strict=True) if unit is BudgetUnit.REQUESTS]
        if any(self.room(place) < 1 for place in requests):
            return 402
        if not wish.priced and len(requests) < len(places):
            return 400
        if not self.fits(wish, self.smallest(wish, [place[0] for place in places]), places):
            return 402
        return 200 if self.writable else 503

    def admit(self, attempt_id: str, call: Call) -> None:
        self.calls[attempt_id] = call
        for place in call.places:
            self.held[place] += call.hold.of(self.budgets[place[0]].unit)
            must(self.room(place) >= 0, "overspend", f"{place}: {self.room(place)} left after an admission")
            bills = sum(one.bill.of(self.budgets[place[0]].unit) for one in self.calls.values() if place in one.places)
            # An amount above its hold is entered, so the room it took is gone for those that follow.
            must(bills <= self.budgets[place[0]].limit, "overspend", f"{place}: the provider may bill {bills}")

    @property
    def open(self) -> list[str]:
        return [attempt_id for attempt_id, call in self.calls.items() if call.end is None]

    # --- the end of a call

    def settle(self, attempt_id: str, kind: str, amount: Amount, bill: Amount) -> None:
        call = self.calls[attempt_id]
        call.end, call.bill, call.on_disk = (kind, amount), bill, self.writable
        self.overruns += amount.nusd > call.hold.nusd or amount.tokens > call.hold.tokens
        for place in call.places:
            unit = self.budgets[place[0]].unit
            self.held[place] -= call.hold.of(unit)
            self.posted[place] += amount.of(unit)

    def written(self) -> None:
        """The disk takes what it refused."""
        self.writable = True
        for call in self.calls.values():
            call.on_disk = call.end is not None

    def die(self) -> None:
        """Ends that only this process knew are lost: those calls may have cost their whole hold. (Or more, when the
        provider had already said so. Nobody can know that now, and no bill is laid to it.)
        """
        for call in self.calls.values():
            if call.end is None or not (call.on_disk or call.entered):
                call.end, call.on_disk, call.bill = ("upper", call.hold), True, call.hold

    def begin(self, upper: Container[str] = ()) -> None:
        """A new process knows what the ledger knows, and the ledger knows all.

        A call that was never worked on, and whose end is in the request log but not in the journal, may be in the
        ledger at its whole hold (then it is among `upper`) or not.
        """
        for attempt_id, call in self.calls.items():
            if not call.on_disk and call.end is not None and call.end[0] == "voided" and attempt_id in upper:
                call.end = "upper", call.hold
        self.written()
        self.windows.clear()
        self.openings.clear()
        self.held.clear()
        self.posted.clear()
        self.overruns = 0
        for call in self.calls.values():
            call.entered = True
            kind, amount = call.end or ("", NOTHING)
            for place in call.places if kind != "voided" else ():
                self.posted[place] += amount.of(self.budgets[place[0]].unit)
                self.openings.setdefault(place[0], []).append(place[1])
