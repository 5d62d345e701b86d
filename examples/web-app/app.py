"""The back end of a prompt-flow builder whose users call a model through Tollhouse.

    browser ── this back end ──┬── the page, and /flows: kept here, each user's own
                               └── /api/chat, /v1/…, sign-in, own keys: passed on to Tollhouse, with the cookie

It holds no secret at all. The provider's key is Tollhouse's; who signs in, with which password, what they have used and
what is left is Tollhouse's too; a provider key of a user's own passes through it and stays in Tollhouse. Of a request
to `/flows` it asks Tollhouse whose it is (`/authz`), and believes that.

    python examples/web-app/app.py --tollhouse http://127.0.0.1:4000 --port 8000
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

import httpx
import uvicorn
from flows import Flow, FlowStore, read_flow
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE = Path(__file__).parent / "page"
MAX_BODY_BYTES = 1024 * 1024
CONNECT_TIMEOUT_S = 5.0
SILENCE_TIMEOUT_S = 300.0
"""How long Tollhouse may say nothing. It sends pings into a stream that is silent for longer than seconds."""
MAX_CONNECTIONS = 500

HEADERS = {
    # No script, style, image or connection but from here; nobody may show the page in a frame; a form cannot leave.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
"""What concerns one connection only (RFC 9110 section 7.6.1); each side has its own."""
NOT_BELIEVED = {b"forwarded", b"x-forwarded-for", b"x-real-ip"}
"""Where a request comes from is said here, not by the browser."""
SHOWN = {b"cookie", b"host", b"origin", b"sec-fetch-site", b"x-csrf-token"}
"""What tells whose a request is, and that their own page made it."""
NO_ROOM = {"budget_exhausted", "rate_limited"}
"""Reasons that are none here: who has no call left today still reaches what is theirs."""


class Refused(Exception):
    """An answer of this back end that says no, in the form of Tollhouse's (RFC 9457), so that the page reads one."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail

    def answer(self) -> Response:
        body = {"status": self.status, "code": self.code, "detail": self.detail}
        return JSONResponse(body, self.status, media_type="application/problem+json")


def unreachable() -> Refused:
    return Refused(502, "gateway_unreachable", "The model gateway does not answer. Try again in a minute.")


def no_such_flow() -> Refused:
    return Refused(404, "not_found", "You have no such flow; it may have been deleted in another window.")


# What Tollhouse answers


async def pass_on(request: Request) -> Response:
    """This request as Tollhouse answers it. A stream flows on as it comes, and ends there when the browser leaves."""
    gateway: httpx.AsyncClient = request.app.state.gateway
    target = request.scope["raw_path"] + (b"?" + query if (query := request.scope["query_string"]) else b"")
    sent = gateway.build_request(
        request.method,
        gateway.base_url.copy_with(raw_path=target),
        # Host and Origin as the browser sent them: Tollhouse compares the two.
        headers=[pair for pair in request.headers.raw if pair[0] not in HOP_BY_HOP | NOT_BELIEVED]
        + [(b"x-forwarded-for", request.client.host.encode() if request.client else b"unknown")],
        content=await whole_body(request),
    )
    answer = await sent_while_there(request, gateway, sent)
    passed = StreamingResponse(pieces(answer), answer.status_code)
    passed.raw_headers = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in HOP_BY_HOP]
    return passed


