"""Signing in at somebody else's: the ways there are, setting out, and coming back."""

import logging
import re
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel

from tollhouse.controlplane.deps import Keeper
from tollhouse.controlplane.problems import NO_STORE, Problem, not_found
from tollhouse.controlplane.sign_in import html
from tollhouse.controlplane.sign_in.arriving import arrive
from tollhouse.controlplane.sign_in.cookies import browser_of, cookies_of, no_cookie, session_cookie, set_cookie
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.controlplane.sign_in.fetching import IssuerError
from tollhouse.controlplane.sign_in.issuers import Issuer
from tollhouse.controlplane.sign_in.notes import note
from tollhouse.controlplane.sign_in.trips import TRIP_COOKIE, TRIP_S
from tollhouse.rules.origins import is_local_path

router = APIRouter(prefix="/api/v1/sign-in/oidc", tags=["sign-in"])
log = logging.getLogger("tollhouse.sign_in")

_ERROR = re.compile(r"[a-z_]{1,64}")
MAX_QUERY_CHARS = 8_192

IssuerName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


class WayOut(BaseModel):
    name: str
    label: str
    path: str
    """Send the browser there; `?next=/path` leads it on afterwards."""


class WaysOut(BaseModel):
    items: list[WayOut]


@router.get("")
async def list_ways(keeper: Keeper) -> WaysOut:
    """The issuers at which people can sign in."""
    return WaysOut(
        items=[WayOut(name=name, label=label, path=f"{router.prefix}/{name}") for name, label in keeper.options.ways]
    )


@router.get("/{name}", response_class=RedirectResponse, status_code=303)
async def set_out(name: IssuerName, request: Request, keeper: Keeper, next: str = "") -> Response:  # noqa: A002  its name
    """Send the browser to an issuer."""
    issuer = _known(keeper, name)
    trip, cookie = keeper.trips.begin(name, next if is_local_path(next) else "")
    try:
        way = await issuer.way(trip, _redirect_uri(request, keeper, name))
    except IssuerError as error:
        log.warning("nobody can sign in at %s now: %s", name, error)
        return _sorry(502, f"{name} cannot be reached. Try again, or sign in another way.")
    headers = {**NO_STORE, "referrer-policy": "no-referrer"}
    response = RedirectResponse(way, 303, headers)
    response.headers.append("set-cookie", set_cookie(TRIP_COOKIE, cookie, TRIP_S, "Lax"))
    return response


@router.get("/{name}/callback", response_class=HTMLResponse)
async def come_back(name: IssuerName, request: Request, keeper: Keeper) -> Response:
    """From the issuer, with a code."""
    issuer = _known(keeper, name)
    response = await _welcome(issuer, request, keeper)
    response.headers.append("set-cookie", no_cookie(TRIP_COOKIE, "Lax"))
    return response


async def _welcome(issuer: Issuer, request: Request, keeper: Doorkeeper) -> Response:
    name, query = issuer.options.name, dict(request.query_params)
    if len(request.url.query) > MAX_QUERY_CHARS or len(query) != len(request.query_params.multi_items()):
        return _sorry(400, "This is not how an issuer sends somebody back. Start again.")
    cookie = cookies_of(request.scope).get(TRIP_COOKIE, "")
    trip = keeper.trips.returned(name, query.get("state", ""), cookie)
    if trip is None:
        return _sorry(400, "This is not of a sign-in that began in this browser, or it took too long. Start again.")
    if "error" in query or not query.get("code"):
        said = query.get("error", "")
        why = f" ({said})" if _ERROR.fullmatch(said) else ""
        return _sorry(403, f"{name} did not let you in{why}.")
    if keeper.returning.locked():
        return _sorry(503, "Too many people are signing in at once. Start again in a moment.")
    browser = browser_of(request)
    try:
        async with keeper.returning:
            claims = await issuer.claims(trip, query, _redirect_uri(request, keeper, name))
        signed_in = await arrive(keeper, issuer.options, claims, browser)
    except IssuerError as error:
        log.warning("somebody came back from %s and was not let in: %s", name, error)
        note("refused", address=browser.address, because="issuer", issuer=name)
        await keeper.refusals.put("refused", "issuer", issuer=name)
        return _sorry(502, f"What {name} said cannot be believed or read. The log of this gateway says why.")
    except Problem as problem:
        note("refused", address=browser.address, because=problem.code, issuer=name)
        await keeper.refusals.put("refused", problem.code, issuer=name)
        return _sorry(problem.status, problem.detail)
    onward = trip.onward if is_local_path(trip.onward) else "/sign-in"
    response = html.page("You are signed in", html.way(onward, "Continue"), refresh_to=onward)
    response.headers.append("set-cookie", session_cookie(signed_in.session, signed_in.token, keeper.now_ns()))
    return response


def _known(keeper: Doorkeeper, name: str) -> Issuer:
    issuer = keeper.issuers.get(name)
    if issuer is None:
        raise not_found("issuer", name, "GET /api/v1/sign-in/oidc lists those there are.")
    return issuer


def _redirect_uri(request: Request, keeper: Doorkeeper, name: str) -> str:
    """It must be registered with the issuer; one that a wrong Host makes is refused there."""
    here = keeper.options.public_url or f"{request.url.scheme}://{request.headers.get('host', '')}"
    return f"{here}{router.prefix}/{name}/callback"


def _sorry(status: int, message: str) -> Response:
    return html.page("You are not signed in", html.refused(message), html.way("/sign-in", "Sign in"), status=status)
