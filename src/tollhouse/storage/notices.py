"""Notices and their deliveries: plain functions of a Connection, as in `directory`.

A notice and what is owed of it to webhooks are written in one transaction; from then on it is delivered, whatever
happens to this process, at least once and always under the same id.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Column, Connection, Row, delete, func, insert, select, update

from tollhouse.storage.notice_tables import deliveries, notices
from tollhouse.storage.rows import MAX_PAGE, decode_mapping, encode
from tollhouse.storage.webhooks import all_webhooks
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.terms.webhooks import Delivery, DeliveryState, RecordedNotice, Webhook, wants

PRUNE_ROWS: Final = 5_000
"""Most rows one call of `prune` deletes of each table, so that nothing else waits long."""
ONCE_DAYS: Final = 400
"""How long it is remembered that something was told once: longer than any window of a budget that ends."""
MAX_ERROR_CHARS: Final = 300
_CHUNK: Final = 500
_DAY_NS: Final = 86_400 * 10**9
_PENDING, _DELIVERED, _DEAD = (state.value for state in DeliveryState)


class Owed(msgspec.Struct, frozen=True):
    """One delivery that is due, with what it says."""

    delivery: Delivery
    recorded: RecordedNotice


def record(
    connection: Connection, found: Sequence[RecordedNotice], declared: Iterable[Webhook], *, max_pending: int
) -> list[RecordedNotice]:
    """Write down what is not told yet, and what is owed of it to every webhook that wants it: those stored, and the
    `declared` ones. A webhook that already waits for `max_pending` is owed no more. The answer is what was new: to do
    it again, because nobody knows whether it was committed, is harmless.
    """
    told = _told(connection, [one.notice.once for one in found if one.notice.once])
    there = _there(connection, [one.notice_id for one in found])
    fresh = []
    for one in found:
        if one.notice_id in there or (one.notice.once and one.notice.once in told):
            continue
        told.add(one.notice.once)
        fresh.append(one)
    if not fresh:
        return []
    connection.execute(insert(notices), [_notice_row(one) for one in fresh])
    hooks = [hook for hook in (*all_webhooks(connection), *declared) if hook.on]
    rows = []
    for hook in hooks:
        room = max_pending - pending(connection, hook.webhook_id)
        rows += [_owed_row(hook.webhook_id, one) for one in fresh if wants(hook.kinds, one.notice.kind)][: max(room, 0)]
    if rows:
        connection.execute(insert(deliveries), rows)
    return fresh


def record_test(connection: Connection, one: RecordedNotice, webhook_id: str) -> None:
    """A notice that is owed to this webhook alone."""
    connection.execute(insert(notices).values(_notice_row(one)))
    connection.execute(insert(deliveries).values(_owed_row(webhook_id, one)))


def _told(connection: Connection, names: Sequence[str]) -> set[str]:
    return _those(connection, notices.c.once, names)


def _there(connection: Connection, notice_ids: Sequence[str]) -> set[str]:
    return _those(connection, notices.c.notice_id, notice_ids)


def _those(connection: Connection, column: Column[Any], values: Sequence[str]) -> set[str]:
    """The values that this column has."""
    found: set[str] = set()
    for start in range(0, len(values), _CHUNK):
        query = select(column).where(column.in_(values[start : start + _CHUNK]))
        found.update(str(value) for value in connection.execute(query).scalars())
    return found


def untold(connection: Connection, names: Sequence[str]) -> set[str]:
    """Those of these `once` names that nothing was told under."""
    return set(names) - _told(connection, names)


def pending(connection: Connection, webhook_id: str) -> int:
    waiting = deliveries.c.webhook_id == webhook_id, deliveries.c.state == _PENDING
    return connection.execute(select(func.count()).select_from(deliveries).where(*waiting)).scalar_one()


# Delivering


def due(connection: Connection, webhook_id: str, *, now_ns: int, limit: int) -> list[Owed]:
    """What is to be sent to a webhook now, oldest first."""
    query = (
        select(deliveries, *(notices.c[name].label(f"told_{name}") for name in ("subject", "text", "data", "at_ns")))
        .join(notices, notices.c.notice_id == deliveries.c.notice_id)
        .where(deliveries.c.webhook_id == webhook_id, deliveries.c.state == _PENDING, deliveries.c.next_at_ns <= now_ns)
        .order_by(deliveries.c.next_at_ns, deliveries.c.notice_id)
        .limit(limit)
    )
    return [Owed(_delivery(row), _recorded_of(row)) for row in connection.execute(query)]


def next_due_ns(connection: Connection, webhook_id: str) -> int | None:
    """When something is to be sent to a webhook next; None when nothing is."""
    query = select(func.min(deliveries.c.next_at_ns)).where(
        deliveries.c.webhook_id == webhook_id, deliveries.c.state == _PENDING
    )
    found: int | None = connection.execute(query).scalar()
    return found


def put_outcome(connection: Connection, delivery: Delivery) -> None:
    """How far a delivery has come now."""
    connection.execute(
        update(deliveries)
        .where(deliveries.c.webhook_id == delivery.webhook_id, deliveries.c.notice_id == delivery.notice_id)
        .values(
            state=delivery.state.value,
            attempts=delivery.attempts,
            next_at_ns=delivery.next_at_ns,
            ended_at_ns=delivery.ended_at_ns,
            status=delivery.status,
            error=delivery.error[:MAX_ERROR_CHARS],
        )
    )


def give_up(connection: Connection, webhook_id: str, *, now_ns: int, error: str) -> int:
    """Everything that is owed to a webhook is dead; how much that was."""
    owed = deliveries.c.webhook_id == webhook_id, deliveries.c.state == _PENDING
    values = {"state": _DEAD, "ended_at_ns": now_ns, "error": error[:MAX_ERROR_CHARS]}
    return connection.execute(update(deliveries).where(*owed).values(values)).rowcount


def count_by_state(connection: Connection) -> dict[str, int]:
    """Pending and dead deliveries, for metrics."""
    query = select(deliveries.c.state, func.count()).where(deliveries.c.state != _DELIVERED)
    return {row[0]: row[1] for row in connection.execute(query.group_by(deliveries.c.state))}


# Looking


def list_notices(
    connection: Connection, *, kind: str | None = None, cursor: str = "", limit: int = 100
) -> tuple[RecordedNotice, ...]:
    """At most `limit`, newest first, older than `cursor`. `kind` is a kind, or what several begin with (`budget.`)."""
    query = select(notices)
    if cursor:
        query = query.where(notices.c.notice_id < cursor)
    if kind:
        query = query.where(notices.c.kind.startswith(kind, autoescape=True))
    query = query.order_by(notices.c.notice_id.desc()).limit(max(1, min(limit, MAX_PAGE)))
    return tuple(map(_recorded, connection.execute(query)))


def list_deliveries(
    connection: Connection, webhook_id: str, *, state: str | None = None, cursor: str = "", limit: int = 100
) -> tuple[Delivery, ...]:
    """At most `limit` of a webhook, newest first, older than `cursor`."""
    query = select(deliveries).where(deliveries.c.webhook_id == webhook_id)
    if cursor:
        query = query.where(deliveries.c.notice_id < cursor)
    if state:
        query = query.where(deliveries.c.state == state)
    query = query.order_by(deliveries.c.notice_id.desc()).limit(max(1, min(limit, MAX_PAGE)))
    return tuple(map(_delivery, connection.execute(query)))


def get_delivery(connection: Connection, webhook_id: str, notice_id: str) -> Delivery | None:
    here = deliveries.c.webhook_id == webhook_id, deliveries.c.notice_id == notice_id
    row = connection.execute(select(deliveries).where(*here)).one_or_none()
    return None if row is None else _delivery(row)


# Bounds


def prune(connection: Connection, *, keep_days: int, keep_rows: int, now_ns: int) -> int:
    """Forget what is older than `keep_days` or beyond `keep_rows`, and deliveries with their notices; how much went.
    What was told once is remembered for ONCE_DAYS.
    """
    oldest = select(notices.c.notice_id).order_by(notices.c.notice_id)
    excess = connection.execute(select(func.count()).select_from(notices)).scalar_one() - keep_rows
    aged = (notices.c.at_ns < now_ns - keep_days * _DAY_NS) & (
        notices.c.once.is_(None) | (notices.c.at_ns < now_ns - max(keep_days, ONCE_DAYS) * _DAY_NS)
    )
    chosen = list(connection.execute(oldest.where(aged).limit(PRUNE_ROWS)).scalars())
    if excess > len(chosen):
        chosen += connection.execute(oldest.limit(min(excess, PRUNE_ROWS))).scalars()
    gone = 0
    for start in range(0, len(chosen), _CHUNK):
        some = chosen[start : start + _CHUNK]
        connection.execute(delete(deliveries).where(deliveries.c.notice_id.in_(some)))
        gone += connection.execute(delete(notices).where(notices.c.notice_id.in_(some))).rowcount
    return gone


# Rows


def _notice_row(one: RecordedNotice) -> dict[str, Any]:
    notice = one.notice
    return {
        "notice_id": one.notice_id,
        "kind": notice.kind.value,
        "subject": _storable(notice.subject),
        "text": _storable(notice.text),
        "data": encode({name: _storable(fact) for name, fact in notice.data.items()}),
        "once": notice.once or None,
        "at_ns": notice.at_ns,
    }


def _storable(fact: Any) -> Any:
    """A text as every database can store it: without U+0000 and lone surrogates. Names that people chose stand in it,
    and none of them may keep others from being told.
    """
    if not isinstance(fact, str):
        return fact
    return fact.replace("\0", "?").encode("utf-8", "replace").decode()


def _owed_row(webhook_id: str, one: RecordedNotice) -> dict[str, Any]:
    at_ns = one.notice.at_ns
    return {
        "webhook_id": webhook_id,
        "notice_id": one.notice_id,
        "kind": one.notice.kind.value,
        "state": _PENDING,
        "attempts": 0,
        "created_at_ns": at_ns,
        "next_at_ns": at_ns,
        "ended_at_ns": None,
        "status": 0,
        "error": "",
    }


def _recorded(row: Row[Any]) -> RecordedNotice:
    notice = Notice(
        NoticeKind(row.kind), row.subject, row.text, decode_mapping(row.data), once=row.once or "", at_ns=row.at_ns
    )
    return RecordedNotice(row.notice_id, notice)


def _recorded_of(row: Row[Any]) -> RecordedNotice:
    data = decode_mapping(row.told_data)
    return RecordedNotice(
        row.notice_id, Notice(NoticeKind(row.kind), row.told_subject, row.told_text, data, at_ns=row.told_at_ns)
    )


def _delivery(row: Row[Any]) -> Delivery:
    found = {name: getattr(row, name) for name in Delivery.__struct_fields__}
    return Delivery(**{**found, "state": DeliveryState(row.state)})
