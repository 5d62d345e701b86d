"""Signing in without a script: plain forms that set the cookie and go on to a path of this origin."""

import hmac
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from tollhouse.controlplane.deps import Keeper
from tollhouse.controlplane.problems import NO_STORE, Problem
from tollhouse.controlplane.sign_in import html
from tollhouse.controlplane.sign_in.book import SignedIn
from tollhouse.controlplane.sign_in.cookies import (
    browser_of,
    no_cookie,
    refuse_foreign_page,
    session_cookie,
    session_token,
)
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.controlplane.sign_in.inviting import accept, look
from tollhouse.controlplane.sign_in.sheet import Sheet, fields_of
from tollhouse.rules.claims import MAX_NAME_CHARS
from tollhouse.rules.origins import is_local_path
from tollhouse.storage import directory
from tollhouse.storage.invitations import SETUP, Invitation
from tollhouse.terms.sessions import Session

router = APIRouter(include_in_schema=False)

SIGN_IN = "/sign-in"


@router.get("/sign-in")
async def sign_in_page(request: Request, keeper: Keeper, next: str = "") -> Response:  # noqa: A002  its name in the URL
    session = _session(request, keeper)
    if session is None:
        return _sign_in(Sheet(request, keeper), keeper, {"next": next})
    if is_local_path(next):
        return _go(next)
    user = await keeper.database.read(lambda connection: directory.get_user(connection, session.user_id))
    return html.page(
        "You are signed in",
        html.paragraph(session.user_id if user is None else user.name or user.email or user.user_id, "who"),
        html.form("/sign-out", {"csrf": session.csrf}, (), "Sign out"),
    )


@router.post("/sign-in")
async def sign_in_posted(request: Request, keeper: Keeper) -> Response:
    sheet = Sheet(request, keeper)
    filled = await sheet.filled_in()
    try:
        signed_in = await keeper.sign_in(filled.get("email", ""), filled.get("password", ""), browser_of(request))
    except Problem as problem:
        return _sign_in(sheet, keeper, filled, problem)
    return _enter(signed_in, filled.get("next", ""), keeper)


@router.get("/sign-up")
async def sign_up_page(request: Request, keeper: Keeper, next: str = "") -> Response:  # noqa: A002  its name in the URL
    return _sign_up(Sheet(request, keeper), keeper, {"next": next})


@router.post("/sign-up")
async def sign_up_posted(request: Request, keeper: Keeper) -> Response:
    sheet = Sheet(request, keeper)
    filled = await sheet.filled_in()
    email, password, name = (filled.get(name, "") for name in ("email", "password", "name"))
    try:
        signed_in = await keeper.sign_up(email, password, _one_line(name), browser_of(request))
    except Problem as problem:
        return _sign_up(sheet, keeper, filled, problem)
    return _enter(signed_in, filled.get("next", ""), keeper)


@router.post("/sign-out")
async def sign_out_posted(request: Request, keeper: Keeper) -> Response:
    refuse_foreign_page(request, keeper.options.public_url)
    filled = await fields_of(request)
    session = _session(request, keeper)
    if session is not None:
        if not hmac.compare_digest(filled.get("csrf", "").encode(), session.csrf.encode()):
            raise Problem(403, "csrf", "This form is not from a page of yours. Go back and try again.")
        await keeper.end([session.session_id], by=session.user_id)
    response = _go(SIGN_IN)
    response.headers.append("set-cookie", no_cookie())
    return response


@router.get("/setup/{token}")
@router.get("/invitation/{token}")
async def link_page(token: str, request: Request, keeper: Keeper) -> Response:
    """Looking does not use the link up: scanners of mail and previews look at links too."""
    return await _link(request, Sheet(request, keeper), keeper, token, {})


@router.post("/setup/{token}")
@router.post("/invitation/{token}")
async def link_posted(token: str, request: Request, keeper: Keeper) -> Response:
    sheet = Sheet(request, keeper)
    filled = await sheet.filled_in()
    try:
        signed_in = await accept(
            keeper,
            token,
            email=filled.get("email", ""),
            password=filled.get("password", ""),
            name=_one_line(filled.get("name", "")),
            browser=browser_of(request),
            setup=_is_setup(request),
        )
    except Problem as problem:
        return await _link(request, sheet, keeper, token, filled, problem)
    return _enter(signed_in, "", keeper)


# --- what they show


