"""A signed-in browser calls models with its cookie alone.

A browser sends the cookie with whatever request some page makes it send. Three things keep other sites from calling in
its user's name: the cookie's SameSite, the browser's own word on where a request comes from (`rules.origins`), and the
session's CSRF token, which only a page of this origin can have read. A call that changes something (and every call that
costs something does) needs the last two; a plain read needs neither, for no other site can read its answer.

A key or a token that is shown counts before the cookie: it was put there on purpose.
"""

import hmac

from tollhouse.dataplane.head import RequestHead
from tollhouse.dataplane.identify import check_blocked, unauthenticated
from tollhouse.dataplane.snapshot import Principal, Snapshot
from tollhouse.ports import SessionFinder
from tollhouse.rules.origins import SAFE_METHODS, is_same_origin, own_origins
from tollhouse.terms.errors import Refusal
from tollhouse.terms.sessions import CSRF_HEADER, SESSION_COOKIE, Session

_COOKIE = SESSION_COOKIE.encode() + b"="
_CSRF = CSRF_HEADER.encode()
_SAFE_METHODS = frozenset(method.encode() for method in SAFE_METHODS)


class SessionScheme:
    """The cookie of a signed-in browser.

    scheme       `http` or `https`, as this gateway itself listens
    public_url   where browsers reach it when a proxy stands in front; may be empty
    """

    def __init__(self, sessions: SessionFinder, snapshot: Snapshot, *, scheme: str, public_url: str) -> None:
        self._sessions = sessions
        self._snapshot = snapshot
        self._scheme = scheme
        self._public_url = public_url

    def identify(self, head: RequestHead) -> Principal | None:
        cookies = head.read.get(b"cookie")
        if cookies is None or _COOKIE not in cookies or _shows_another(head):
            return None
        pairs = map(bytes.strip, cookies.split(b";"))
        tokens = {pair.removeprefix(_COOKIE) for pair in pairs if pair.startswith(_COOKIE)}
        if not tokens:
            return None
        session = self._sessions.find(tokens.pop().decode("latin-1")) if len(tokens) == 1 else None
        if session is None:
            raise unauthenticated("session_over", "You are not signed in any more. Sign in again.")
        if head.method not in _SAFE_METHODS:
            self._check_origin(head, session)
        principal = self._snapshot.of_user(session.user_id)
        if principal is None:
            raise unauthenticated("session_over", "Your user is no longer here. Ask the operator of this gateway.")
        check_blocked(principal)
        return principal

    def _check_origin(self, head: RequestHead, session: Session) -> None:
        """Raises Refusal (403 `csrf`)."""
        read = head.read
        origin, site = read.get(b"origin"), read.get(b"sec-fetch-site")
        own = own_origins(self._scheme, read.get(b"host", b"").decode("latin-1"), self._public_url)
        ours = is_same_origin(
            None if origin is None else origin.decode("latin-1"), None if site is None else site.decode("latin-1"), own
        )
        if ours is False:
            raise _forged(
                "It comes from a page of another origin. (Operators: if it does not, set listen.public_url to the "
                "address at which browsers reach this gateway.)"
            )
        if not hmac.compare_digest(read.get(_CSRF, b""), session.csrf.encode()):
            raise _forged(f"Send the session's CSRF token (GET /api/v1/session tells it) as `{CSRF_HEADER}`.")


def _shows_another(head: RequestHead) -> bool:
    """Whether a key or token is shown; what a proxy in front asks for itself (`Basic`) is none."""
    read = head.read
    return bool(read.get(b"x-api-key")) or read.get(b"authorization", b"basic")[:5].lower() != b"basic"


def _forged(why: str) -> Refusal:
    return Refusal(
        403, "csrf", f"This call could have been made by another site in your name. {why}", should_retry=False
    )
