"""Notices: what happened here that somebody may want to be told of."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tollhouse.controlplane.deps import Deps
from tollhouse.controlplane.shapes import DEFAULT_PAGE, CursorQuery, LimitQuery, Page, cursor_position, cut
from tollhouse.controlplane.times import iso_ns
from tollhouse.storage import notices as stored
from tollhouse.terms.webhooks import RecordedNotice

router = APIRouter(prefix="/api/v1/notices", tags=["notices"])


class NoticeOut(BaseModel):
    notice_id: str
    kind: str
    at: str | None
    subject: str
    """Whom or what it is about: `key key_1`, `user alice`, `budget bud_1`."""
    text: str
    data: dict[str, Any]


def notice_out(recorded: RecordedNotice) -> NoticeOut:
    notice = recorded.notice
    return NoticeOut(
        notice_id=recorded.notice_id,
        kind=notice.kind.value,
        at=iso_ns(notice.at_ns),
        subject=notice.subject,
        text=notice.text,
        data=notice.data,
    )


@router.get("")
async def list_notices(
    deps: Deps,
    kind: Annotated[
        str | None, Query(max_length=100, description="A kind, or what several begin with, such as `budget.`")
    ] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_PAGE,
) -> Page[NoticeOut]:
    """Notices, newest first."""
    after = cursor_position(cursor)
    rows = await deps.read(lambda connection: stored.list_notices(connection, kind=kind, cursor=after, limit=limit + 1))
    page, next_cursor = cut(rows, limit, lambda one: one.notice_id)
    return Page(items=[notice_out(one) for one in page], next_cursor=next_cursor)
