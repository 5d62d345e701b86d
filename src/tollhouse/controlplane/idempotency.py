"""`Idempotency-Key` on POST: what was done once is not done again, however often a client whose connection broke asks.

1. A key belongs to its caller and route. The first request that changes something under it leaves a mark in the very
   transaction of the change: both are there or neither, also after a crash.
2. Its answer is kept for a day, and given again to the same body, with `idempotency-replayed: true`. Another body under
   the same key is a 422. Where the work was done and the answer lost (a crash in between), it is a 409 that says so.
3. What changed nothing (a refusal) leaves no mark: correct it and ask again with the same key.

Answers hold secrets: the key that was created is in it. So the answer is sealed (AES-256-GCM) with a key made of the
server secret and the client's own Idempotency-Key, which is not stored: who steals database *and* server secret opens
nothing as long as clients choose keys that cannot be guessed.
"""

import contextlib
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tollhouse.controlplane.access import NOBODY, Caller
from tollhouse.controlplane.deps import ControlDeps
from tollhouse.controlplane.problems import NO_STORE, Problem, problem_response, storage_problem
from tollhouse.storage import idempotency
from tollhouse.terms.errors import StorageError

MAX_KEY_CHARS = 255
MAX_ANSWER_BYTES = 64 * 1024
"""Larger answers are not kept: asking again is then the 409 of a lost answer."""
_NONCE_BYTES = 12
_KEPT_HEADERS = (b"content-type", b"etag")


class _Answer(msgspec.Struct, array_like=True):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Mark:
    """Put into the transaction that does the work, once."""

    def __init__(self, write: Callable[[Connection], bool]) -> None:
        self._write = write
        self.made = False

    def __call__(self, connection: Connection) -> None:
        """Raises Problem (409) when somebody else did it meanwhile; the transaction is rolled back then."""
        if not self.made:
            if not self._write(connection):
                raise Problem(409, "idempotency_in_use", "A request with this Idempotency-Key was just carried out.")
            self.made = True


class Once:
    """An ASGI layer behind the gate."""

    def __init__(self, app: ASGIApp, deps: ControlDeps) -> None:
        self.app = app
        self.deps = deps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shown = [value for name, value in scope.get("headers", ()) if name == b"idempotency-key"]
        if scope["type"] != "http" or scope["method"] != "POST" or not shown or _caller(scope) is NOBODY:
            await self.app(scope, receive, send)
            return
        try:
            await self._once(scope, receive, send, shown)
        except Problem as problem:
            await problem_response(scope["path"], problem)(scope, receive, send)
        except HTTPException as error:  # a body that is too large
            too_large = Problem(error.status_code, "request_too_large", str(error.detail))
            await problem_response(scope["path"], too_large)(scope, receive, send)
        except StorageError as error:
            await problem_response(scope["path"], storage_problem(error))(scope, receive, send)

    async def _once(self, scope: Scope, receive: Receive, send: Send, shown: list[bytes]) -> None:
        deps, now_ns = self.deps, self.deps.now_ns()
        body = await _read(receive)
        if body is None:
            return
        since_ns = now_ns - deps.options.idempotency_keep_s * 10**9
        secret = self._secret(scope, _key(shown))
        name, body_digest = _derived(secret, b"name"), _derived(secret, b"body", body)
        done = await deps.read(lambda connection: idempotency.find(connection, name, since_ns=since_ns))
        if done is not None:
            await _replay(secret, done, body_digest, send)
            return
        mark = Mark(
            lambda connection: idempotency.mark(
                connection,
                name,
                body_digest,
                now_ns=now_ns,
                since_ns=since_ns,
                max_rows=deps.options.idempotency_rows,
            )
        )
        answer = _Answer(0, [], b"")

        async def send_and_keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = [pair for pair in message["headers"] if pair[0] in _KEPT_HEADERS]
            else:
                answer.body += message.get("body", b"")[: MAX_ANSWER_BYTES + 1]
                if mark.made and not message.get("more_body", False):
                    await self._keep(secret, name, answer)
            await send(message)

        await self.app({**scope, "tollhouse.mark": mark}, _again(body), send_and_keep)

    async def _keep(self, secret: bytes, name: bytes, answer: _Answer) -> None:
        if not 200 <= answer.status < 300 or len(answer.body) > MAX_ANSWER_BYTES:
            return
        sealed = _seal(secret, msgspec.msgpack.encode(answer), self.deps.random_bytes(_NONCE_BYTES))
        with contextlib.suppress(StorageError):  # the work is done, and told; asking again says that the answer is lost
            await self.deps.database.run(lambda connection: idempotency.keep_answer(connection, name, sealed))

    def _secret(self, scope: Scope, key: bytes) -> bytes:
        """Of this caller, route and key: nobody else makes it."""
        caller = _caller(scope)
        who = f"key:{caller.key.key_id}" if caller.key is not None else f"user:{caller.user_id}"
        parts = (who.encode(), scope["path"].encode(), scope.get("query_string", b""), key)
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self.deps.server_secret, b"idempotency" + framed, "sha256")


def _caller(scope: Scope) -> Caller:
    caller: Caller = scope.get("tollhouse.caller", NOBODY)
    return caller


def _key(shown: list[bytes]) -> bytes:
    key = shown[0].strip()
    if len(shown) > 1 or not 0 < len(key) <= MAX_KEY_CHARS or not all(32 < byte < 127 for byte in key):
        raise Problem(
            400,
            "invalid_request",
            f"Idempotency-Key: is 1 to {MAX_KEY_CHARS} visible ASCII characters, best a random UUID, sent once.",
            field="Idempotency-Key",
        )
    return key


def _derived(secret: bytes, purpose: bytes, of: bytes = b"") -> bytes:
    return hmac.digest(secret, purpose + b"\0" + hashlib.sha256(of).digest(), "sha256")


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when its sender left. Raises HTTPException (413)."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    return receive


async def _replay(secret: bytes, done: idempotency.Done, body_digest: bytes, send: Send) -> None:
    if not hmac.compare_digest(done.body_digest, body_digest):
        raise Problem(422, "idempotency_mismatch", "This Idempotency-Key was used with another body; choose a new key.")
    if not done.answer:
        raise Problem(
            409,
            "idempotency_answer_lost",
            "This was carried out before, but its answer was lost. Look at the list before you ask with a new key.",
        )
    answer = msgspec.msgpack.decode(_open(secret, done.answer), type=_Answer)
    careful = [(name.encode(), value.encode()) for name, value in NO_STORE.items()]
    headers = [*answer.headers, *careful, (b"content-length", b"%d" % len(answer.body))]
    headers.append((b"idempotency-replayed", b"true"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _cipher(secret: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  first use: keeps it out of a start

    return AESGCM(_derived(secret, b"seal"))


def _seal(secret: bytes, answer: bytes, nonce: bytes) -> bytes:
    return nonce + bytes(_cipher(secret).encrypt(nonce, answer, b""))


def _open(secret: bytes, sealed: bytes) -> bytes:
    return bytes(_cipher(secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], b""))
