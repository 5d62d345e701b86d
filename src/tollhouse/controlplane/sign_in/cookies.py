"""What a browser shows and is given: the session's cookie, its CSRF token, where its request comes from."""

import hmac

from fastapi import Request
from starlette.types import Scope

from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.sign_in.book import Browser
from tollhouse.rules.origins import SAFE_METHODS, is_same_origin, own_origins
from tollhouse.terms.sessions import CSRF_HEADER, SESSION_COOKIE, Session

MAX_COOKIE_CHARS = 8_192
MAX_CLIENT_CHARS = 200


def cookies_of(scope: Scope) -> dict[str, str]:
    """All of a request's cookies; those that several have the same name are none: which is ours cannot be told."""
    text = "; ".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie")
    found: dict[str, str] = {}
    twice = set()
    for part in text[:MAX_COOKIE_CHARS].split(";"):
        name, _, value = part.strip().partition("=")
        if name in found:
            twice.add(name)
        found[name] = value
    return {name: value for name, value in found.items() if name and name not in twice}


def session_token(scope: Scope) -> str:
    """Empty when there is none."""
    return cookies_of(scope).get(SESSION_COOKIE, "")


def browser_of(request: Request) -> Browser:
    agent = request.headers.get("user-agent", "")[:MAX_CLIENT_CHARS]
    return Browser(
        "" if request.client is None else request.client.host,
        "".join(character for character in agent if character.isprintable()),
        session_token(request.scope),
    )


def from_own_page(scope: Scope, public_url: str) -> bool | None:
    """Whether a page of this origin sent it; None when no browser did."""
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin-1")
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
    return is_same_origin(
        None if origin is None else origin.decode("latin-1"),
        None if site is None else site.decode("latin-1"),
        own_origins(scope["scheme"], host, public_url),
    )


def check_csrf(scope: Scope, session: Session, public_url: str) -> None:
    """What a cookie alone must not do: another site makes browsers send it. Raises Problem (403)."""
    if scope["method"] in SAFE_METHODS:
        return
    shown = dict(scope["headers"]).get(CSRF_HEADER.encode(), b"")
    if not hmac.compare_digest(shown, session.csrf.encode()):
        raise Problem(
            403,
            "csrf",
            f"A request with a session that changes something carries its token in `{CSRF_HEADER}`; "
            "GET /api/v1/session says it.",
        )
    if not from_own_page(scope, public_url):
        raise Problem(
            403,
            "csrf",
            "This request does not come from a page of this gateway (Origin, Sec-Fetch-Site). Behind a proxy that "
            "changes the host, set listen.public_url.",
        )


def refuse_foreign_page(request: Request, public_url: str) -> None:
    """For requests that sign somebody in: another site must not do it in somebody's browser. Raises Problem (403)."""
    if from_own_page(request.scope, public_url) is False:
        raise Problem(403, "csrf", "This request comes from a page of another site.")


def set_cookie(name: str, value: str, max_age_s: float, same_site: str = "Strict") -> str:
    """As `__Host-` demands: of this host, secure, for all paths. Browsers take loopback for secure without TLS."""
    return f"{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}; Max-Age={int(max_age_s)}"


def session_cookie(session: Session, token: str, now_ns: int) -> str:
    return set_cookie(SESSION_COOKIE, token, (session.ends_at_ns - now_ns) / 1e9)


def no_cookie(name: str = SESSION_COOKIE, same_site: str = "Strict") -> str:
    return set_cookie(name, "", 0, same_site)
