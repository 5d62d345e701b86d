"""The management API: one FastAPI application behind one gate."""

from typing import Any

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from tollhouse import __version__
from tollhouse.controlplane import (
    audit,
    budgets,
    contents,
    credentials,
    declarations,
    erasing,
    keys,
    litellm,
    litellm_people,
    me,
    members,
    minting,
    my_credentials,
    notices,
    pausing,
    plans,
    problems,
    providers,
    reports,
    system,
    teams,
    users,
    vault,
    webhooks,
)
from tollhouse.controlplane.access import Gate
from tollhouse.controlplane.attributed import Attributed
from tollhouse.controlplane.authz import ForwardAuth
from tollhouse.controlplane.deps import ControlDeps
from tollhouse.controlplane.etags import Tagged
from tollhouse.controlplane.idempotency import Once
from tollhouse.controlplane.problems import NO_STORE
from tollhouse.controlplane.sign_in import invitations, oidc, pages, sessions
from tollhouse.controlplane.sign_in import routes as sign_in

ROUTERS = (
    system.router,
    sign_in.router,
    sessions.router,
    invitations.router,
    oidc.router,
    pages.router,
    me.router,
    my_credentials.router,
    credentials.router,
    erasing.router,
    users.router,
    teams.router,
    members.router,
    plans.router,
    minting.router,
    keys.router,
    pausing.router,
    budgets.router,
    reports.router,
    contents.router,
    litellm.router,
    litellm_people.router,
    declarations.router,
    providers.router,
    webhooks.router,
    notices.router,
    vault.router,
    audit.router,
)


def build_api(deps: ControlDeps) -> FastAPI:
    """The application to mount beside the data plane; also answers in-process, without a server."""
    api = FastAPI(
        title="Tollhouse",
        version=__version__,
        openapi_url=None,  # our own routes serve both, behind the gate and without foreign scripts
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    api.state.deps = deps
    problems.install(api)
    for router in ROUTERS:
        api.include_router(router)
    api.add_middleware(Tagged)
    api.add_middleware(Once, deps=deps)
    api.add_middleware(Attributed, deps=deps)
    api.add_middleware(Gate, deps=deps)
    api.add_middleware(ForwardAuth, deps=deps)
    api.add_middleware(_Careful)
    return api


CAREFUL = {
    **NO_STORE,
    "content-security-policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
"""For every answer that does not say otherwise itself, as pages do."""
HSTS = (b"strict-transport-security", b"max-age=31536000")
"""A year. Not for its subdomains: who runs a gateway at `example.com` has not said that of all else there."""
_LOCAL = (b"localhost", b"127.0.0.1", b"[")
"""Where a browser that remembers HTTPS would keep somebody from whatever else they run on their machine."""


class _Careful:
    """No answer of this API is kept by a cache, guessed at or framed by a browser, or asked for without TLS by one that
    has come by TLS; some carry secrets.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in CAREFUL.items()]
                if scope.get("scheme") == "https" and not dict(scope["headers"]).get(b"host", b"[").startswith(_LOCAL):
                    more.append(HSTS)
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in there)]
            await send(message)

        await self.app(scope, receive, with_headers)
