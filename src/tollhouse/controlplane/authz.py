"""Forward authentication: a proxy asks here, before it lets a request through to an application of the operator's, who
it belongs to and whether there is room left.

    /authz          nginx `auth_request`: a GET of its own, with the request's headers. What the request really wants
                    to do stands in `x-original-method` (or `x-forwarded-method`); without it, it may want to change
                    something
    /authz/{path}   Envoy's `ext_authz`, and gateways like it: the request's own method, and its path behind ours

    200   x-tollhouse-user, -role, -team, -plan, -key; -budget, -budget-remaining-usd (or -tokens, -requests),
          -budget-reset of the budget nearest to its end; x-ratelimit-*-requests of the tightest limit of requests
    401   nobody, or nobody any more
    403   a budget is used up (with the headers of 200: an application may let pass what needs no model), or a page
          of another site; `x-tollhouse-reason` says which
    503   it cannot be told right now

Nothing is taken from any limit or budget, and no provider's key is ever told. A value may be any text: what is not
visible ASCII, and `%`, is percent-encoded (`decodeURIComponent` reads it).
"""

from collections.abc import Iterator
from urllib.parse import quote

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tollhouse.controlplane.deps import ControlDeps
from tollhouse.controlplane.problems import NO_STORE
from tollhouse.ports import BudgetStanding, CallerStanding
from tollhouse.rules.budgets import describe
from tollhouse.rules.limits import Room
from tollhouse.terms.errors import Refusal
from tollhouse.terms.money import decimal_usd
from tollhouse.terms.people import BudgetUnit

PATH = "/authz"
_VISIBLE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_UNKNOWN_METHOD = "POST"
"""What may change something."""


class ForwardAuth:
    """The ASGI layer in front of everything else: it asks for no permission but who it is."""

    def __init__(self, app: ASGIApp, deps: ControlDeps) -> None:
        self.app = app
        self.deps = deps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (scope["path"] == PATH or scope["path"].startswith(f"{PATH}/")):
            await self.app(scope, receive, send)
            return
        try:
            found = await self.deps.who(original_method(scope), scope["headers"])
            answer = self._known(found)
        except Refusal as refusal:
            answer = refused(refusal)
        await answer(scope, receive, send)

    def _known(self, found: CallerStanding) -> Response:
        """Whose it is, also where there is no room: what needs no model may pass all the same."""
        try:
            check_budgets(found)
            answer = Response(status_code=200, headers=NO_STORE)
        except Refusal as refusal:
            answer = refused(refusal)
        answer.headers.update(dict(told(found)))
        return answer


def original_method(scope: Scope) -> str:
    """What the request wants to do, by the way it was asked about."""
    method: str = scope["method"]
    if scope["path"] != PATH:
        return method
    headers = Headers(scope=scope)
    said = headers.get("x-original-method") or headers.get("x-forwarded-method")
    if said is not None:
        return said if said in _METHODS else _UNKNOWN_METHOD
    return _UNKNOWN_METHOD if method in ("GET", "HEAD") else method


def check_budgets(found: CallerStanding) -> None:
    """Raises Refusal (403): one is used up. A limit that is full for a minute shuts nobody out of an application: its
    headers say so.
    """
    for standing in found.budgets:
        if standing.remaining <= 0:
            message = f"The budget of {describe(standing.budget)} is used up."
            raise Refusal(403, "budget_exhausted", message, scope=standing.budget.whose)


def told(found: CallerStanding) -> Iterator[tuple[str, str]]:
    """The headers of a request that may pass."""
    user = found.user
    yield "x-tollhouse-user", visible(user.user_id)
    yield "x-tollhouse-role", user.role.value
    yield "x-tollhouse-key", visible(found.key_id)
    if found.team is not None:
        yield "x-tollhouse-team", visible(found.team.team_id)
    if found.plan_id:
        yield "x-tollhouse-plan", visible(found.plan_id)
    if found.budgets:
        yield from _of_budget(min(found.budgets, key=_share_left))
    requests = [room for room in found.rooms if room.kind.startswith("requests_")]
    if requests:
        yield from _of_limit(min(requests, key=lambda room: room.remaining))


def _share_left(standing: BudgetStanding) -> float:
    return standing.remaining / max(standing.budget.limit, 1)


def _of_budget(standing: BudgetStanding) -> Iterator[tuple[str, str]]:
    unit, left = standing.budget.unit, standing.remaining
    yield (
        "x-tollhouse-budget",
        f"{standing.budget.scope.value} {visible(standing.budget.scope_name or standing.budget.scope_id)}",
    )
    yield f"x-tollhouse-budget-remaining-{unit.value}", decimal_usd(left) if unit is BudgetUnit.USD else str(left)
    if standing.resets_at_s is not None:
        yield "x-tollhouse-budget-reset", str(standing.resets_at_s)


def _of_limit(room: Room) -> Iterator[tuple[str, str]]:
    yield "x-ratelimit-limit-requests", str(room.limit)
    yield "x-ratelimit-remaining-requests", str(room.remaining)
    if room.reset_s is not None:
        yield "x-ratelimit-reset-requests", f"{room.reset_s:.3f}s"


def visible(text: str) -> str:
    """Any text as a header's value."""
    return quote(text, safe=_VISIBLE, errors="surrogatepass")


def refused(refusal: Refusal) -> Response:
    """401, 403 or 503, with the reason in a header: nginx passes no body of ours on."""
    status = refusal.status if refusal.status in (401, 503) else 403
    headers = {**NO_STORE, "x-tollhouse-reason": refusal.code}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(refusal.retry_after_s)))
    error = {"code": refusal.code, "message": refusal.message, "scope": refusal.scope}
    return Response(msgspec.json.encode({"error": error}), status, headers, "application/json")
