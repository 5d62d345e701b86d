"""The ledger: what every attempt cost, and what is posted on every budget.

Three rules:

    once        an entry is inserted once per attempt id; shipping the same settlement again changes nothing
    together    entries, what they add to `posted`, and rows of the request log change in one transaction
    for good    entries are never edited or deleted, so `posted` can be counted anew from them at any time (`recount`)

What one entry adds to a budget, in the budget's unit: `usd` its amount; `tokens` input and output tokens, or the
tokens of the whole hold when nothing is known (`upper`); `requests` one. A voided hold has no entry and adds nothing;
it has a row in the request log only.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import islice
from operator import add, attrgetter
from typing import Any, Literal, TypeVar

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Connection, case, delete, func, insert, literal, select

from tollhouse.rules.plans import unit_of
from tollhouse.rules.tenants import EVERYBODY, Tenants
from tollhouse.storage.bulk import Bulk
from tollhouse.storage.credentials import Uses, note_used
from tollhouse.storage.database import Database
from tollhouse.storage.entries import ENTER, OwnParts, Window, alike
from tollhouse.storage.filters import whose
from tollhouse.storage.requests import MAX_NUMBER, note_requests
from tollhouse.storage.tables import budget_windows, budgets, ledger, teams, users, virtual_keys
from tollhouse.terms.credentials import MANAGED_PREFIX, OWN_PREFIX, PaidBy
from tollhouse.terms.events import Refused, SettleKind, Settlement
from tollhouse.terms.people import BudgetUnit

MAX_GROUPS = 10_000
"""Most rows of one usage report, whatever is asked for."""

_S_NS = 10**9
_DAY_NS = 86_400 * _S_NS
_EPOCH = date(1970, 1, 1)
_CHUNK = 500
"""Values in one IN (…)."""

T = TypeVar("T")
UsageBy = Literal["user", "key", "team", "model", "client", "session", "end_user", "payer", "day"]

_VOIDED = SettleKind.VOIDED
_user = attrgetter("hold.user_id")
_windows = msgspec.json.Decoder(tuple[Window, ...])


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One group of a usage report. `estimated_nusd`, `upper_nusd` and `own_nusd` are parts of `amount_nusd`."""

    group: str
    """User id, key id, team id, model as sent upstream, client, who paid (`PaidBy`), or the day as YYYY-MM-DD."""
    label: str = ""
    """A name for people: of the user, the key or the team, when it has one."""
    calls: int
    input_tokens: int
    """Uncached."""
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    amount_nusd: int
    estimated_nusd: int
    upper_nusd: int
    own_nusd: int
    """Paid by users' own provider keys."""


