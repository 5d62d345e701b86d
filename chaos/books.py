"""The law: what the provider billed, the callers saw, the journal says and the ledger holds must agree.

Each name below counts what must not be; all must be 0.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from chaos.calls import Call
from chaos.world import World
from tollhouse.terms.events import SettleKind, SettleRecord

LAW = {
    "overspend_nusd": "billed by the provider beyond a limit, open calls at their worst case",
    "overposted_nusd": "in the ledger beyond a limit",
    "wrong_200": "the caller saw the whole answer, and the ledger has no row",
    "lost_rows": "the provider worked on them, and the ledger has no row",
    "double_rows": "calls with more than one row",
    "bill_minus_ledger_nusd": "between the provider's bill and rows that are `exact`, either way",
    "not_exact_though_settled": "the journal had the settlement, and the row says otherwise",
    "inexact_answers": "the caller saw the whole answer, and the row is not `exact`",
    "invented_exact": "rows that are `exact`, of calls the provider never saw",
    "below_bill": "rows below the provider's bill",
    "wrong_postings": "windows whose `posted` is not the sum of the ledger",
    "stranded_holds": "holds in force, or settlements on their way, when no call is open",
    "stranded_nusd": "still held when no call is open",
    "false_refusals": "refused by a budget that had room",
    "late_admissions": "admitted after their key was revoked or their limit lowered below what is spent",
    "wrong_windows": "posted to a window that was over or not open yet, or refused in a new one",
    "wrong_pace": "more or fewer calls than a limit per minute says",
    "same_ids": "request ids used twice",
    "unexpected_answers": "answers and failures that the fault does not explain",
    "damaged_segments": "journal files that were not as written",
    "bound_violations": "calls that cost more than their bound",
    "unclean_stops": "told to stop, it lost the order: exit code, ledger behind, or calls taken for crashed",
    "late_returns": "not back in time after the fault was over",
    "failed_rounds": "ended by an error of their own, such as a gateway that did not start",
}


@dataclass
class Round:
    """What happened in one round, as far as the law asks."""

    name: str
    number: int = 0
    """Of its kind, from 0."""
    run_seed: str = ""
    ends: dict[str, int] = field(default_factory=dict)
    """What rounds of this kind learn: the first of each sort of storage call that is never made."""
    calls: list[Call] = field(default_factory=list)
    killed: bool = False
    settled: dict[str, SettleRecord] = field(default_factory=dict)
    """From the journals that dead gateways left."""
    lowered: set[str] = field(default_factory=set)
    """Budgets whose limit was lowered below what was spent."""
    most_nusd: dict[str, int] = field(default_factory=dict)
    """The highest limit a budget had in this round."""
    broken: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What was wrong, in words, for the first of each kind."""

    def breaks(self, law: str, note: str = "", times: int = 1) -> None:
        """The law is broken."""
        assert law in LAW
        if times and note and not self.broken[law]:
            self.notes.append(f"{law}: {note}")
        self.broken[law] += times


def audit(world: World, this: Round) -> None:
    """Hold a round to the law, with the gateway running and nothing under way."""
    world.shipped()
    prefix = f"{this.name}-"
    bill = world.bill(prefix)
    rows = [row for row in world.rows() if row["session"].startswith(prefix)]
    billed: Counter[str] = Counter()
    for entry in bill:
        billed[entry["call"]] += entry["nusd"]
    entered: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        entered[row["session"]].append(row)
    _each_call(this, billed, entered, {entry["call"] for entry in bill if "answered 4" in entry["state"]})
    _each_settlement(this, rows)
    _each_budget(world, this, billed, rows)
    _nothing_left(world, this)
    kinds = Counter(row["kind"] for row in rows)
    this.facts |= {
        "calls": len(this.calls),
        "seen_whole": sum(call.complete for call in this.calls),
        "left": sum(call.left for call in this.calls),
        "refused": dict(Counter(call.code for call in this.calls if call.code)),
        "provider": dict(Counter(entry["state"] for entry in bill)),
        "rows": dict(kinds),
        "billed_nusd": sum(billed.values()),
        "ledger_nusd": sum(row["amount_nusd"] for row in rows),
    }


