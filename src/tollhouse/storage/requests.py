"""The request log: one row per request, refused ones too.

What cost something is in the ledger, and only there: every call is written once. The table `requests` has the rest,
and only that may be pruned. A request of several attempts is one row: it tells of the latest attempt, and its amount
is the sum over all. (So of two rows of one request, in whichever tables, the one of the later attempt stands for it.)
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, get_args

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Table, delete, exists, func, select, text, tuple_

from tollhouse.rules.tenants import EVERYBODY, Tenants
from tollhouse.storage.bulk import Bulk, without_nul
from tollhouse.storage.filters import whose
from tollhouse.storage.tables import ledger, requests
from tollhouse.terms.credentials import OWN_PREFIX
from tollhouse.terms.events import HoldRecord, Refused, SettleKind, Settlement
from tollhouse.terms.usage import Usage

MAX_PAGE = 1000
"""Most rows of one page, whatever is asked for."""
PRUNE_ROWS = 10_000
"""Most rows one call of `prune` deletes, so that nothing else waits long."""

MAX_NUMBER = 2**53
"""Largest amount or count of one row (about nine million USD): a thousand absurd answers still sum up in 64 bits."""

HolderKind = Literal["team", "user", "key"]
"""Who has limits."""
HOLDER_KINDS: Final[tuple[HolderKind, ...]] = get_args(HolderKind)

_DAY_NS = 86_400 * 10**9
MAX_TIME_NS = 2**63 - 1
"""What a column holds: until the year 2262."""


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it is looked up: `GET /v1/requests/{id}` and the log."""

    request_id: str
    attempts: int
    """0: no hold was ever taken (refused, malformed or free of charge)."""
    at_ns: int
    """When its latest attempt was admitted, or it was refused."""
    org_id: str
    user_id: str
    key_id: str
    endpoint: str
    provider: str
    requested_model: str
    upstream_model: str
    served_model: str
    status: int
    code: str
    """Empty when all went well."""
    kind: str
    """How the amount is known (SettleKind); empty when `attempts` is 0."""
    amount_nusd: int
    hold_nusd: int
    max_output_tokens: int
    usage: Usage
    price_version: str
    streamed: bool
    duration_us: int
    first_byte_us: int
    response_bytes: int
    client: str
    session: str
    upstream_request_id: str
    team_id: str
    credential_id: str
    """The stored credential it was sent with; empty: the shared one."""
    end_user: str


def note_requests(connection: Connection, voided: Sequence[Settlement], refused: Sequence[Refused]) -> None:
    """Insert or advance the rows of requests that cost nothing; repeating is harmless."""
    # One row a request: PostgreSQL does not let a statement change a row twice.
    latest = {one.hold.request_id: one for one in sorted(voided, key=lambda one: attempt_number(one.hold))}
    _NOTE.write(connection, list(latest.values()), _of_voided)
    _NOTE.write(connection, list({one.request_id: one for one in refused}.values()), _of_refused)


def get_request(connection: Connection, request_id: str) -> RequestRow | None:
    """The request of this id, if it is still in the log."""
    entries = connection.execute(select(ledger).where(_attempts_of([request_id])))
    notes = connection.execute(select(requests).where(requests.c.request_id == request_id))
    latest = max([*map(_entered, entries), *map(_noted, notes)], key=lambda row: row.attempts, default=None)
    return None if latest is None else _summed(connection, [latest])[0]


