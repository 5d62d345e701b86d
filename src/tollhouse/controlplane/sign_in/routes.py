"""Sign in, sign up, sign out, and one's password: by JSON."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tollhouse.controlplane.access import caller_of
from tollhouse.controlplane.deps import Deps, Keeper
from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.shapes import Input, NameText
from tollhouse.controlplane.sign_in.book import SignedIn
from tollhouse.controlplane.sign_in.cookies import browser_of, no_cookie, refuse_foreign_page, session_cookie
from tollhouse.controlplane.times import iso_ns
from tollhouse.controlplane.users import UserOut, user_out
from tollhouse.rules.claims import MAX_EMAIL_CHARS
from tollhouse.rules.passwords import MAX_CHARS
from tollhouse.storage import directory
from tollhouse.terms.people import User
from tollhouse.terms.sessions import Session

router = APIRouter(prefix="/api/v1", tags=["sign-in"])

EmailText = Annotated[str, Field(min_length=3, max_length=MAX_EMAIL_CHARS)]
PasswordText = Annotated[str, Field(min_length=1, max_length=MAX_CHARS)]


class Typed(Input):
    """Passwords are taken as they were typed."""

    model_config = ConfigDict(str_strip_whitespace=False)


class SignInBody(Typed):
    email: EmailText
    password: PasswordText


class SignUpBody(SignInBody):
    name: NameText = ""


class PasswordBody(Typed):
    current_password: PasswordText
    new_password: PasswordText


class SessionOut(BaseModel):
    user: UserOut
    csrf_token: str
    """For the header `x-csrf-token` of every request that changes something."""
    expires_at: str | None
    """Moves on with use, up to `ends_at`."""
    ends_at: str | None


def session_out(user: User, session: Session) -> SessionOut:
    return SessionOut(
        user=user_out(user),
        csrf_token=session.csrf,
        expires_at=iso_ns(session.expires_at_ns),
        ends_at=iso_ns(session.ends_at_ns),
    )


def signed_in_out(response: Response, signed_in: SignedIn, now_ns: int) -> SessionOut:
    """The answer of every way in, and its cookie."""
    response.headers.append("set-cookie", session_cookie(signed_in.session, signed_in.token, now_ns))
    return session_out(signed_in.user, signed_in.session)


def own_session(request: Request) -> Session:
    session = caller_of(request).session
    if session is None:
        raise Problem(403, "session_only", "This is about a session: sign in.")
    return session


@router.post("/sign-in")
async def sign_in(body: SignInBody, request: Request, response: Response, keeper: Keeper) -> SessionOut:
    """Begin a session: its cookie comes with the answer."""
    refuse_foreign_page(request, keeper.options.public_url)
    signed_in = await keeper.sign_in(body.email, body.password, browser_of(request))
    return signed_in_out(response, signed_in, keeper.now_ns())


@router.post("/sign-up", status_code=201)
async def sign_up(body: SignUpBody, request: Request, response: Response, keeper: Keeper) -> SessionOut:
    """Make an account and sign in with it, where the operator lets people (`sign_in.sign_up`)."""
    refuse_foreign_page(request, keeper.options.public_url)
    signed_in = await keeper.sign_up(body.email, body.password, body.name.strip(), browser_of(request))
    return signed_in_out(response, signed_in, keeper.now_ns())


@router.post("/sign-out", status_code=204)
async def sign_out(request: Request, response: Response, keeper: Keeper) -> None:
    """End this session."""
    session = own_session(request)
    await keeper.end([session.session_id], by=session.user_id)
    response.headers.append("set-cookie", no_cookie())


@router.get("/session")
async def get_session(request: Request, deps: Deps) -> SessionOut:
    """Who is signed in, until when, and the token for requests that change something."""
    session = own_session(request)
    user = await deps.read(lambda connection: directory.get_user(connection, session.user_id))
    if user is None:
        raise Problem(401, "session_over", "This account is no longer there.")
    return session_out(user, session)


@router.post("/password")
async def change_password(body: PasswordBody, request: Request, response: Response, keeper: Keeper) -> SessionOut:
    """Change one's password. All other sessions end, and this one gets a new token."""
    signed_in = await keeper.change_password(
        own_session(request), body.current_password, body.new_password, browser_of(request)
    )
    return signed_in_out(response, signed_in, keeper.now_ns())
