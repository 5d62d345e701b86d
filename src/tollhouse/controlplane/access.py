"""Who may do what: default deny.

Three rules, checked before a byte of the body is read:

1. A request that no row of `permissions.PERMISSIONS` names does not exist (404), whatever the router knows.
2. A credential that is shown is the one that counts: the master key makes an owner, a valid virtual key its holder,
   anything else is a 401, also on the Unix socket.
3. Without one, the cookie of a session makes its user, with the role and the teams that the directory has this very
   moment. A cookie is what other sites can make a browser send: what changes something must show the session's CSRF
   token too, and come from a page of this origin.
4. Without either, only who came by the Unix socket (or in-process) is owner: ASGI gives such a connection a server
   address without a port, and the socket's file mode has already asked who it is.
"""

import hmac
import math
from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from fastapi import Request
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tollhouse.controlplane.deps import ControlDeps
from tollhouse.controlplane.permissions import Permission, permission_of
from tollhouse.controlplane.problems import Problem, problem_response, storage_problem
from tollhouse.controlplane.rates import Rates
from tollhouse.controlplane.sign_in.cookies import check_csrf, session_token
from tollhouse.controlplane.sign_in.guard import network_of
from tollhouse.rules.roles import Action, Reach, reach, teams_within
from tollhouse.storage import directory
from tollhouse.storage.teams import memberships_of
from tollhouse.terms.errors import StorageError
from tollhouse.terms.people import Membership, Role, User, VirtualKey
from tollhouse.terms.sessions import Session

NO_TEAMS: Mapping[str, Role] = MappingProxyType({})


class Caller(msgspec.Struct, frozen=True):
    """Who asks: somebody with a role, the holder of a virtual key (who has none here), or nobody.

    `user_id` is empty for the operator, who came by the master key or the Unix socket.
    """

    role: Role | None = None
    user_id: str = ""
    team_roles: Mapping[str, Role] = NO_TEAMS
    key: VirtualKey | None = None
    session: Session | None = None

    @property
    def owner(self) -> bool:
        return self.role is Role.OWNER

    def reach(self, action: Action) -> Reach:
        """How far they go with an action."""
        return reach(self.role, self.team_roles, action)

    def teams_within(self, action: Action) -> frozenset[str]:
        """The teams in which they may do it by a role there; of use when the reach is TEAM."""
        return teams_within(self.team_roles, action)


NOBODY = Caller()
OWNER = Caller(Role.OWNER)


def caller_of(request: Request) -> Caller:
    caller: Caller = request.scope["tollhouse.caller"]
    return caller