def list_requests(
    connection: Connection,
    *,
    user_id: str | None = None,
    key_id: str | None = None,
    team_id: str | None = None,
    tenants: Tenants = EVERYBODY,
    session: str | None = None,
    end_user: str | None = None,
    failed: bool | None = None,
    cursor: str = "",
    limit: int = 100,
) -> tuple[RequestRow, ...]:
    """At most `limit` requests of these tenants, newest first, after `cursor` (see `cursor_after`). `failed`: only
    those with (without) a code.

    Raises ValueError for a cursor that `cursor_after` did not make.
    """
    limit = max(1, min(limit, MAX_PAGE))
    before = _place(cursor)
    found: list[Iterable[RequestRow]] = []
    for table, latest, read in ((ledger, _LATEST_ENTRY, _entered), (requests, _LATEST_NOTE, _noted)):
        place = tuple_(table.c.at_ns, table.c.request_id)
        of = whose(connection, table, user_id=user_id, key_id=key_id, team_id=team_id, tenants=tenants)
        named = ((table.c.session, session), (table.c.end_user, end_user))
        query = select(table).where(latest, *of, *(column == name for column, name in named if name is not None))
        if failed is not None:
            query = query.where(table.c.code != "" if failed else table.c.code == "")
        if before is not None:
            query = query.where(table.c.at_ns <= before[0], place < before)
        query = query.order_by(table.c.at_ns.desc(), table.c.request_id.desc()).limit(limit)
        found.append(map(read, connection.execute(query)))
    newest = heapq.merge(*found, key=lambda row: (row.at_ns, row.request_id), reverse=True)
    return tuple(_summed(connection, list(newest)[:limit]))


def cursor_after(row: RequestRow) -> str:
    """Where the page after this row begins."""
    return f"{row.at_ns}:{row.request_id}"


def _place(cursor: str) -> tuple[int, str] | None:
    if not cursor:
        return None
    at_ns, _, request_id = cursor.partition(":")
    if not at_ns.isascii() or not at_ns.isdigit() or not request_id or int(at_ns) > MAX_TIME_NS:
        raise ValueError(f"not a cursor of this list: {cursor!r}")
    return int(at_ns), request_id


def count_admitted(connection: Connection, by: HolderKind, *, since_ns: int, own_only: bool = False) -> dict[str, int]:
    """How many calls of each user, key or team took their place in a limit since then: what a limit per day or month
    counts. `own_only`: of those that the user's own provider key paid.
    """
    counts: Counter[str] = Counter()

    def count(table: Table, *conditions: ColumnElement[bool]) -> None:
        group = table.c[f"{by}_id"]
        if own_only:
            conditions = (*conditions, table.c.credential_id.startswith(OWN_PREFIX, autoescape=True))
        query = select(group, func.count()).where(table.c.at_ns >= since_ns, *conditions).group_by(group)
        counts.update({row[0]: row[1] for row in connection.execute(query)})

    count(ledger, _LATEST_ENTRY)
    count(requests, requests.c.kind != "", _LATEST_NOTE)
    return counts


def prune(connection: Connection, *, keep_rows: int, keep_days: int, now_ns: int) -> int:
    """Delete the oldest rows of `requests` beyond `keep_rows` or older than `keep_days`, at most PRUNE_ROWS a call; how
    many went. Entries of the ledger are never deleted.
    """
    excess = connection.execute(select(func.count()).select_from(requests)).scalar_one() - keep_rows
    oldest = select(requests.c.request_id).order_by(requests.c.at_ns)
    gone = 0
    if excess > 0:
        chosen = oldest.limit(min(excess, PRUNE_ROWS)).scalar_subquery()
        gone += connection.execute(delete(requests).where(requests.c.request_id.in_(chosen))).rowcount
    if gone < PRUNE_ROWS:
        aged = oldest.where(requests.c.at_ns < now_ns - keep_days * _DAY_NS).limit(PRUNE_ROWS - gone).scalar_subquery()
        gone += connection.execute(delete(requests).where(requests.c.request_id.in_(aged))).rowcount
    return gone


# Several attempts


def attempt_number(hold: HoldRecord) -> int:
    """Which attempt of its request this is, from 1. Request and number stand for the attempt's id in the ledger, so
    they must make it up: raises ValueError when they do not.
    """
    attempt_id, request_id = hold.attempt_id, hold.request_id
    if attempt_id == request_id + "-1":
        return 1
    number = int(attempt_id.rpartition("-")[2])
    if attempt_id != f"{request_id}-{number}":
        raise ValueError(f"{attempt_id} is no attempt of {request_id}")
    return number


_later = ledger.alias("later")
_FURTHER_LATER = text("later.attempt > 1")
"""In so many words, or SQLite does not see that the small index over further attempts will do."""

