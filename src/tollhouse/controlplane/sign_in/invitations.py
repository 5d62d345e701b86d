"""Invitations by JSON: sending, looking at and taking back links, and following one."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from tollhouse.controlplane.access import Caller, caller_of, forbidden
from tollhouse.controlplane.deps import ControlDeps, Deps, Keeper
from tollhouse.controlplane.problems import invalid, not_found
from tollhouse.controlplane.shapes import (
    DEFAULT_PAGE,
    CursorQuery,
    Input,
    LimitQuery,
    NameText,
    Page,
    UserIdText,
    cursor_position,
    cut,
)
from tollhouse.controlplane.sign_in.cookies import browser_of, refuse_foreign_page
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.controlplane.sign_in.inviting import accept, may_invite, send
from tollhouse.controlplane.sign_in.routes import (
    EmailText,
    PasswordText,
    SessionOut,
    SignInBody,
    Typed,
    signed_in_out,
)
from tollhouse.controlplane.tenancy import known_user
from tollhouse.controlplane.times import NS_PER_S, iso_ns, parse_duration_s
from tollhouse.rules.roles import Action, Reach
from tollhouse.storage.invitations import SETUP, Invitation, delete_invitation, get_invitation, list_invitations
from tollhouse.terms.people import Role

router = APIRouter(prefix="/api/v1", tags=["sign-in"])

MAX_DAYS = 90
_ID_BYTES = 10

TokenText = Annotated[str, Field(min_length=1, max_length=100)]


class InvitationIn(Input):
    """`user_id`: somebody who is here already; the link gives them a new password and nothing else."""

    email: EmailText | None = None
    user_id: UserIdText | None = None
    role: Literal[Role.OWNER, Role.ADMIN, Role.MEMBER, Role.VIEWER] = Role.MEMBER
    team_id: UserIdText | None = None
    team_role: Literal[Role.ADMIN, Role.MEMBER, Role.VIEWER] = Role.MEMBER
    plan_id: UserIdText | None = None
    expires: str | None = Field(None, max_length=20, description="Such as `7d`; at most 90 days")


class InvitationOut(BaseModel):
    invitation_id: str
    email: str
    user_id: str | None
    """Whose password it changes, or who has accepted it."""
    role: Role
    team_id: str | None
    team_role: Role
    plan_id: str | None
    invited_by: str
    status: str
    """open | accepted | expired"""
    created_at: str | None
    expires_at: str | None
    accepted_at: str | None


class InvitationWithLink(InvitationOut):
    link: str
    """For the one who is invited: only here."""
    token: str


class AcceptBody(Typed):
    token: TokenText
    password: PasswordText
    email: EmailText | None = None
    name: NameText = ""


class SetupBody(SignInBody):
    token: TokenText
    name: NameText = ""


def _out(invitation: Invitation, now_ns: int) -> InvitationOut:
    over = "expired" if invitation.expires_at_ns <= now_ns else "open"
    return InvitationOut(
        **{
            name: getattr(invitation, name)
            for name in ("invitation_id", "email", "user_id", "role", "team_id", "team_role", "plan_id", "invited_by")
        },
        status=over if invitation.accepted_at_ns is None else "accepted",
        created_at=iso_ns(invitation.created_at_ns),
        expires_at=iso_ns(invitation.expires_at_ns),
        accepted_at=iso_ns(invitation.accepted_at_ns),
    )


@router.post("/invitations", status_code=201)
async def invite(body: InvitationIn, request: Request, deps: Deps, keeper: Keeper) -> InvitationWithLink:
    """Make a link that lets one person in. It is in the answer, and nowhere else: no mail is sent."""
    caller = caller_of(request)
    wish = await _wish(body, caller, deps, keeper)
    if not may_invite(caller.role, caller.team_roles, wish):
        raise forbidden(caller, Action.INVITE)
    token = await send(keeper, wish)
    base = keeper.options.public_url or str(deps.status().get("base_url", ""))
    return InvitationWithLink(**_out(wish, deps.now_ns()).model_dump(), link=f"{base}/invitation/{token}", token=token)


async def _wish(body: InvitationIn, caller: Caller, deps: ControlDeps, keeper: Doorkeeper) -> Invitation:
    now_ns = deps.now_ns()
    try:
        seconds = keeper.options.invitation_s if body.expires is None else parse_duration_s(body.expires)
    except ValueError as error:
        raise invalid("expires", str(error)) from None
    if not 60 <= seconds <= MAX_DAYS * 86_400:
        raise invalid("expires", f"is between a minute and {MAX_DAYS} days")
    role = body.role
    if body.user_id is not None:
        if {"role", "team_id", "team_role", "plan_id"} & body.model_fields_set:
            raise invalid("user_id", "is for a new password only: change a user's role, team and plan at /users")
        user_id = body.user_id
        user = await deps.read(lambda connection: known_user(connection, caller, Action.READ_USERS, user_id))
        if user.role is Role.SERVICE:
            raise invalid("user_id", "is a service account, which has keys and never signs in")
        role = user.role
    return Invitation(
        f"inv_{deps.random_bytes(_ID_BYTES).hex()}",
        b"",
        "" if body.email is None else keeper.email(body.email),
        role,
        caller.user_id,
        now_ns,
        now_ns + int(seconds * NS_PER_S),
        user_id=body.user_id,
        team_id=body.team_id,
        team_role=body.team_role,
        plan_id=body.plan_id,
    )


@router.get("/invitations")
async def get_invitations(
    request: Request, deps: Deps, cursor: CursorQuery = None, limit: LimitQuery = DEFAULT_PAGE
) -> Page[InvitationOut]:
    """Invitations by id, also those that are over: all for admins, those into their teams for admins of teams."""
    teams, after = _teams(caller_of(request)), cursor_position(cursor)
    rows = await deps.read(lambda connection: list_invitations(connection, teams=teams, cursor=after, limit=limit + 1))
    page, next_cursor = cut(rows, limit, lambda invitation: invitation.invitation_id)
    now_ns = deps.now_ns()
    return Page(items=[_out(invitation, now_ns) for invitation in page], next_cursor=next_cursor)


@router.get("/invitations/{invitation_id}")
async def get_one(invitation_id: str, request: Request, deps: Deps) -> InvitationOut:
    """One invitation, without its link."""
    caller = caller_of(request)
    found = await deps.read(lambda connection: _known(connection, caller, invitation_id))
    return _out(found, deps.now_ns())


@router.delete("/invitations/{invitation_id}", status_code=204)
async def take_back(invitation_id: str, request: Request, deps: Deps, keeper: Keeper) -> None:
    """The link is good for nothing from now on. Who has accepted stays."""
    caller = caller_of(request)

    def change(connection: Connection) -> None:
        _known(connection, caller, invitation_id)
        delete_invitation(connection, invitation_id)

    await keeper.database.run(change)


@router.post("/invitations/accept", status_code=201)
async def accept_one(body: AcceptBody, request: Request, response: Response, keeper: Keeper) -> SessionOut:
    """Follow an invitation's link: make the account (or its new password) and sign in."""
    refuse_foreign_page(request, keeper.options.public_url)
    signed_in = await accept(
        keeper,
        body.token,
        email=body.email or "",
        password=body.password,
        name=body.name.strip(),
        browser=browser_of(request),
        setup=False,
    )
    return signed_in_out(response, signed_in, keeper.now_ns())


@router.post("/setup", status_code=201)
async def set_up(body: SetupBody, request: Request, response: Response, keeper: Keeper) -> SessionOut:
    """Make the first owner, by the link that `serve` printed."""
    refuse_foreign_page(request, keeper.options.public_url)
    signed_in = await accept(
        keeper,
        body.token,
        email=body.email,
        password=body.password,
        name=body.name.strip(),
        browser=browser_of(request),
        setup=True,
    )
    return signed_in_out(response, signed_in, keeper.now_ns())


def _teams(caller: Caller) -> frozenset[str] | None:
    """The teams whose invitations the caller sees; None: all there are."""
    return None if caller.reach(Action.INVITE) is Reach.ALL else caller.teams_within(Action.INVITE)


def _known(connection: Connection, caller: Caller, invitation_id: str) -> Invitation:
    found = get_invitation(connection, invitation_id)
    teams = _teams(caller)
    if found is None or found.invitation_id == SETUP or (teams is not None and found.team_id not in teams):
        raise not_found("invitation", invitation_id, "GET /api/v1/invitations lists those there are.")
    return found