class SqlLedger:
    """The Ledger port on this process's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._uses = Uses()

    async def ship(self, settlements: Sequence[Settlement], refused: Sequence[Refused]) -> None:
        """As `ship` below, in one transaction of the database's writer, with the minute in which stored credentials
        were used. Raises StorageError.
        """
        used = self._uses.worth_noting(settlements)

        def both(connection: Connection) -> None:
            ship(connection, settlements, refused)
            note_used(connection, used)

        await self._database.run(both)
        self._uses.noted(used)


def ship(connection: Connection, settlements: Sequence[Settlement], refused: Sequence[Refused] = ()) -> int:
    """Insert what is not there yet, add it to `posted`, note what cost nothing; how many ledger entries were new."""
    billable: dict[str, Settlement] = {}
    voided: list[Settlement] = []
    for settlement in settlements:
        settle = settlement.settle
        if settle.kind is _VOIDED:
            voided.append(settlement)
        else:
            billable.setdefault(settle.attempt_id, settlement)
    # Users together: their part of the index is sought once.
    entered = sorted(billable.values(), key=_user)
    inserted = ENTER.write(connection, entered, OwnParts().part, alike)
    if 0 < inserted < len(entered):
        entered = [billable[attempt_id] for attempt_id in _newest(connection, inserted)]
    if inserted:
        _POST.write(connection, _added(entered), tuple)
    note_requests(connection, voided, refused)
    return inserted


def _newest(connection: Connection, count: int) -> Sequence[str]:
    """Attempts of the last `count` entries: with one writer, those this transaction has just inserted."""
    query = select(ledger.c.request_id, ledger.c.attempt).order_by(ledger.c.entry_id.desc()).limit(count)
    return [f"{request_id}-{attempt}" for request_id, attempt in connection.execute(query)]


def _added(entered: Iterable[Settlement]) -> list[tuple[str, int, int, int, int]]:
    """Budget, window, and what these add in each unit: nano-USD, tokens, requests."""
    of_holders: dict[tuple[Window, ...], list[int]] = {}
    last, sums = None, [0, 0, 0]
    for settlement in entered:
        settle, holders = settlement.settle, settlement.hold.budgets
        nusd, tokens = settle.amount_nusd, settle.tokens
        if nusd > MAX_NUMBER or tokens > MAX_NUMBER:
            nusd, tokens = min(nusd, MAX_NUMBER), min(tokens, MAX_NUMBER)  # as in the entry
        if holders is not last:
            last = holders
            sums = of_holders.setdefault(holders, [0, 0, 0])
        sums[0] += nusd
        sums[1] += tokens
        sums[2] += 1
    of_windows: dict[Window, list[int]] = {}
    for windows, sums in of_holders.items():
        for window in windows:
            of_windows[window] = [*map(add, of_windows.get(window, (0, 0, 0)), sums)]
    return [(*window, *_in_unit(window[0], sums)) for window, sums in of_windows.items()]


def _in_unit(budget_id: str, sums: list[int]) -> tuple[int, int, int]:
    """The sums in each unit; of a plan's budget, three times the one in its own."""
    nusd, tokens, requests = sums
    unit = unit_of(budget_id)
    if unit is None:
        return nusd, tokens, requests
    own = nusd if unit is BudgetUnit.USD else tokens if unit is BudgetUnit.TOKENS else requests
    return own, own, own


_POST = Bulk(
    """
    WITH added (budget_id, window_start_s, usd, tokens, requests) AS ({rows})
    {insert} INTO budget_windows (budget_id, window_start_s, posted)
    SELECT budget_id, window_start_s, CASE unit WHEN 'usd' THEN usd WHEN 'tokens' THEN tokens ELSE requests END
    FROM added LEFT JOIN budgets USING (budget_id) WHERE unit IS NOT NULL OR substr(budget_id, 1, 5) = 'plan:'
    ON CONFLICT (budget_id, window_start_s) DO UPDATE SET posted = budget_windows.posted + excluded.posted
    """,
    {"budget_id": "text", "window_start_s": "bigint", "usd": "bigint", "tokens": "bigint", "requests": "bigint"},
)
"""The budget's own row tells its unit; a budget deleted since gets nothing. A plan's budget has no row: its three sums
are all in its unit.
"""


# Reading


def usage(
    connection: Connection,
    by: UsageBy,
    *,
    since_s: int | None = None,
    until_s: int | None = None,
    user_id: str | None = None,
    key_id: str | None = None,
    team_id: str | None = None,
    tenants: Tenants = EVERYBODY,
    limit: int = 100,
    utc_offset_s: int = 0,
) -> tuple[UsageRow, ...]:
    """What these tenants spent in [since_s, until_s), dearest group first; by day: the latest `limit` days, oldest
    first.

    The time of an entry is its admission. `utc_offset_s` moves the midnight that parts two days.
    """
    group = _group(by, utc_offset_s)
    entry = ledger.c
    amount = func.sum(entry.amount_nusd)
    query = select(
        group.label("name"),
        func.count().label("calls"),
        func.sum(entry.input_tokens + entry.input_audio_tokens).label("input_tokens"),
        func.sum(entry.cache_read_tokens).label("cache_read_tokens"),
        func.sum(entry.cache_write_5m_tokens + entry.cache_write_1h_tokens).label("cache_write_tokens"),
        func.sum(entry.output_tokens + entry.output_audio_tokens).label("output_tokens"),
        amount.label("amount_nusd"),
        _sum_of(ledger.c.kind == SettleKind.ESTIMATED.value).label("estimated_nusd"),
        _sum_of(ledger.c.kind == SettleKind.UPPER.value).label("upper_nusd"),
        _sum_of(_OWN).label("own_nusd"),
    ).group_by(group)
    if since_s is not None:
        query = query.where(entry.at_ns >= since_s * _S_NS)
    if until_s is not None:
        query = query.where(entry.at_ns < until_s * _S_NS)
    query = query.where(*whose(connection, ledger, user_id=user_id, key_id=key_id, team_id=team_id, tenants=tenants))
    query = query.order_by(group.desc() if by == "day" else amount.desc()).limit(max(1, min(limit, MAX_GROUPS)))
    found = connection.execute(query).all()
    labels = _labels(connection, by, [str(row.name) for row in found])
    rows = [_usage_row(dict(row._mapping), by, labels) for row in found]
    return tuple(reversed(rows) if by == "day" else rows)