class Gate:
    """The ASGI layer in front of the router."""

    def __init__(self, app: ASGIApp, deps: ControlDeps) -> None:
        self.app = app
        self.deps = deps
        options = deps.options
        self._callers = Rates(options.requests_per_minute, options.max_names, deps.monotonic)
        self._failures = Rates(options.failures_per_minute, options.max_names, deps.monotonic)
        """By address."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # no WebSocket lives here
            return
        try:
            scope["tollhouse.caller"] = await self.admit(scope)
        except Problem as problem:
            await problem_response(scope["path"], problem)(scope, receive, send)
            return
        except StorageError as error:
            await problem_response(scope["path"], storage_problem(error))(scope, receive, send)
            return
        await self.app(scope, bounded(receive, self.deps.max_body_bytes), send)

    async def admit(self, scope: Scope) -> Caller:
        """Raises Problem: 400, 404, 405, 401, 403 or 429."""
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            raise Problem(400, "invalid_request", "The address holds U+0000, which is in no name.")
        permission = permission_of(scope["method"], scope["path"])
        if permission in (Permission.PUBLIC, Permission.ANYBODY) or (
            permission is Permission.METRICS and self.deps.metrics_open
        ):
            return NOBODY
        if permission is Permission.OWNER_BEARER and not _shows_bearer(scope):
            raise _missing("; LiteLLM's routes have no other way in")
        caller = await self._known(scope)
        if permission is Permission.SESSION:
            if caller.session is None:
                raise Problem(403, "session_only", "This is about a session: come with its cookie and nothing else.")
        elif permission is Permission.SELF:
            if caller.key is None and not caller.user_id:
                raise Problem(
                    403, "key_only", "This is about who asks: call it signed in, or by a virtual key as Bearer."
                )
        elif isinstance(permission, Action):
            if caller.reach(permission) is Reach.NONE:
                raise forbidden(caller, permission)
        elif not caller.owner and permission is not Permission.OWN_CALL:
            raise Problem(403, "owner_only", "This is for the owner: show the master key, not a virtual key.")
        return caller

    async def _known(self, scope: Scope) -> Caller:
        """Who it is, if they do not ask too often. Who shows wrong credentials too often cannot tell whether the next
        one is the master key; keys and sessions, which nobody guesses, stay good. Raises Problem: 401, 403 or 429.
        """
        client = scope.get("client")
        address = network_of(client[0]) if client else "unknown"
        wait_s = self._failures.wait_s(address)
        try:
            caller = await self.identify(scope)
            if caller is NOBODY:
                if session_token(scope):
                    raise Problem(401, "session_over", "You are not signed in any more. Sign in again.")
                raise _missing(", a session, or the server's Unix socket")
        except Problem as problem:
            if problem.status == 401:
                self._failures.count(address)
                if wait_s:
                    raise _too_often("Too many wrong or missing credentials from this address.", wait_s) from None
            raise
        operator = caller.owner and not caller.user_id
        if operator and _credential(scope) is None:
            return caller  # by the Unix socket
        if operator and wait_s:
            raise _too_often("Too many wrong or missing credentials from this address.", wait_s)
        name = f"key {caller.key.key_id}" if caller.key is not None else f"user {caller.user_id}"
        wait_s = self._callers.wait_s(name)
        if wait_s:
            raise _too_often(f"More than {self.deps.options.requests_per_minute:,} requests a minute.", wait_s)
        self._callers.count(name)
        return caller

    async def identify(self, scope: Scope) -> Caller:
        return await identify(scope, self.deps)


def forbidden(caller: Caller, action: Action) -> Problem:
    """403 of somebody known whose role does not go there."""
    if caller.key is not None:
        return Problem(403, "owner_only", "This is for the owner: show the master key, not a virtual key.")
    return Problem(403, "forbidden", f"Your role ({caller.role}) may not do this ({action}). Ask an admin.")


def bounded(receive: Receive, max_body_bytes: int) -> Receive:
    """Receives a body up to a size; what is larger is refused (413) before it is joined or parsed."""
    received = 0

    async def receive_some() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > max_body_bytes:
            raise HTTPException(413, f"A body here has at most {max_body_bytes:,} bytes.")
        return message

    return receive_some


async def identify(scope: Scope, deps: ControlDeps) -> Caller:
    """The caller by the credential shown, else by their session, else by the way they came. Raises Problem: 401 for a
    wrong credential, 403 for a session without its CSRF token.
    """
    shown = _credential(scope)
    if shown is not None:
        return _by_credential(shown, deps)
    signed_in = await by_session(scope, deps)
    if signed_in is not None:
        return signed_in
    server = scope.get("server")
    return OWNER if server is not None and server[1] is None else NOBODY


async def by_session(scope: Scope, deps: ControlDeps) -> Caller | None:
    """Whose session's cookie is shown, read anew: a demoted admin is none at once. None without a session."""
    keeper = deps.doorkeeper
    token = session_token(scope)
    session = None if keeper is None or not token else keeper.book.find(token)
    if keeper is None or session is None:
        return None
    check_csrf(scope, session, keeper.options.public_url)
    user_id = session.user_id

    def query(connection: Connection) -> tuple[User | None, tuple[Membership, ...]]:
        return directory.get_user(connection, user_id), memberships_of(connection, user_id)

    user, teams = await deps.read(query)
    if user is None or user.blocked_at_ns is not None or user.role is Role.SERVICE:
        raise Problem(401, "user_blocked", "This account is blocked. Ask the operator of this gateway.")
    return Caller(user.role, user_id, {member.team_id: member.role for member in teams}, session=session)


def _by_credential(shown: str, deps: ControlDeps) -> Caller:
    # Both sides are hashed to one length first, so that the time tells nothing about the key's.
    if deps.master_key and hmac.compare_digest(_fingerprint(shown), _fingerprint(deps.master_key)):
        return OWNER
    key = deps.own_key(shown)
    if key is None:
        raise Problem(
            401,
            "invalid_credentials",
            "This is neither the master key nor a valid virtual key. The owner's is set by TOLLHOUSE_MASTER_KEY.",
            headers={"www-authenticate": "Bearer"},
        )
    return Caller(key=key)


def _fingerprint(text: str) -> bytes:
    return hmac.digest(b"compare", text.encode("utf-8", "surrogateescape"), "sha256")


def _credential(scope: Scope) -> str | None:
    """The Bearer token or the `x-api-key` (as on the data plane); None without either."""
    found: list[str] = []
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            found.append(token.strip() if scheme.lower() == "bearer" else "")
        elif name == b"x-api-key":
            found.append(value.decode("latin-1").strip())
    if not found:
        return None
    return found[0] if len(set(found)) == 1 else ""


def _shows_bearer(scope: Scope) -> bool:
    return any(name == b"authorization" and value[:7].lower() == b"bearer " for name, value in scope["headers"])


def _too_often(what: str, wait_s: float) -> Problem:
    wait = max(1, math.ceil(wait_s))
    return Problem(429, "rate_limited", f"{what} Try again in {wait} s.", headers={"retry-after": str(wait)})


def _missing(else_: str) -> Problem:
    return Problem(
        401,
        "missing_credentials",
        f"This needs the master key in `Authorization: Bearer …` (TOLLHOUSE_MASTER_KEY at the server){else_}.",
        headers={"www-authenticate": "Bearer"},
    )