_LATEST_ENTRY = ~exists().where(
    _later.c.request_id == ledger.c.request_id, _FURTHER_LATER, _later.c.attempt > ledger.c.attempt
) & ~exists().where(requests.c.request_id == ledger.c.request_id, requests.c.attempts > ledger.c.attempt)
_LATEST_NOTE = ~exists().where(
    _later.c.request_id == requests.c.request_id, _FURTHER_LATER, _later.c.attempt > requests.c.attempts
)


def _attempts_of(request_ids: Sequence[str]) -> ColumnElement[bool]:
    """Entries of these requests."""
    return ledger.c.request_id.in_(request_ids)


def _summed(connection: Connection, rows: list[RequestRow]) -> list[RequestRow]:
    """The same, with the amounts of all attempts."""
    several = [row.request_id for row in rows if row.attempts > 1]
    if not several:
        return rows
    amount = func.sum(ledger.c.amount_nusd)
    query = select(ledger.c.request_id, amount).where(_attempts_of(several)).group_by(ledger.c.request_id)
    sums = {request_id: int(total) for request_id, total in connection.execute(query)}
    replace = msgspec.structs.replace
    return [replace(row, amount_nusd=sums.get(row.request_id, row.amount_nusd)) for row in rows]


# Rows


_COLUMNS = tuple(column.name for column in requests.columns)
_NOTE = Bulk.insert(
    tuple(requests.columns),
    "ON CONFLICT (request_id) DO UPDATE SET "
    + ", ".join(f'"{name}" = excluded."{name}"' for name in _COLUMNS if name != "request_id")
    + " WHERE excluded.attempts > requests.attempts",
)
"""A later attempt replaces what an earlier one said; what is known already changes nothing."""


def _of_voided(settlement: Settlement) -> tuple[Any, ...]:
    """Values in the order of _COLUMNS."""
    hold, settle = settlement.hold, settlement.settle
    return (
        hold.request_id,
        attempt_number(hold),
        hold.at_ns,
        hold.org_id,
        hold.user_id,
        hold.key_id,
        hold.endpoint,
        hold.provider,
        hold.requested_model,
        hold.upstream_model,
        without_nul(settle.served_model),
        settle.status,
        settle.code,
        settle.kind.value,
        min(hold.hold_nusd, MAX_NUMBER),
        min(hold.max_output_tokens, MAX_NUMBER),
        hold.price_version,
        int(hold.streamed),
        settle.duration_us,
        settle.first_byte_us,
        settle.response_bytes,
        hold.client,
        without_nul(hold.session),
        settle.upstream_request_id,
        hold.team_id,
        hold.credential_id,
        without_nul(hold.end_user),
    )


def _of_refused(refused: Refused) -> tuple[Any, ...]:
    row = _REFUSED | msgspec.structs.asdict(refused)
    row["end_user"] = without_nul(refused.end_user)
    if refused.attempts:
        row["kind"] = SettleKind.VOIDED.value  # as those before it, which took their place in limits
    return tuple(row[name] for name in _COLUMNS)


_REFUSED: dict[str, Any] = {
    "attempts": 0,
    "upstream_model": "",
    "served_model": "",
    "kind": "",
    "hold_nusd": 0,
    "max_output_tokens": 0,
    "price_version": "",
    "streamed": 0,
    "first_byte_us": 0,
    "response_bytes": 0,
    "session": "",
    "upstream_request_id": "",
}


def _noted(row: Row[Any]) -> RequestRow:
    found = {**row._mapping, "streamed": bool(row.streamed)}
    return RequestRow(**found, amount_nusd=0, usage=Usage())


_COUNTS = tuple(name for name in Usage.__struct_fields__ if name != "variant")


def _entered(row: Row[Any]) -> RequestRow:
    found = row._mapping
    used = Usage(**{name: found[name] for name in _COUNTS}, variant=row.variant or None)
    same = {name: found[name] for name in RequestRow.__struct_fields__ if name not in ("attempts", "streamed", "usage")}
    return RequestRow(**same, attempts=row.attempt, streamed=bool(row.streamed), usage=used)