def _each_call(
    this: Round, billed: dict[str, int], entered: dict[str, list[dict[str, Any]]], refused: set[str]
) -> None:
    for name, nusd in billed.items():
        found = entered.get(name, [])
        if not found and name not in refused:
            this.breaks("lost_rows", name)
        if len(found) > 1:
            this.breaks("double_rows", name)
        for row in found:
            if row["amount_nusd"] < nusd:
                this.breaks("below_bill", f"{name}: {row['kind']} {row['amount_nusd']} < {nusd}")
            if row["kind"] == SettleKind.EXACT and row["amount_nusd"] != nusd:
                off = abs(row["amount_nusd"] - nusd)
                this.breaks("bill_minus_ledger_nusd", f"{name}: {row['amount_nusd']} != {nusd}", off)
    for name, found in entered.items():
        if name not in billed and any(row["kind"] == SettleKind.EXACT for row in found):
            this.breaks("invented_exact", name)
    for call in this.calls:
        if call.complete:
            found = entered.get(call.name, [])
            if not found:
                this.breaks("wrong_200", call.name)
            elif found[0]["kind"] != SettleKind.EXACT and call.unwritten:  # it may stand at its upper bound
                this.facts["whole_but_unwritten"] = this.facts.get("whole_but_unwritten", 0) + 1
            elif found[0]["kind"] != SettleKind.EXACT:
                this.breaks("inexact_answers", f"{call.name}: {found[0]['kind']}")


def _each_settlement(this: Round, rows: list[dict[str, Any]]) -> None:
    by_attempt = {row["attempt_id"]: row for row in rows}
    for attempt_id, row in by_attempt.items():
        settle = this.settled.get(attempt_id)
        if settle is not None and (settle.kind.value, settle.amount_nusd) != (row["kind"], row["amount_nusd"]):
            this.breaks("not_exact_though_settled", attempt_id)
    this.facts["settled_in_journal"] = len(this.settled)


def _each_budget(world: World, this: Round, billed: dict[str, int], rows: list[dict[str, Any]]) -> None:
    """By window: what was billed is that window's to which the ledger posted the call."""
    limits = world.limits_nusd()
    starts = {row["session"]: dict(json.loads(row["budgets"])) for row in rows}
    spent: Counter[tuple[str, int]] = Counter()
    for call in this.calls:
        for budget_id in call.key.budgets:
            spent[budget_id, starts.get(call.name, {}).get(budget_id, 0)] += billed.get(call.name, 0)
    for (budget_id, _), nusd in spent.items():
        most = this.most_nusd.get(budget_id, limits.get(budget_id, 0))
        this.breaks("overspend_nusd", f"{budget_id}: {nusd} > {most}", max(0, nusd - most))
    budgets = {budget_id for budget_id, _ in spent}
    sums = world.sums_nusd()
    posted = {
        (row["budget_id"], row["window_start_s"]): row["posted"]
        for row in world.query("SELECT budget_id, window_start_s, posted FROM budget_windows")
    }
    for window in sums.keys() | posted.keys():
        if window[0] in limits and sums.get(window, 0) != posted.get(window, 0):
            this.breaks("wrong_postings", f"{window}: {posted.get(window, 0)} != {sums.get(window, 0)}")
    for (budget_id, _), nusd in posted.items():
        most = max(limits.get(budget_id, nusd), this.most_nusd.get(budget_id, 0))
        if budget_id not in this.lowered and budget_id in budgets:
            this.breaks("overposted_nusd", f"{budget_id}: {nusd} > {most}", max(0, nusd - most))


def _nothing_left(world: World, this: Round) -> None:
    status = world.status()
    held = world.held_nusd()
    this.breaks("stranded_nusd", f"{held} nano-USD", held)
    this.breaks("stranded_holds", "", status["holds"])
    this.breaks("bound_violations", "", status["bound_violations"])
    journal, ledger = status["journal"], status["ledger"]
    waiting = {name: journal[name] for name in ("parked", "dropped", "open_holds") if journal[name]}
    waiting |= {name: ledger[name] for name in ("backlog", "set_aside") if ledger[name]}
    this.breaks("stranded_holds", f"not finished: {waiting}", len(waiting))
    damaged = len(list(world.journal.glob("*.damaged")))
    this.breaks("damaged_segments", "", damaged)
