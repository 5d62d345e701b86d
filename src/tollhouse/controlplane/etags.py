"""Completes the entity tags that handlers begin (see `visit`) and answers 304 to who has the answer already."""

import hashlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HASH_BYTES = 8


class Tagged:
    """An ASGI layer. An answer whose handler named a version gets it, and a hash of the whole body, for its tag."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message | None = None
        body = bytearray()

        async def send_tagged(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _header(message, b"etag"):
                start = message
                return
            if start is None:
                await send(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                await _finish(scope, start, bytes(body), send)

        await self.app(scope, receive, send_tagged)


async def _finish(scope: Scope, start: Message, body: bytes, send: Send) -> None:
    version = _header(start, b"etag").strip(b'"')
    tag = b'"%s.%s"' % (version, hashlib.blake2b(body, digest_size=_HASH_BYTES).hexdigest().encode())
    headers = [(name, value) for name, value in start["headers"] if name != b"etag"] + [(b"etag", tag)]
    if scope["method"] in ("GET", "HEAD") and start["status"] == 200 and _has(scope, tag):
        headers = [(name, value) for name, value in headers if name not in (b"content-length", b"content-type")]
        start, body = {**start, "status": 304}, b""
    await send({**start, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _has(scope: Scope, tag: bytes) -> bool:
    """Whether `If-None-Match` names this tag; a weak one counts too (RFC 9110, 13.1.2)."""
    shown = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
    return any(one.strip().removeprefix(b"W/") in (tag, b"*") for one in shown.split(b",") if one.strip())


def _header(message: Message, wanted: bytes) -> bytes:
    return next((bytes(value) for name, value in message["headers"] if name == wanted), b"")
