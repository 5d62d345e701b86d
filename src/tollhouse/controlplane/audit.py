"""The audit trail, for who may read it: its records, and whether they are what was written."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import Connection

from tollhouse.controlplane.deps import Deps
from tollhouse.controlplane.problems import Problem, invalid
from tollhouse.controlplane.reports import Instant, Named
from tollhouse.controlplane.shapes import DEFAULT_PAGE, CursorQuery, LimitQuery, Page, cursor_position, cut
from tollhouse.controlplane.times import NS_PER_S, iso_ns, parse_instant_s
from tollhouse.rules import audit as rules
from tollhouse.rules.audit import GENESIS, parse_head
from tollhouse.storage.audit import MAX_FAULTS, Part, head_fault, list_records, subjects_of, verify_part
from tollhouse.terms.audit import AuditRecord, AuditSubject, Head

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

ERASED = "(erased)"
SECRET = "(secret)"  # noqa: S105  what stands in its place
MAX_PART = 5_000
USUAL_PART = 1_000
MAX_HEAD_CHARS = 100

HeadText = Annotated[str | None, Query(max_length=MAX_HEAD_CHARS, description="SEQ:HASH, as the metrics tell it")]


class AuditChange(BaseModel):
    """A side is null where the thing was not there, `(secret)` for what is never told, `(erased)` for what was."""

    field: str
    before: Any
    after: Any


class AuditOut(BaseModel):
    """`actor` and `object` are ids; `actor_kind` is operator, user, key, issuer, nobody (who was not let in) or house
    (the gateway itself); `hash` is the head of the trail up to here.
    """

    seq: int
    at: str | None
    actor_kind: str
    actor: str
    way: str
    address: str
    client: str
    action: str
    act: str
    kind: str
    object: str
    changes: list[AuditChange]
    request_id: str
    hash: str


class AuditFaultOut(BaseModel):
    """At which record, and what is wrong."""

    seq: int
    what: str


class VerificationOut(BaseModel):
    """`head` is where this part ended, `next` where the next one begins (null at the end), `anchor` the head that was
    left in the home.
    """

    records: int
    faults: list[AuditFaultOut]
    head: str
    next: str | None
    anchor: str | None


@router.get("")
async def list_audit(
    deps: Deps,
    actor: Annotated[str | None, Query(max_length=256, description="A user's or key's id, operator or house")] = None,
    action: Named = None,
    act: Named = None,
    kind: Named = None,
    object: Annotated[str | None, Query(max_length=256, description="The id of what was changed")] = None,  # noqa: A002
    since: Instant = None,
    until: Instant = None,
    order: Literal["newest", "oldest"] = "newest",
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_PAGE,
) -> Page[AuditOut]:
    """What was done with this API, and who signed in: by whom, from where, and what changed."""
    position = cursor_position(cursor)
    if position and not (position.isascii() and position.isdigit() and len(position) < 19):
        raise invalid("cursor", "is not one this list gave; start again without it")
    now_s = deps.now_ns() // NS_PER_S
    since_ns, until_ns = _instant_ns("since", since, now_s), _instant_ns("until", until, now_s)

    def query(connection: Connection) -> tuple[tuple[AuditRecord, ...], dict[int, AuditSubject]]:
        records = list_records(
            connection,
            actor=actor,
            thing=object,
            action=action,
            act=act,
            kind=kind,
            since_ns=since_ns,
            until_ns=until_ns,
            after=int(position) if position else None,
            oldest_first=order == "oldest",
            limit=limit + 1,
        )
        return records, subjects_of(connection, records[:limit])

    records, subjects = await deps.read(query)
    page, next_cursor = cut(records, limit, lambda record: str(record.seq))
    return Page(items=[audit_out(record, subjects) for record in page], next_cursor=next_cursor)


@router.get("/verification")
async def verify_audit(
    deps: Deps,
    after: HeadText = None,
    head: HeadText = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PART)] = USUAL_PART,
) -> VerificationOut:
    """Whether the next records after one that is known are what was written; from the first one without `after`.

    `head` is one that was kept elsewhere: at the end the trail must have it, as it must have the one in the home.
    """
    trail = deps.trail
    if trail is None:
        raise Problem(503, "no_audit_trail", "No audit trail is kept here.")
    begin, kept = _head("after", after) or GENESIS, _head("head", head)
    left, unread = trail.left()  # before the trail is read, which only grows

    def query(connection: Connection) -> Part:
        part = verify_part(connection, trail.key, begin, limit)
        if part.next is not None:
            return part
        wanted = ((left, "the head in the home"), (kept, "the head that was given"))
        missing = [head_fault(connection, one, whose) for one, whose in wanted if one is not None]
        return Part(part.records, (*part.faults, *(fault for fault in missing if fault)), part.head, None)

    part = await deps.read(query)
    faults = [AuditFaultOut(seq=fault.seq, what=fault.what) for fault in part.faults[:MAX_FAULTS]]
    if unread and part.next is None:
        faults.append(AuditFaultOut(seq=part.head.seq, what=unread))
    return VerificationOut(
        records=part.records,
        faults=faults,
        head=str(part.head),
        next=None if part.next is None else str(part.next),
        anchor=None if left is None else str(left),
    )


def audit_out(record: AuditRecord, subjects: dict[int, AuditSubject]) -> AuditOut:
    def word(text: str) -> str:
        found = rules.mentioned(text)
        return text.removeprefix("=") if found is None else value(found[0])

    def value(ref: int) -> str:
        subject = subjects.get(ref)
        return subject.value if subject is not None and subject.salt else ERASED

    def side(told: Any) -> Any:
        if not isinstance(told, dict):
            return None
        if "ref" in told:
            return value(told["ref"])
        return SECRET if "secret" in told else told.get("is")

    return AuditOut(
        seq=record.seq,
        at=iso_ns(record.at_ns),
        actor_kind=record.actor_kind,
        actor=word(record.actor),
        way=record.way,
        address=word(record.address),
        client=word(record.client),
        action=record.action,
        act=record.act,
        kind=record.kind,
        object=word(record.object),
        changes=[
            AuditChange(field=name, before=side(before), after=side(after))
            for name, before, after in rules.changes_of(record)
        ],
        request_id=record.request_id,
        hash=record.hash.hex(),
    )


def _head(field: str, text: str | None) -> Head | None:
    try:
        return None if text is None else parse_head(text)
    except ValueError as error:
        raise invalid(field, str(error)) from None


def _instant_ns(field: str, text: str | None, now_s: int) -> int | None:
    try:
        return None if text is None else parse_instant_s(text, now_s, ahead=False) * NS_PER_S
    except ValueError as error:
        raise invalid(field, str(error)) from error