async def whole_body(request: Request) -> bytes:
    """Raises Refused (413) before more than MAX_BODY_BYTES are kept."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise Refused(413, "request_too_large", f"At most {MAX_BODY_BYTES:,} bytes can be sent at once.")
    return bytes(body)


async def sent_while_there(request: Request, gateway: httpx.AsyncClient, sent: httpx.Request) -> httpx.Response:
    """The head of the answer. A browser that leaves before it comes ends the call too: nobody would read it."""
    answering = asyncio.ensure_future(gateway.send(sent, stream=True))
    leaving = asyncio.ensure_future(request.receive())  # the body is read: what comes next is that they left
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise Refused(499, "client_left", "The browser did not wait for the answer.")
        return answering.result()
    except httpx.HTTPError as error:
        raise unreachable() from error
    finally:
        leaving.cancel()
        answering.cancel()


async def pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()


async def user_of(request: Request) -> str:
    """Whose request this is, by Tollhouse's word. Raises Refused in its words when it is nobody's."""
    gateway: httpx.AsyncClient = request.app.state.gateway
    headers = [pair for pair in request.headers.raw if pair[0] in SHOWN]
    headers += [(b"x-original-method", request.method.encode()), (b"x-original-uri", request.scope["raw_path"])]
    try:
        answer = await gateway.get("/authz", headers=headers)
    except httpx.HTTPError as error:
        raise unreachable() from error
    if answer.status_code == 200 or answer.headers.get("x-tollhouse-reason") in NO_ROOM:
        return unquote(answer.headers["x-tollhouse-user"])
    told = answer.json()["error"]
    raise Refused(answer.status_code, told["code"], told["message"])


# What is kept here


async def list_flows(request: Request) -> Response:
    store, user_id = request.app.state.flows, await user_of(request)
    flows = await run_in_threadpool(store.all_of, user_id)
    return JSONResponse({"items": [flow.as_json() for flow in flows]})


async def add_flow(request: Request) -> Response:
    store, user_id = request.app.state.flows, await user_of(request)
    flow = await sent_flow(request)
    try:
        added = await run_in_threadpool(store.add, user_id, flow)
    except ValueError as error:
        raise Refused(409, "too_many_flows", str(error)) from error
    return JSONResponse(added.as_json(), 201)


async def change_flow(request: Request) -> Response:
    store, user_id = request.app.state.flows, await user_of(request)
    changed = await run_in_threadpool(store.change, user_id, request.path_params["flow_id"], await sent_flow(request))
    if changed is None:
        raise no_such_flow()
    return JSONResponse(changed.as_json())


async def remove_flow(request: Request) -> Response:
    store, user_id = request.app.state.flows, await user_of(request)
    if not await run_in_threadpool(store.remove, user_id, request.path_params["flow_id"]):
        raise no_such_flow()
    return Response(status_code=204)


async def sent_flow(request: Request) -> Flow:
    """Raises Refused (400)."""
    body = await whole_body(request)
    try:
        return read_flow(json.loads(body))
    except ValueError as error:
        raise Refused(400, "invalid_flow", str(error)) from error


async def on_refused(request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.answer()


# The whole


class Guarded:
    """Adds HEADERS to every answer that does not say otherwise itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_guarded)


def make_app(tollhouse_url: str, database: Path) -> Starlette:
    """The back end as an ASGI application. `database` is the file of the flows, made when it is not there."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        timeout = httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S)
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS)
        app.state.flows = await run_in_threadpool(FlowStore, database)
        async with httpx.AsyncClient(base_url=tollhouse_url, timeout=timeout, limits=limits, trust_env=False) as client:
            app.state.gateway = client
            yield

    routes = [
        # All of Tollhouse that this page may reach. The rest of it (its management, its metrics) is not on the web.
        Route("/api/chat", pass_on, methods=["POST"]),
        Route("/v1/{rest:path}", pass_on, methods=["GET", "POST"]),
        Route("/api/v1/sign-up", pass_on, methods=["POST"]),
        Route("/api/v1/sign-in", pass_on, methods=["POST"]),
        Route("/api/v1/sign-out", pass_on, methods=["POST"]),
        Route("/api/v1/session", pass_on, methods=["GET"]),
        Route("/api/v1/me", pass_on, methods=["GET"]),
        Route("/api/v1/me/credentials", pass_on, methods=["GET"]),
        Route("/api/v1/me/credentials/{provider}", pass_on, methods=["PUT", "DELETE"]),
        Route("/api/v1/me/credentials/{provider}/test", pass_on, methods=["POST"]),
        Route("/flows", list_flows, methods=["GET"]),
        Route("/flows", add_flow, methods=["POST"]),
        Route("/flows/{flow_id}", change_flow, methods=["PUT"]),
        Route("/flows/{flow_id}", remove_flow, methods=["DELETE"]),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    return Starlette(
        routes=routes, middleware=[Middleware(Guarded)], exception_handlers={Refused: on_refused}, lifespan=lifespan
    )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--tollhouse", default="http://127.0.0.1:4000", metavar="URL", help="where the gateway listens")
    words.add_argument("--host", default="127.0.0.1")
    words.add_argument("--port", type=int, default=8000)
    words.add_argument("--flows", type=Path, default=Path("flows.db"), metavar="FILE", help="where flows are kept")
    said = words.parse_args()
    app = make_app(said.tollhouse, said.flows)
    uvicorn.run(app, host=said.host, port=said.port, server_header=False, proxy_headers=False)


if __name__ == "__main__":
    main()
