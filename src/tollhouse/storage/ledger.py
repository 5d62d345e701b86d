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
from typing import Any, Literal, TypeVar

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Connection, case, delete, func, insert, literal, select

from tollhouse.storage.bulk import Insert, own_marks
from tollhouse.storage.database import Database
from tollhouse.storage.requests import MAX_NUMBER, note_requests
from tollhouse.storage.tables import budget_windows, budgets, ledger, users, virtual_keys
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
UsageBy = Literal["user", "key", "model", "client", "day"]
Window = tuple[str, int]
"""Budget id and the start of its window in seconds since 1970 UTC."""

_encode = msgspec.json.Encoder().encode
_windows = msgspec.json.Decoder(tuple[Window, ...])


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One group of a usage report. `estimated_nusd` and `upper_nusd` are parts of `amount_nusd`."""

    group: str
    """User id, key id, model as sent upstream, client, or the day as YYYY-MM-DD."""
    label: str = ""
    """A name for people: of the user or the key, when it has one."""
    calls: int
    input_tokens: int
    """Uncached."""
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    amount_nusd: int
    estimated_nusd: int
    upper_nusd: int


class SqliteLedger:
    """The Ledger port on this process's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ship(self, settlements: Sequence[Settlement], refused: Sequence[Refused]) -> None:
        """As `ship` below, in one transaction of the database's thread. Raises StorageError."""
        await self._database.run(lambda connection: ship(connection, settlements, refused))


def ship(connection: Connection, settlements: Sequence[Settlement], refused: Sequence[Refused] = ()) -> int:
    """Insert what is not there yet, add it to `posted`, note the requests; how many ledger entries were new."""
    billable: dict[str, Settlement] = {}
    for settlement in settlements:
        if settlement.settle.kind is not SettleKind.VOIDED:
            billable.setdefault(settlement.hold.attempt_id, settlement)
    present = _present(connection, billable)
    fresh = [settlement for attempt_id, settlement in billable.items() if attempt_id not in present]
    if fresh:
        _ENTER.write(connection, [_entry(settlement) for settlement in fresh])
        _post(connection, fresh)
    note_requests(connection, settlements, refused)
    return len(fresh)


