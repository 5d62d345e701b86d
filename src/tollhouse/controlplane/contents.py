"""What was asked and answered under keys that have it kept: who may have it kept, and who may read it.

Whoever may change a key may have its content kept, and its holder is told so by every answer and by `/api/v1/me`. Only
owners read it, and people what was asked with keys of their own.
"""

import base64

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import Connection

from tollhouse.controlplane.deps import ControlDeps, Deps
from tollhouse.controlplane.problems import Problem, invalid, not_found
from tollhouse.controlplane.tenancy import admit
from tollhouse.controlplane.times import iso_ns
from tollhouse.controlplane.visit import By
from tollhouse.rules.roles import Action
from tollhouse.rules.tenants import Tenant
from tollhouse.storage import captures
from tollhouse.storage.captures import Capture
from tollhouse.storage.trail import event
from tollhouse.storage.watch import Event
from tollhouse.terms.errors import VaultError
from tollhouse.vault import open_content

router = APIRouter(prefix="/api/v1/requests", tags=["reports"])


class SideOut(BaseModel):
    """`body` is the text itself, or base64 of what is not UTF-8 (`encoding`); cut where `cut` says so."""

    encoding: str
    """utf-8 | base64"""
    body: str
    bytes: int
    """Of all of it."""
    cut: bool


class ContentOut(BaseModel):
    request_id: str
    user_id: str
    key_id: str
    at: str | None
    expires_at: str | None
    request: SideOut
    answer: SideOut


def captured_for(deps: ControlDeps, days: int) -> int:
    """The days for which a key may have its content kept. Raises Problem: 400, or 409 without a master key."""
    if days > deps.capture_days:
        most = f"at most {deps.capture_days} days" if deps.capture_days else "not at all"
        raise invalid("capture_days", f"content is kept {most} here (capture.max_days)")
    if days and not deps.vault.ready:
        raise Problem(
            409,
            "no_master_key",
            "Without a master key nothing that is asked or answered can be kept: `tollhouse vault init` makes one.",
            field="capture_days",
        )
    return days


@router.get("/{request_id}/content")
async def get_content(request_id: str, deps: Deps, by: By) -> ContentOut:
    """What was asked and answered, where the key had it kept: for owners, and for whoever asked."""
    await deps.captured()
    missing = not_found("content", request_id, "Its key may not have it kept, or its time is over.")

    def query(connection: Connection) -> Capture:
        found = captures.get_capture(connection, request_id, deps.now_ns())
        if found is None:
            raise missing
        admit(by.caller, Action.READ_CONTENT, Tenant(found.user_id), missing)
        event(connection, Event("read", "content", found.user_id, {"request": request_id}))
        return found

    found = await deps.database.run(query)  # not `read`: that somebody looked is on record
    try:
        request, answer = open_content(deps.vault, found.sealed, org_id=found.org_id, request_id=request_id)
    except VaultError as error:
        raise Problem(503, "content_unreadable", f"It does not open: {error}.") from error
    return ContentOut(
        request_id=request_id,
        user_id=found.user_id,
        key_id=found.key_id,
        at=iso_ns(found.at_ns),
        expires_at=iso_ns(found.expires_at_ns),
        request=_side(request, found.request_bytes, cut=found.request_cut),
        answer=_side(answer, found.answer_bytes, cut=found.answer_cut),
    )


def _side(data: bytes, size_bytes: int, *, cut: bool) -> SideOut:
    """Cut within a character, a text is still one."""
    for end in range(len(data), len(data) - 4 if cut else len(data) - 1, -1):
        try:
            return SideOut(encoding="utf-8", body=data[:end].decode(), bytes=size_bytes, cut=cut)
        except UnicodeDecodeError:
            continue
    return SideOut(encoding="base64", body=base64.b64encode(data).decode(), bytes=size_bytes, cut=cut)
