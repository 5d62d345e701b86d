"""Asks sent over httpx, sync and async.

What is sent again, at most `retries` times, after a pause that doubles: where no connection came about, everything;
where the connection broke or the server was busy (429, 502, 503, 504), everything that may be done twice. That is a
GET, PUT or DELETE, a PATCH without If-Match, and a POST, for its Idempotency-Key makes the server do it once.
"""

import asyncio
import ipaddress
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from tollhouse.client.asks import PAGE, Ask, PageAsk
from tollhouse.client.errors import ApiError, ServerFailed, Unreachable, of_problem

T = TypeVar("T")
TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
RETRIES = 2
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
"""A server that asks for a longer one is believed, and the error raised at once."""
AGAIN = frozenset((429, 502, 503, 504))


class _Way:
    """What both clients do alike: everything but waiting."""

    def __init__(self, base_url: str, key: str | None, retries: int) -> None:
        root = base_url.rstrip("/").removesuffix("/v1")  # the commonest mistake: the base URL of an SDK
        self.retries = retries
        self.how: dict[str, Any] = {
            "base_url": root,
            "headers": {"authorization": f"Bearer {key}"} if key else {},
            "timeout": httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            # A proxy of the environment has no business between two programs of one machine.
            "trust_env": not is_loopback(httpx.URL(root).host),
        }

    def request(self, http: httpx.Client | httpx.AsyncClient, ask: Ask[Any]) -> httpx.Request:
        headers = {} if ask.if_match is None else {"if-match": ask.if_match}
        if ask.method == "POST":
            headers["idempotency-key"] = str(uuid.uuid4())
        content = None
        if ask.body is not None:
            content = msgspec.json.encode(ask.body)
            headers["content-type"] = "application/json"
        return http.build_request(ask.method, ask.path, params=dict(ask.query), content=content, headers=headers)

    def pause_s(self, ask: Ask[Any], error: ApiError, tried: int) -> float | None:
        """How long to wait before it is sent again; None: do not."""
        unsent = isinstance(error, Unreachable) and isinstance(
            error.__cause__, httpx.ConnectError | httpx.ConnectTimeout
        )
        repeatable = ask.method != "PATCH" or ask.if_match is None
        if tried >= self.retries or not (unsent or (repeatable and (error.status in AGAIN or not error.status))):
            return None
        pause_s = FIRST_PAUSE_S * 2**tried if error.retry_after_s is None else error.retry_after_s
        return pause_s if pause_s <= LONGEST_PAUSE_S else None


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _no_answer(url: object, error: httpx.HTTPError) -> Unreachable:
    reason = f"{type(error).__name__} {error}".strip()
    return Unreachable(f"No answer from {url}: {reason}.", code="unreachable")


def decoded(answer: httpx.Response, kind: Any) -> Any:
    """The body as a type. Raises ApiError."""
    if answer.is_success:
        if kind is type(None) or (kind is Any and not answer.content):
            return None
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise _foreign(answer) from error
    try:
        problem = msgspec.json.decode(answer.content, type=dict[str, Any])
    except msgspec.MsgspecError:
        problem = {}
    if not isinstance(problem.get("detail"), str):
        raise _foreign(answer)
    raise of_problem(answer.status_code, problem, _seconds(answer.headers.get("retry-after")))


def _foreign(answer: httpx.Response) -> ServerFailed:
    message = (
        f"{answer.url.host} answered {answer.status_code}, but not as Tollhouse does; the base URL is the root of the "
        "gateway, such as https://gateway.example.org."
    )
    return ServerFailed(message, status=answer.status_code, code="not_tollhouse")


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdecimal() else None


class Client:
    """The management API as calls: `client(users.get("alice"))`. Raises ApiError.

    base_url  the root of the gateway
    key       the master key, or a virtual key (which may ask about itself)
    http      an httpx client of your own, which is not closed here
    """

    def __init__(
        self, base_url: str, key: str | None = None, *, retries: int = RETRIES, http: httpx.Client | None = None
    ) -> None:
        self._way = _Way(base_url, key, retries)
        self._http = http or httpx.Client(**self._way.how)
        self._mine = http is None

    def __call__(self, ask: Ask[T]) -> T:
        request, tried = self._way.request(self._http, ask), 0
        while True:
            try:
                return self._sent(request, ask)
            except ApiError as error:
                pause_s = self._way.pause_s(ask, error, tried)
                if pause_s is None:
                    raise
            time.sleep(pause_s)
            tried += 1

    def _sent(self, request: httpx.Request, ask: Ask[T]) -> T:
        try:
            answer = self._http.send(request)
        except httpx.HTTPError as error:
            raise _no_answer(request.url.copy_with(path="/", query=None), error) from error
        found: T = decoded(answer, ask.answer)
        return found

    def all(self, ask: PageAsk[T], *, page: int = PAGE) -> Iterator[T]:
        """Every item of a list, page by page as they are needed."""
        cursor: str | None = None
        while True:
            part = self(ask.page(cursor, page))
            yield from part.items
            cursor = part.next_cursor
            if cursor is None:
                return

    def close(self) -> None:
        if self._mine:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """As `Client`, to be awaited."""

    def __init__(
        self, base_url: str, key: str | None = None, *, retries: int = RETRIES, http: httpx.AsyncClient | None = None
    ) -> None:
        self._way = _Way(base_url, key, retries)
        self._http = http or httpx.AsyncClient(**self._way.how)
        self._mine = http is None

    async def __call__(self, ask: Ask[T]) -> T:
        request, tried = self._way.request(self._http, ask), 0
        while True:
            try:
                return await self._sent(request, ask)
            except ApiError as error:
                pause_s = self._way.pause_s(ask, error, tried)
                if pause_s is None:
                    raise
            await asyncio.sleep(pause_s)
            tried += 1

    async def _sent(self, request: httpx.Request, ask: Ask[T]) -> T:
        try:
            answer = await self._http.send(request)
        except httpx.HTTPError as error:
            raise _no_answer(request.url.copy_with(path="/", query=None), error) from error
        found: T = decoded(answer, ask.answer)
        return found

    async def all(self, ask: PageAsk[T], *, page: int = PAGE) -> AsyncIterator[T]:
        cursor: str | None = None
        while True:
            part = await self(ask.page(cursor, page))
            for item in part.items:
                yield item
            cursor = part.next_cursor
            if cursor is None:
                return

    async def close(self) -> None:
        if self._mine:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
