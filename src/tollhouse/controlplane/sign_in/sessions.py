"""Sessions as people look at them: which there are, and ending them."""

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from tollhouse.controlplane.access import Caller, caller_of, forbidden
from tollhouse.controlplane.deps import ControlDeps, Deps, Keeper
from tollhouse.controlplane.problems import invalid, not_found
from tollhouse.controlplane.shapes import (
    DEFAULT_PAGE,
    CursorQuery,
    LimitQuery,
    Page,
    cursor_position,
    cut,
)
from tollhouse.controlplane.times import iso_ns
from tollhouse.rules.roles import Action, Reach, may_give
from tollhouse.storage import directory
from tollhouse.terms.sessions import Session

router = APIRouter(prefix="/api/v1/sessions", tags=["sign-in"])


class SessionRow(BaseModel):
    session_id: str
    user_id: str
    current: bool
    """The one that asks."""
    address: str
    client: str
    created_at: str | None
    seen_at: str | None
    expires_at: str | None
    ends_at: str | None


class EndedOut(BaseModel):
    ended: int


def _row(session: Session, caller: Caller) -> SessionRow:
    return SessionRow(
        session_id=session.session_id,
        user_id=session.user_id,
        current=caller.session is not None and caller.session.session_id == session.session_id,
        address=session.address,
        client=session.client,
        created_at=iso_ns(session.created_at_ns),
        seen_at=iso_ns(session.seen_at_ns),
        expires_at=iso_ns(session.expires_at_ns),
        ends_at=iso_ns(session.ends_at_ns),
    )


@router.get("")
async def list_sessions(
    request: Request,
    keeper: Keeper,
    user_id: str | None = Query(None, max_length=256),
    cursor: CursorQuery = None,
    limit: LimitQuery = DEFAULT_PAGE,
) -> Page[SessionRow]:
    """Who is signed in: of everybody or one user for admins, one's own for others."""
    caller = caller_of(request)
    if caller.reach(Action.READ_SESSIONS) is not Reach.ALL:
        if user_id not in (None, caller.user_id):
            return Page(items=[], next_cursor=None)
        user_id = caller.user_id
    after = cursor_position(cursor)
    found = sorted(
        (session for session in keeper.book.sessions(user_id) if session.session_id > after),
        key=lambda session: session.session_id,
    )
    page, next_cursor = cut(found[: limit + 1], limit, lambda session: session.session_id)
    return Page(items=[_row(session, caller) for session in page], next_cursor=next_cursor)


@router.delete("")
async def end_sessions(
    request: Request, deps: Deps, keeper: Keeper, user_id: str | None = Query(None, max_length=256)
) -> EndedOut:
    """Sign a user out everywhere; without `user_id` oneself, but for the session that asks."""
    caller = caller_of(request)
    whose = user_id or caller.user_id
    if not whose:
        raise invalid("user_id", "say whose sessions end")
    await _may_end(deps, caller, whose, "user", whose)
    own = caller.session.session_id if caller.session is not None and whose == caller.user_id else ""
    return EndedOut(ended=await keeper.end_of_user(whose, but=own, by=caller.user_id or "the operator"))


@router.delete("/{session_id}", status_code=204)
async def end_session(session_id: str, request: Request, deps: Deps, keeper: Keeper) -> None:
    """End one session."""
    caller = caller_of(request)
    session = keeper.book.by_id(session_id)
    if session is None:
        raise not_found("session", session_id, "It may be over.")
    await _may_end(deps, caller, session.user_id, "session", session_id)
    await keeper.end([session_id], by=caller.user_id or "the operator")


async def _may_end(deps: ControlDeps, caller: Caller, user_id: str, noun: str, name: str) -> None:
    """Raises Problem: 404 for what is not the caller's to see, 403 for an owner's or admin's."""
    if caller.user_id and caller.user_id == user_id:
        return
    if caller.reach(Action.WRITE_SESSIONS) is not Reach.ALL:
        raise not_found(noun, name, "It may be over.")
    user = await deps.read(lambda connection: directory.get_user(connection, user_id))
    if user is None:
        raise not_found(noun, name, "It may be over.")
    if not may_give(caller.role, user.role):
        raise forbidden(caller, Action.WRITE_SESSIONS)
