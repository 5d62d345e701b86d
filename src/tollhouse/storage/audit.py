"""The audit trail as it is read and verified: plain functions of a Connection, each of a bounded part of it."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, func, or_, select

from tollhouse.rules import audit as rules
from tollhouse.rules.audit import GENESIS, Verifier
from tollhouse.storage.audit_tables import audit, audit_subjects
from tollhouse.terms.audit import AuditFault, AuditRecord, AuditSubject, Head

MAX_FAULTS = 100
"""Faults of one part that are told one by one."""
_AT_ONCE = 500
_BEFORE_ALL = -(1 << 63)
_column = audit.c
_subject = audit_subjects.c


class Part(msgspec.Struct, frozen=True):
    """What was found in a part of the trail. `next` is where the next part begins; None at the end."""

    records: int
    faults: tuple[AuditFault, ...]
    head: Head
    next: Head | None


def list_records(
    connection: Connection,
    *,
    actor: str | None = None,
    thing: str | None = None,
    action: str | None = None,
    act: str | None = None,
    kind: str | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    after: int | None = None,
    oldest_first: bool = False,
    limit: int = 100,
) -> tuple[AuditRecord, ...]:
    """Some records, newest first, from before (else after) the number `after`. `actor`, `thing`: an id as people write
    it; an actor may also be a kind of actor.
    """
    where: list[ColumnElement[bool]] = []
    if actor is not None:
        who = _column.actor.in_(_mentions_of(connection, actor))
        where.append(or_(who, _column.actor_kind == actor) if actor in ACTOR_KINDS else who)
    if thing is not None:
        where.append(_column.object.in_(_mentions_of(connection, thing)))
    words = ((_column.action, action), (_column.act, act), (_column.kind, kind))
    where += [of == value for of, value in words if value is not None]
    if since_ns is not None:
        where.append(_column.at_ns >= since_ns)
    if until_ns is not None:
        where.append(_column.at_ns < until_ns)
    if after is not None:
        where.append(_column.seq > after if oldest_first else _column.seq < after)
    query = select(audit).where(*where).order_by(_column.seq if oldest_first else _column.seq.desc()).limit(limit)
    return tuple(map(_record, connection.execute(query)))


ACTOR_KINDS = frozenset(("operator", "nobody", "house"))
"""Those without a name."""


def subjects_of(connection: Connection, records: Iterable[AuditRecord]) -> dict[int, AuditSubject]:
    """What is beside the chain about those whom some records mention."""
    return _subjects(connection, {ref for record in records for ref, _ in _readable(record)})


def verify_part(connection: Connection, key: bytes, after: Head, limit: int) -> Part:
    """Hold the next `limit` records to the chain, of which `after` is known to be a part (GENESIS: from the start)."""
    faults: list[AuditFault] = []
    marks = 0
    if after.seq > 0:
        found = connection.execute(select(audit).where(_column.seq == after.seq)).one_or_none()
        if found is None or bytes(found.hash) != after.hash:
            what = "is not there" if found is None else "is another one"
            fault = AuditFault(after.seq, f"record {after.seq}, from which on to verify, {what}")
            return Part(0, (fault,), after, None)
        marks = found.subjects
    verifier = Verifier(key, after, marks)
    begin = after.seq if after.seq > 0 else _BEFORE_ALL
    query = select(audit).where(_column.seq > begin).order_by(_column.seq).limit(limit + 1)
    rows = [_record(row) for row in connection.execute(query)]
    records, is_last = rows[:limit], len(rows) <= limit
    brought = range(marks + 1, max((record.subjects for record in records), default=marks) + 1)
    mentioned = {ref for record in records for ref, _ in _readable(record)}
    mentioned |= set(brought if len(brought) <= _MOST_BROUGHT * limit else ())
    subjects = _subjects(connection, mentioned)
    erasures = _erasures(connection, subjects.values())
    for record in records:
        faults += verifier.check(record, subjects, lambda seq: erasures.get(seq, ""))
    if is_last:
        faults += _beyond(connection, verifier.head, verifier.marks)
    return Part(len(records), tuple(faults), verifier.head, None if is_last else verifier.head)


_MOST_BROUGHT = 1_000
"""References that one record brings along at most, on the average of a part: no number that somebody wrote into a
record makes us look for more.
"""


def head_fault(connection: Connection, head: Head, whose: str) -> AuditFault | None:
    """What is wrong when the trail should hold a record; None when it does."""
    if head == GENESIS:
        return None
    found = connection.execute(select(_column.hash).where(_column.seq == head.seq)).scalar_one_or_none()
    if found is None:
        last = connection.execute(select(func.max(_column.seq))).scalar_one_or_none() or 0
        return AuditFault(last, f"{whose} says that there is a record {head.seq}; the trail ends with {last}: cut off")
    if bytes(found) != head.hash:
        return AuditFault(head.seq, f"record {head.seq} is not the one that {whose} says: the trail was written anew")
    return None


def _beyond(connection: Connection, head: Head, marks: int) -> list[AuditFault]:
    """References that no record brought."""
    query = select(_subject.ref).where(or_(_subject.ref > marks, _subject.ref < 1)).order_by(_subject.ref)
    return [
        AuditFault(head.seq, f"reference {ref} was inserted: no record brought it")
        for ref in connection.scalars(query.limit(MAX_FAULTS))
    ]


def _erasures(connection: Connection, subjects: Iterable[AuditSubject]) -> dict[int, str]:
    """By number of a record that erased: which references."""
    seqs = sorted({subject.erased for subject in subjects if not subject.salt})
    found = {}
    for at in range(0, len(seqs), _AT_ONCE):
        query = select(audit).where(_column.seq.in_(seqs[at : at + _AT_ONCE]), _column.act == rules.ERASED)
        for record in map(_record, connection.execute(query)):
            try:
                found[record.seq] = str(rules.changes_of(record)[0][2]["is"])
            except (IndexError, KeyError, TypeError, msgspec.MsgspecError):
                continue  # it does not fit the chain: found when it is its turn
    return found


def _subjects(connection: Connection, refs: Iterable[int]) -> dict[int, AuditSubject]:
    wanted, found = sorted(refs), {}
    for at in range(0, len(wanted), _AT_ONCE):
        for row in connection.execute(select(audit_subjects).where(_subject.ref.in_(wanted[at : at + _AT_ONCE]))):
            found[row.ref] = _subject_of(row)
    return found


def _mentions_of(connection: Connection, name: str) -> Sequence[str]:
    """All by which a name stands in the trail: as it is, and as somebody's id."""
    query = select(audit_subjects).where(_subject.lookup == rules.lookup("user", name, name))
    found = [_subject_of(row) for row in connection.execute(query)]
    return [
        rules.plain(name),
        *(rules.mention(one.ref, rules.commitment(one.salt, one.what, one.about, one.value)) for one in found),
    ]


def _readable(record: AuditRecord) -> list[tuple[int, str]]:
    """What a record mentions; nothing of one that somebody made unreadable, which then does not fit either."""
    try:
        return [(ref, committed) for ref, committed in rules.mentions(record) if 0 < ref < 1 << 62]
    except (KeyError, TypeError, ValueError):
        return []


def _record(row: Row[Any]) -> AuditRecord:
    return AuditRecord(**{**row._mapping, "hash": bytes(row.hash)})


def _subject_of(row: Row[Any]) -> AuditSubject:
    fields = {**row._mapping, "salt": bytes(row.salt), "lookup": None if row.lookup is None else bytes(row.lookup)}
    return AuditSubject(**fields)
