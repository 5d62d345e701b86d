"""The request log: one row per request, refused ones too.

A row tells of the request's latest attempt; its amount is the sum over its attempts. The ledger is the authority of
money, this is for looking things up: it may be pruned, and pruning changes no budget.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, select, tuple_

from tollhouse.storage.bulk import Insert
from tollhouse.storage.tables import requests
from tollhouse.terms.events import Refused, SettleKind, Settlement
from tollhouse.terms.usage import Usage

MAX_PAGE = 1000
"""Most rows of one page, whatever is asked for."""
PRUNE_ROWS = 10_000
"""Most rows one call of `prune` deletes, so that nothing else waits long."""

MAX_NUMBER = 2**53
"""Largest amount or count of one row (about nine million USD): a thousand absurd answers still sum up in 64 bits."""

_DAY_NS = 86_400 * 10**9
_encode = msgspec.json.Encoder().encode
_usage = msgspec.json.Decoder(Usage)
_NO_USAGE = _encode(Usage()).decode()


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it is looked up: `GET /v1/requests/{id}` and the log."""

    request_id: str
    attempts: int
    """0: no hold was ever taken (refused, malformed or free of charge)."""
    at_ns: int
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


def note_requests(connection: Connection, settlements: Sequence[Settlement], refused: Sequence[Refused]) -> None:
    """Insert or advance the rows of these requests; repeating is harmless."""
    rows = [_of_settlement(settlement) for settlement in settlements]
    if any(row[1] > 1 for row in rows):
        rows.sort(key=itemgetter(1))
    rows.extend(map(_of_refused, refused))
    _NOTE.write(connection, rows)


def get_request(connection: Connection, request_id: str) -> RequestRow | None:
    """The request of this id, if it is still in the log."""
    row = connection.execute(select(requests).where(requests.c.request_id == request_id)).one_or_none()
    return None if row is None else _row(row)


def list_requests(
    connection: Connection,
    *,
    user_id: str | None = None,
    key_id: str | None = None,
    failed: bool | None = None,
    cursor: str = "",
    limit: int = 100,
) -> tuple[RequestRow, ...]:
    """At most `limit` requests, newest first, after `cursor` (see `cursor_after`). `failed`: only those with
    (without) a code.

    Raises ValueError for a cursor that `cursor_after` did not make.
    """
    query = select(requests)
    if user_id is not None:
        query = query.where(requests.c.user_id == user_id)
    if key_id is not None:
        query = query.where(requests.c.key_id == key_id)
    if failed is not None:
        query = query.where(requests.c.code != "" if failed else requests.c.code == "")
    place = tuple_(requests.c.at_ns, requests.c.request_id)
    if cursor:
        at_ns, _, request_id = cursor.partition(":")
        if not at_ns.isascii() or not at_ns.isdigit() or not request_id:
            raise ValueError(f"not a cursor of this list: {cursor!r}")
        query = query.where(requests.c.at_ns <= int(at_ns), place < (int(at_ns), request_id))
    query = query.order_by(requests.c.at_ns.desc(), requests.c.request_id.desc())
    return tuple(map(_row, connection.execute(query.limit(max(1, min(limit, MAX_PAGE))))))


def cursor_after(row: RequestRow) -> str:
    """Where the page after this row begins."""
    return f"{row.at_ns}:{row.request_id}"


def count_admitted(
    connection: Connection, *, since_ns: int, user_id: str | None = None, key_id: str | None = None
) -> int:
    """How many calls of a user or key took their place in a limit since then: what a limit per day or month counts."""
    query = select(func.count()).select_from(requests).where(requests.c.at_ns >= since_ns, requests.c.kind != "")
    if user_id is not None:
        query = query.where(requests.c.user_id == user_id)
    if key_id is not None:
        query = query.where(requests.c.key_id == key_id)
    return connection.execute(query).scalar_one()


def prune(connection: Connection, *, keep_rows: int, keep_days: int, now_ns: int) -> int:
    """Delete the oldest rows beyond `keep_rows` or older than `keep_days`, at most PRUNE_ROWS a call; how many went."""
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


_COLUMNS = (
    "request_id",
    "attempts",
    "at_ns",
    "org_id",
    "user_id",
    "key_id",
    "endpoint",
    "provider",
    "requested_model",
    "upstream_model",
    "served_model",
    "status",
    "code",
    "kind",
    "amount_nusd",
    "hold_nusd",
    "max_output_tokens",
    "usage",
    "price_version",
    "streamed",
    "duration_us",
    "first_byte_us",
    "response_bytes",
    "client",
    "session",
    "upstream_request_id",
)
_KEPT = ("request_id", "at_ns", "amount_nusd")
_NOTE = Insert(
    "requests",
    _COLUMNS,
    "ON CONFLICT (request_id) DO UPDATE SET "
    + ", ".join(f'"{name}" = excluded."{name}"' for name in _COLUMNS if name not in _KEPT)
    + ", amount_nusd = requests.amount_nusd + excluded.amount_nusd WHERE excluded.attempts > requests.attempts",
)
"""A later attempt replaces what an earlier one said and adds its amount; what is known already changes nothing."""


def _attempt_number(settlement: Settlement) -> int:
    number = settlement.hold.attempt_id.rpartition("-")[2]
    return int(number) if number.isdecimal() else 1


def _of_settlement(settlement: Settlement) -> tuple[Any, ...]:
    """Values in the order of _COLUMNS."""
    hold, settle = settlement.hold, settlement.settle
    return (
        hold.request_id,
        _attempt_number(settlement),
        hold.at_ns,
        hold.org_id,
        hold.user_id,
        hold.key_id,
        hold.endpoint,
        hold.provider,
        hold.requested_model,
        hold.upstream_model,
        settle.served_model,
        settle.status,
        settle.code,
        settle.kind.value,
        0 if settle.kind is SettleKind.VOIDED else min(settle.amount_nusd, MAX_NUMBER),
        min(hold.hold_nusd, MAX_NUMBER),
        min(hold.max_output_tokens, MAX_NUMBER),
        _encode(settle.usage).decode(),
        hold.price_version,
        hold.streamed,
        settle.duration_us,
        settle.first_byte_us,
        settle.response_bytes,
        hold.client,
        hold.session,
        settle.upstream_request_id,
    )


def _of_refused(refused: Refused) -> tuple[Any, ...]:
    row = _REFUSED | msgspec.structs.asdict(refused)
    return tuple(row[name] for name in _COLUMNS)


_REFUSED: dict[str, Any] = {
    "attempts": 0,
    "upstream_model": "",
    "served_model": "",
    "kind": "",
    "amount_nusd": 0,
    "hold_nusd": 0,
    "max_output_tokens": 0,
    "usage": _NO_USAGE,
    "price_version": "",
    "streamed": False,
    "first_byte_us": 0,
    "response_bytes": 0,
    "session": "",
    "upstream_request_id": "",
}


def _row(row: Row[Any]) -> RequestRow:
    return RequestRow(**{**row._mapping, "usage": _usage.decode(row.usage)})
