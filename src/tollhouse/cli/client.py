"""The way from a command to the management API.

1. `--url` or TOLLHOUSE_URL: over the network, as owner by the master key.
2. The Unix socket `admin.sock` in the home, when somebody listens there: whose file it is, is owner.
3. Nothing runs: take the home's lock and answer from the same API in this process.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
import typer

from tollhouse import __version__
from tollhouse.cli.output import Failure, print_json, print_table, report
from tollhouse.client.asks import ask
from tollhouse.client.errors import ApiError, Unreachable
from tollhouse.client.http import AsyncClient, is_loopback
from tollhouse.storage.home import Home
from tollhouse.terms.errors import TollhouseError

if TYPE_CHECKING:
    from tollhouse.settings import Settings

TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
CALLED = {"user-agent": f"tollhouse/{__version__}"}
"""Who it was, for the audit trail."""

T = TypeVar("T")


class Way(msgspec.Struct, frozen=True):
    """Where to: a URL, or the home a settings file names; and whether what comes back is printed as JSON."""

    url: str | None = None
    config: Path | None = None
    as_json: bool = False


class Api:
    """The management API as calls that return the decoded answer and raise Failure.

    `kind` is the way it was reached: network | socket | offline; `base_url` where clients reach the gateway, as far as
    is known from here.
    """

    def __init__(self, http: httpx.AsyncClient, kind: str, base_url: str) -> None:
        self._client = AsyncClient(str(http.base_url), http=http)
        self.kind = kind
        self.base_url = base_url

    async def get(self, path: str, **query: Any) -> Any:
        return await self._ask("GET", path, **query)

    async def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return await self._ask("POST", path, body if body is not None else {})

    async def patch(self, path: str, body: dict[str, Any]) -> Any:
        return await self._ask("PATCH", path, body)

    async def put(self, path: str, body: dict[str, Any]) -> Any:
        return await self._ask("PUT", path, body)

    async def delete(self, path: str) -> Any:
        return await self._ask("DELETE", path)

    async def remove(self, path: str) -> Any:
        """Delete what can be read at a path; answers what it was."""
        removed = await self.get(path)
        await self.delete(path)
        return {"removed": removed}

    async def pages(self, path: str, *, limit: int, **query: Any) -> list[Any]:
        """Up to `limit` items of a list, page by page."""
        items: list[Any] = []
        cursor: str | None = None
        while len(items) < limit:
            page = await self.get(path, cursor=cursor, limit=min(500, limit - len(items)), **query)
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        return items

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> Any:
        try:
            return await self._client(ask(method, path, Any, body, **query))
        except Unreachable as error:
            remedy = "Start it with `tollhouse serve`, or correct --url / TOLLHOUSE_URL."
            raise Failure(f"{error.detail} {remedy}", code=error.code) from error
        except ApiError as error:
            remedy = " Check --url / TOLLHOUSE_URL." if error.code == "not_tollhouse" else ""
            told = {name: value for name, value in error.problem.items() if name not in _SAID}
            wrong_usage = error.status == 400
            raise Failure(
                error.detail + remedy, code=error.code, exit_code=2 if wrong_usage else 1, problem=told
            ) from error


_SAID = ("type", "title", "detail", "code")


def call(way: Way, act: Callable[[Api], Awaitable[T]]) -> T:
    """Run `act` with the API. A failure is printed and ends the command with its exit code."""

    async def go() -> T:
        async with connect(way) as api:
            return await act(api)

    try:
        return asyncio.run(go())
    except Failure as failure:
        raise typer.Exit(report(failure, as_json=way.as_json)) from failure
    except TollhouseError as error:
        raise typer.Exit(report(Failure(str(error), code=_code(error)), as_json=way.as_json)) from error


def print_answer(way: Way, act: Callable[[Api], Awaitable[T]], show: Callable[[T], object]) -> None:
    """Run `act` and print what it returns: as JSON, or for people by `show`."""
    answer = call(way, act)
    if way.as_json:
        print_json(answer)
    else:
        show(answer)


def print_list(
    way: Way,
    act: Callable[[Api], Awaitable[list[Any]]],
    columns: Sequence[str],
    row: Callable[[Any], Sequence[object]],
    *,
    empty: str,
) -> None:
    """Run `act` and print its items: as JSON, or for people as a table with one row each. `empty`: said when there are
    none.
    """
    items = call(way, act)
    if way.as_json:
        print_json({"items": items})
    else:
        print_table(columns, [row(item) for item in items], empty=empty)


def _code(error: TollhouseError) -> str:
    return {"SettingsError": "settings", "StorageError": "store_unavailable"}.get(type(error).__name__, "failed")


@contextlib.asynccontextmanager
async def connect(way: Way) -> AsyncIterator[Api]:
    """The API by the first of the three ways that applies. Raises Failure, SettingsError, StorageError."""
    url = way.url or os.environ.get("TOLLHOUSE_URL")
    if url:
        async with _over_network(url) as api:
            yield api
        return
    from tollhouse.settings import load  # noqa: PLC0415  the network's way reads no settings

    settings = load(way.config)
    home = Home(settings.home)
    try:
        path = home.socket_path() if settings.home.is_dir() else ""
        if path and listens(path):
            async with _client(httpx.AsyncHTTPTransport(uds=path), "http://tollhouse") as http:
                yield Api(http, "socket", _listener(settings))
            return
    finally:
        home.close()
    from tollhouse.app import offline_api  # noqa: PLC0415  the whole house: only when it is needed

    async with (
        offline_api(settings) as application,
        _client(httpx.ASGITransport(application), "http://tollhouse") as http,
    ):
        yield Api(http, "offline", _listener(settings))


@contextlib.asynccontextmanager
async def _over_network(url: str) -> AsyncIterator[Api]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Failure(
            f"Not a URL: {url!r}. Write --url or TOLLHOUSE_URL as https://host[:port].", code="usage", exit_code=2
        )
    local = is_loopback(parts.hostname)
    if parts.scheme == "http" and not local and not _plain_http_allowed():
        raise Failure(
            f"{url} would carry the master key in the clear. Use https://, or, on a network you trust, set "
            "TOLLHOUSE_LISTEN__ALLOW_PLAIN_HTTP=true.",
            code="insecure",
        )
    from tollhouse.settings import master_key  # noqa: PLC0415  0.3 s that the socket's way may not need

    key = master_key()
    if not key:
        raise Failure(
            f"To manage {url} the master key is needed: set TOLLHOUSE_MASTER_KEY or TOLLHOUSE_MASTER_KEY_FILE.",
            code="missing_credentials",
        )
    headers = {**CALLED, "authorization": f"Bearer {key}"}
    timeout = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    # A proxy of the environment has no business between two programs of one machine.
    root = url.rstrip("/").removesuffix("/v1")  # the commonest mistake: the base URL of an SDK
    async with httpx.AsyncClient(base_url=root, headers=headers, timeout=timeout, trust_env=not local) as http:
        yield Api(http, "network", root)


def _listener(settings: "Settings") -> str:
    """The listener's URL as a client of this machine writes it."""
    listen = settings.listen
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(listen.host, listen.host)  # noqa: S104  read, not bound
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{'https' if listen.tls_cert else 'http'}://{host}:{listen.port}"


def _client(transport: httpx.AsyncBaseTransport, base_url: str) -> httpx.AsyncClient:
    timeout = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    return httpx.AsyncClient(transport=transport, base_url=base_url, headers=CALLED, timeout=timeout, trust_env=False)


def listens(path: str) -> bool:
    """Whether somebody accepts connections on this Unix socket; a file left behind by a crash does not count."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _plain_http_allowed() -> bool:
    """The server's own setting, where the command runs in the server's environment."""
    return os.environ.get("TOLLHOUSE_LISTEN__ALLOW_PLAIN_HTTP", "").lower() in ("1", "true", "yes", "on")