def _present(connection: Connection, attempt_ids: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for some in _chunks(attempt_ids, _CHUNK):
        found.update(connection.execute(select(ledger.c.attempt_id).where(ledger.c.attempt_id.in_(some))).scalars())
    return found


def _post(connection: Connection, fresh: Sequence[Settlement]) -> None:
    sums: dict[Window, tuple[int, int, int]] = {}
    for settlement in fresh:
        usd, tokens = _adds(settlement)
        for window in settlement.hold.budgets:
            before = sums.get(window, _NOTHING)
            sums[window] = (before[0] + usd, before[1] + tokens, before[2] + 1)
    rows = [(start_s, *added, budget_id) for (budget_id, start_s), added in sums.items()]
    if rows:
        connection.exec_driver_sql(own_marks(connection, _POST), rows)


_NOTHING = (0, 0, 0)
_POST = """
    INSERT INTO budget_windows (budget_id, window_start_s, posted)
    SELECT budget_id, ?, CASE unit WHEN 'usd' THEN ? WHEN 'tokens' THEN ? WHEN 'requests' THEN ? END
    FROM budgets WHERE budget_id = ?
    ON CONFLICT (budget_id, window_start_s) DO UPDATE SET posted = budget_windows.posted + excluded.posted
"""
"""The budget's own row tells its unit; a budget deleted since gets nothing."""


def _adds(settlement: Settlement) -> tuple[int, int]:
    """Nano-USD and tokens."""
    return _bounded(settlement.settle.amount_nusd), _bounded(settlement.settle.tokens)


_COLUMNS = (
    "attempt_id",
    "request_id",
    "at_ns",
    "settled_at_ns",
    "org_id",
    "user_id",
    "key_id",
    "endpoint",
    "provider",
    "requested_model",
    "upstream_model",
    "served_model",
    "kind",
    "amount_nusd",
    "hold_nusd",
    "hold_tokens",
    "tokens",
    "input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "output_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "web_searches",
    "web_fetches",
    "variant",
    "price_version",
    "streamed",
    "client",
    "session",
    "code",
    "budgets",
)
_ENTER = Insert("ledger", _COLUMNS)


def _entry(settlement: Settlement) -> tuple[Any, ...]:
    """Values in the order of _COLUMNS."""
    hold, settle = settlement.hold, settlement.settle
    used = settle.usage
    numbers = (
        settle.amount_nusd,
        hold.hold_nusd,
        hold.hold_tokens,
        settle.tokens,
        used.input_tokens,
        used.cache_write_5m_tokens,
        used.cache_write_1h_tokens,
        used.cache_read_tokens,
        used.output_tokens,
        used.input_audio_tokens,
        used.output_audio_tokens,
        used.web_searches,
        used.web_fetches,
    )
    if max(numbers) > MAX_NUMBER:
        numbers = tuple(map(_bounded, numbers))  # type: ignore[assignment]  # of the same length
    return (
        hold.attempt_id,
        hold.request_id,
        hold.at_ns,
        settle.at_ns,
        hold.org_id,
        hold.user_id,
        hold.key_id,
        hold.endpoint,
        hold.provider,
        hold.requested_model,
        hold.upstream_model,
        settle.served_model,
        settle.kind.value,
        *numbers,
        used.variant or "",
        hold.price_version,
        hold.streamed,
        hold.client,
        hold.session,
        settle.code,
        _encode(hold.budgets).decode(),
    )


def _bounded(number: int) -> int:
    """What fits the column: one absurd number from a provider must not stop every other row."""
    return min(number, MAX_NUMBER)


# Reading


def usage(
    connection: Connection,
    by: UsageBy,
    *,
    since_s: int | None = None,
    until_s: int | None = None,
    user_id: str | None = None,
    key_id: str | None = None,
    limit: int = 100,
    utc_offset_s: int = 0,
) -> tuple[UsageRow, ...]:
    """What was spent in [since_s, until_s), dearest group first; by day: the latest `limit` days, oldest first.

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
        _sum_of(SettleKind.ESTIMATED).label("estimated_nusd"),
        _sum_of(SettleKind.UPPER).label("upper_nusd"),
    ).group_by(group)
    if since_s is not None:
        query = query.where(entry.at_ns >= since_s * _S_NS)
    if until_s is not None:
        query = query.where(entry.at_ns < until_s * _S_NS)
    if user_id is not None:
        query = query.where(entry.user_id == user_id)
    if key_id is not None:
        query = query.where(entry.key_id == key_id)
    query = query.order_by(group.desc() if by == "day" else amount.desc()).limit(max(1, min(limit, MAX_GROUPS)))
    found = connection.execute(query).all()
    labels = _labels(connection, by, [str(row.name) for row in found])
    rows = [_usage_row(dict(row._mapping), by, labels) for row in found]
    return tuple(reversed(rows) if by == "day" else rows)


def _usage_row(found: dict[str, Any], by: UsageBy, labels: dict[str, str]) -> UsageRow:
    name = found.pop("name")
    group = (_EPOCH + timedelta(days=name)).isoformat() if by == "day" else name
    return UsageRow(group=group, label=labels.get(group, ""), **found)


def _group(by: UsageBy, utc_offset_s: int) -> ColumnElement[Any]:
    if by == "day":
        return (ledger.c.at_ns + literal(utc_offset_s * _S_NS, BigInteger)) // literal(_DAY_NS, BigInteger)
    return {
        "user": ledger.c.user_id,
        "key": ledger.c.key_id,
        "model": ledger.c.upstream_model,
        "client": ledger.c.client,
    }[by]


def _sum_of(kind: SettleKind) -> ColumnElement[int]:
    return func.sum(case((ledger.c.kind == kind.value, ledger.c.amount_nusd), else_=0))


def _labels(connection: Connection, by: UsageBy, names: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    if by in ("user", "key"):
        identity, name = (
            (users.c.user_id, users.c.name) if by == "user" else (virtual_keys.c.key_id, virtual_keys.c.name)
        )
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
    return sum(stored.get(window) != counted.get(window) for window in stored.keys() | counted.keys())


def _counted(connection: Connection, units: dict[str, BudgetUnit]) -> dict[Window, int]:
    sums: Counter[Window] = Counter()
    for row in connection.execute(select(ledger).execution_options(yield_per=1000)):
        adds = {BudgetUnit.USD: row.amount_nusd, BudgetUnit.TOKENS: row.tokens, BudgetUnit.REQUESTS: 1}
        for budget_id, start_s in _windows.decode(row.budgets):
            if budget_id in units:
                sums[budget_id, start_s] += adds[units[budget_id]]
    return dict(sums)


def _chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, size)):
        yield some