def _usage_row(found: dict[str, Any], by: UsageBy, labels: dict[str, str]) -> UsageRow:
    name = found.pop("name")
    group = (_EPOCH + timedelta(days=name)).isoformat() if by == "day" else name
    sums = {figure: int(value) for figure, value in found.items()}  # a sum of PostgreSQL's is a Decimal
    return UsageRow(group=group, label=labels.get(group, ""), **sums)


def _group(by: UsageBy, utc_offset_s: int) -> ColumnElement[Any]:
    if by == "day":
        return (ledger.c.at_ns + literal(utc_offset_s * _S_NS, BigInteger)) // literal(_DAY_NS, BigInteger)
    return {
        "user": ledger.c.user_id,
        "key": ledger.c.key_id,
        "team": ledger.c.team_id,
        "model": ledger.c.upstream_model,
        "client": ledger.c.client,
        "session": ledger.c.session,
        "end_user": ledger.c.end_user,
        "payer": _PAYER,
    }[by]


_OWN = ledger.c.credential_id.startswith(OWN_PREFIX, autoescape=True)
_PAYER: ColumnElement[str] = case(
    (_OWN, PaidBy.OWN.value),
    (ledger.c.credential_id.startswith(MANAGED_PREFIX, autoescape=True), PaidBy.ASSIGNED.value),
    else_=PaidBy.SHARED.value,
)
"""As `credentials.paid_by` has it."""


def _sum_of(entries: ColumnElement[bool]) -> ColumnElement[int]:
    """The amounts of these."""
    return func.sum(case((entries, ledger.c.amount_nusd), else_=0))


def _labels(connection: Connection, by: UsageBy, names: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    named = {
        "user": (users.c.user_id, users.c.name),
        "key": (virtual_keys.c.key_id, virtual_keys.c.name),
        "team": (teams.c.team_id, teams.c.name),
    }
    if by in named:
        identity, name = named[by]
        for some in _chunks(names, _CHUNK):
            labels.update(
                (row[0], row[1]) for row in connection.execute(select(identity, name).where(identity.in_(some)))
            )
    return labels


# Counting anew


def recount(connection: Connection) -> int:
    """Set `posted` of every window to the sum of its ledger entries; how many windows were wrong. Reads the whole
    ledger.
    """
    units = {
        row.budget_id: BudgetUnit(row.unit) for row in connection.execute(select(budgets.c.budget_id, budgets.c.unit))
    }
    query = select(budget_windows)
    stored = {(row.budget_id, row.window_start_s): row.posted for row in connection.execute(query)}
    counted = _counted(connection, units)
    connection.execute(delete(budget_windows))
    if counted:
        rows = [
            {"budget_id": window[0], "window_start_s": window[1], "posted": posted}
            for window, posted in counted.items()
        ]
        connection.execute(insert(budget_windows), rows)
    return sum(stored.get(window, 0) != counted.get(window, 0) for window in stored.keys() | counted.keys())


def _counted(connection: Connection, units: dict[str, BudgetUnit]) -> dict[Window, int]:
    sums: Counter[Window] = Counter()
    for row in connection.execute(select(ledger).execution_options(yield_per=1000)):
        adds = {BudgetUnit.USD: row.amount_nusd, BudgetUnit.TOKENS: row.tokens, BudgetUnit.REQUESTS: 1}
        for budget_id, start_s in _windows.decode(row.budgets):
            unit = units.get(budget_id) or unit_of(budget_id)
            if unit is not None:
                sums[budget_id, start_s] += adds[unit]
    return dict(sums)


def _chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, size)):
        yield some
