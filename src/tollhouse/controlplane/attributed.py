"""Behind the gate: whatever a request changes is recorded as its caller's doing (see `storage.trail`)."""

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tollhouse.controlplane.access import NOBODY, Caller
from tollhouse.controlplane.permissions import action_of
from tollhouse.storage.acting import acting
from tollhouse.terms.audit import Author

if TYPE_CHECKING:
    from tollhouse.controlplane.deps import ControlDeps

REQUEST_ID = b"x-tollhouse-request-id"
MAX_CLIENT_CHARS = 64
_ID_BYTES = 12
_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
"""What stands in a user agent that says Mozilla, the first one that does, and whose it is."""


def new_request_id() -> str:
    return f"mgmt_{secrets.token_hex(_ID_BYTES)}"


class Attributed:
    """An ASGI layer. It also names the request, in the answer and in every record of it."""

    def __init__(self, app: ASGIApp, deps: "ControlDeps", request_id: Callable[[], str] = new_request_id) -> None:
        self.app = app
        self.request_id = request_id
        self.served = deps.doorkeeper is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = scope.get("tollhouse.caller")
        if scope["type"] != "http" or caller is None:
            await self.app(scope, receive, send)
            return
        request_id = self.request_id()

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (REQUEST_ID, request_id.encode())]}
            await send(message)

        with acting(author_of(scope, caller, request_id, served=self.served)):
            await self.app(scope, receive, send_named)


def author_of(scope: Scope, caller: Caller, request_id: str, *, served: bool = True) -> Author:
    """`served`: by a gateway, not by a command in its own process."""
    headers = Headers(scope=scope)
    kind, name, way = _who(caller)
    by_socket = kind == "operator" and "authorization" not in headers and "x-api-key" not in headers
    if by_socket:
        way = "socket" if served else "command"
    client = scope.get("client")
    return Author(
        kind=kind,
        name=name,
        way=way,
        address="" if by_socket or not client else str(client[0]),
        client=family(headers.get("user-agent", "")),
        action=action_of(scope["method"], scope["path"]),
        request_id=request_id,
    )


def _who(caller: Caller) -> tuple[str, str, str]:
    if caller.key is not None:
        return "key", caller.key.key_id, "virtual key"
    if caller.user_id:
        return "user", caller.user_id, "session"
    return ("nobody", "", "sign-in") if caller is NOBODY or caller.role is None else ("operator", "", "master key")


def family(agent: str) -> str:
    """Which program it is, without its version: `curl`, `python-httpx`, `Firefox`."""
    name = agent.split("/", 1)[0].split(" ", 1)[0]
    if name == "Mozilla":
        name = next((called for sign, called in _BROWSERS if f"{sign}/" in agent), name)
    return "".join(character for character in name if character.isprintable())[:MAX_CLIENT_CHARS]