def _sign_in(sheet: Sheet, keeper: Doorkeeper, filled: dict[str, str], problem: Problem | None = None) -> Response:
    hidden, query = _onward(filled)
    fields = (
        html.field("email", "E-mail", kind="email", value=filled.get("email", ""), complete="username", first=True),
        html.field("password", "Password", kind="password", complete="current-password"),
    )
    parts = [_said(problem), sheet.form(SIGN_IN, hidden, fields, "Sign in")]
    if keeper.options.ways:
        parts.append(html.paragraph("or", "or"))
        for name, label in keeper.options.ways:
            parts.append(html.way(f"/api/v1/sign-in/oidc/{name}{query}", f"Sign in with {label}"))
    if keeper.options.sign_up != "closed":
        parts.append(html.way(f"/sign-up{query}", "Make an account"))
    return sheet.page("Sign in", *parts, problem=problem)


def _sign_up(sheet: Sheet, keeper: Doorkeeper, filled: dict[str, str], problem: Problem | None = None) -> Response:
    if keeper.options.sign_up == "closed":
        return html.page("Accounts are by invitation", html.paragraph("Ask the operator for one."), status=403)
    hidden, query = _onward(filled)
    fields = (
        html.field("name", "Name", value=filled.get("name", ""), complete="name", required=False, first=True),
        html.field("email", "E-mail", kind="email", value=filled.get("email", ""), complete="username"),
        _new_password(keeper),
    )
    parts = (
        _said(problem),
        sheet.form("/sign-up", hidden, fields, "Make an account"),
        html.way(f"/sign-in{query}", "Sign in instead"),
    )
    return sheet.page("Make an account", *parts, problem=problem)


async def _link(
    request: Request,
    sheet: Sheet,
    keeper: Doorkeeper,
    token: str,
    filled: dict[str, str],
    problem: Problem | None = None,
) -> Response:
    try:
        found = await look(keeper, token, setup=_is_setup(request))
    except Problem as gone:
        return html.page("This link is over", html.refused(gone.detail), status=gone.status)
    title, about, button = _words(found)
    email = found.email or filled.get("email", "")
    known = found.user_id is not None
    fixed = bool(found.email)
    fields = [
        html.field("email", "E-mail", kind="email", value=email, complete="username", required=not known, fixed=fixed),
        _new_password(keeper),
    ]
    if not known:
        name = filled.get("name", "")
        fields.insert(0, html.field("name", "Name", value=name, complete="name", required=False, first=True))
    parts = (html.paragraph(about), _said(problem), sheet.form(request.url.path, {}, fields, button))
    return sheet.page(title, *parts, problem=problem)


def _words(found: Invitation) -> tuple[str, str, str]:
    """Title, what it does, button."""
    if found.invitation_id == SETUP:
        return "Set up Tollhouse", "Nobody owns this gateway yet. You become its owner.", "Set up"
    if found.user_id is not None:
        return "New password", "It ends all your sessions, and begins one here.", "Set password"
    team = f" in the team {found.team_id}" if found.team_id else ""
    return "You are invited", f"You become {found.role}{team}.", "Make an account"


def _new_password(keeper: Doorkeeper) -> str:
    hint = f"At least {keeper.options.min_chars} characters. Several words are easily kept in mind and hard to guess."
    return html.field("password", "Password", kind="password", complete="new-password", hint=hint)


def _said(problem: Problem | None) -> str:
    """A refusal in words, without the field's name before it."""
    if problem is None:
        return ""
    words = problem.detail.removeprefix(f"{problem.field}: ") if problem.field else problem.detail
    named = {"password": "The password ", "email": "The e-mail address "}.get(problem.field, "")
    return html.refused(f"{named}{words}" if words != problem.detail else words)


# --- where they lead


def _onward(filled: dict[str, str]) -> tuple[dict[str, str], str]:
    """Where to go afterwards, as a hidden field and as a query; nowhere for what would leave this origin."""
    path = filled.get("next", "")
    return ({"next": path}, f"?next={quote(path, safe='')}") if is_local_path(path) else ({}, "")


def _enter(signed_in: SignedIn, onward: str, keeper: Doorkeeper) -> Response:
    response = _go(onward if is_local_path(onward) else SIGN_IN)
    response.headers.append("set-cookie", session_cookie(signed_in.session, signed_in.token, keeper.now_ns()))
    return response


def _go(path: str) -> Response:
    return RedirectResponse(path, 303, {**NO_STORE, "referrer-policy": "same-origin"})


def _session(request: Request, keeper: Doorkeeper) -> Session | None:
    token = session_token(request.scope)
    return keeper.book.find(token) if token else None


def _is_setup(request: Request) -> bool:
    return request.url.path.startswith("/setup/")


def _one_line(name: str) -> str:
    return "".join(character for character in name if character.isprintable()).strip()[:MAX_NAME_CHARS]
