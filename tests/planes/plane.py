"""The data plane on a real socket in the test's own loop: edge, exchange, accounts and pool as they are; the journal
and the way to the ledger are lists.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import uvicorn
from uvicorn.server import ServerState

from tests.planes.wire import Peer, connect, until
from tollhouse.dataplane.accounts import Accounts, MoneyOptions
from tollhouse.dataplane.edge import protocol_class
from tollhouse.dataplane.exchange import Exchange
from tollhouse.dataplane.gate import EdgeOptions, Gate
from tollhouse.dataplane.head import ROUTES, RequestHead
from tollhouse.dataplane.identify import Scheme, VirtualKeyScheme
from tollhouse.dataplane.plan import Planner
from tollhouse.dataplane.plane import Plane, PlaneOptions, no_vault
from tollhouse.dataplane.relay import Relay
from tollhouse.dataplane.snapshot import Snapshot
from tollhouse.dataplane.stored_keys import Opener
from tollhouse.dataplane.turn import Turn
from tollhouse.dialects.anthropic import ANTHROPIC
from tollhouse.dialects.openai_chat import OPENAI_CHAT
from tollhouse.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from tollhouse.dialects.openai_responses import OPENAI_RESPONSES
from tollhouse.dialects.page import PAGE, Pinned
from tollhouse.limiter.memory import MemoryLimiter
from tollhouse.rules import keys
from tollhouse.rules.prices import ModelFacts, Rates, rate_card
from tollhouse.telemetry import Telemetry
from tollhouse.terms.errors import JournalError
from tollhouse.terms.events import HoldRecord, Record, Refused, Settlement, SettleRecord
from tollhouse.terms.names import Endpoint, ScopeKind
from tollhouse.terms.people import Budget, DirectoryImage, KeySecret, User, VirtualKey
from tollhouse.upstream.origin import Proxy
from tollhouse.upstream.pool import Pool, PoolOptions
from tollhouse.upstream.providers import ProviderSpec, build_provider

SECRET = b"s" * 32
KEY = keys.mint(b"k" * 32).encode()
T0_NS = 1_790_000_000_000_000_000
CARD = rate_card(
    version="test",
    source="test",
    standard=(Rates(3_000_000, 15_000_000, 3_750_000, 6_000_000, 300_000, 0, 0),),
)
FACTS = ModelFacts(CARD, 200_000, 64_000)
BUDGET = Budget("bud_alice", ScopeKind.USER, "alice", 100 * 10**9)


class ListJournal:
    """The journal as a list; `broken` makes every write fail, `sync_broken` the wait for the disk."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.entered: list[Record] = []
        self.well = True
        self.broken = False
        self.sync_broken = False

    def append(self, record: Record) -> None:
        self.enter(record)
        if isinstance(record, HoldRecord) or not self.broken:
            self.flush()

    def enter(self, record: Record) -> None:
        self.entered.append(record)

    def flush(self) -> None:
        entered, self.entered = self.entered, []
        if self.broken:
            lost = [record.attempt_id for record in entered if isinstance(record, HoldRecord)]
            raise JournalError("no space left", lost)
        self.records += entered

    async def synced(self) -> None:
        await asyncio.sleep(0)
        if self.sync_broken:
            raise JournalError("the disk is gone")


class FakeCaller:
    """Who asks for messages, in a few words."""

    route = ROUTES[b"/v1/messages"]
    head = RequestHead(b"POST", b"/v1/messages", b"", "1.1", True)

    def __init__(self, request_id: str, at_ns: int) -> None:
        self.request_id = request_id
        self.at_ns = at_ns


class ListOutbox:
    def __init__(self) -> None:
        self.settlements: list[Settlement] = []
        self.full = False

    def put(self, settlement: Settlement) -> None:
        self.settlements.append(settlement)


class Running:
    """A plane that listens on `port`."""

    def __init__(
        self, gate: Gate, plane: Plane, journal: ListJournal, outbox: ListOutbox, port: int, snapshot: Snapshot
    ) -> None:
        self.gate = gate
        self.plane = plane
        self.accounts = plane.accounts
        self.journal = journal
        self.settlements = outbox.settlements
        self.refused: list[Refused] = []
        self.port = port
        self.credentials_refused: list[tuple[str, str, int]] = []
        """Provider, id of the stored credential, status."""
        self.snapshot = snapshot
        self.state = ServerState()

    async def client(self, **options: Any) -> Peer:
        return await connect(self.port, **options)

    def change(self, people: DirectoryImage) -> None:
        """Another directory, as after a change that was committed."""
        self.accounts.adopt(people)
        self.snapshot.replace(people, None)

    @property
    def held(self) -> int:
        return self.accounts.standing(BUDGET).held

    @property
    def settled(self) -> Settlement:
        """The one call there was; nothing is held any more, and what is journalled agrees."""
        self.gate.turn.end()
        assert len(self.settlements) == 1
        assert self.held == 0
        assert not self.accounts.holds
        settlement = self.settlements[0]
        posted = self.accounts.standing(BUDGET).posted
        assert posted == settlement.settle.amount_nusd
        assert [type(record) for record in self.journal.records] == [HoldRecord, SettleRecord]
        return settlement


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """The management plane of these tests: says which path was asked, after the whole body."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            break
    said = scope["path"].encode() + b" " + str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
    await send({"type": "http.response.body", "body": said})


def image(*budgets: Budget, posted: dict[tuple[str, int], int] | None = None) -> DirectoryImage:
    return DirectoryImage(
        users=(User("alice"),),
        keys=(VirtualKey("key_1", "alice"),),
        secrets=(KeySecret(keys.digest(SECRET, KEY), "key_1"),),
        budgets=budgets or (BUDGET,),
        posted=posted or {},
    )


@contextlib.asynccontextmanager
async def plane(
    upstream_port: int = 1,
    *,
    edge: dict[str, Any] | None = None,
    pool: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    provider: dict[str, Any] | None = None,
    budget: Budget = BUDGET,
    facts: ModelFacts = FACTS,
    people: DirectoryImage | None = None,
    schemes: Callable[[Snapshot], Sequence[Scheme]] = lambda snapshot: (),
    chat: Pinned | None = None,
    open_key: Opener = no_vault,
    captured: Callable[[Exchange], Relay] = Relay,
) -> AsyncIterator[Running]:
    """A running plane, whose provider `mock` serves claude-* (and gpt-* by `mockchat`) on this port. A `budget` of
    another limit keeps the id of BUDGET. `people` stand in the directory instead of alice and her budget.
    `schemes` are more ways to show who one is.
    """
    loop = asyncio.get_running_loop()
    journal, outbox = ListJournal(), ListOutbox()
    snapshot = Snapshot()
    turn = Turn(journal, loop)
    accounts = Accounts(turn, outbox, MoneyOptions(), lambda: T0_NS)
    turn.lost = accounts.lost
    people = people or image(budget)
    accounts.adopt(people)
    snapshot.replace(people, None)
    tls = ssl.create_default_context()

    def no_proxy(scheme: str, host: str) -> Proxy | None:
        return None

    specs = [
        ProviderSpec(
            name, kind, f"http://127.0.0.1:{upstream_port}", "upstream-secret", (pattern,), (), **provider or {}
        )
        for name, kind, pattern in (("mock", "anthropic", "claude-*"), ("mockchat", "openai", "gpt-*"))
    ]
    providers = tuple(build_provider(spec, allow_plain_http=True, tls=tls, proxy_for=no_proxy) for spec in specs)
    numbers = iter(range(1, 1_000_000))
    built: list[Running] = []
    the_plane = Plane(
        options=PlaneOptions(**options or {}),
        dialects={one.name: one for one in (ANTHROPIC, OPENAI_CHAT, OPENAI_RESPONSES, OPENAI_EMBEDDINGS, PAGE)},
        schemes=(VirtualKeyScheme(snapshot, SECRET, lambda: T0_NS), *schemes(snapshot)),
        directory=snapshot,
        planner=Planner(providers, lambda row, model: facts),
        limiter=MemoryLimiter(),
        accounts=accounts,
        pool=Pool(PoolOptions(**pool or {}), turn.call),
        telemetry=Telemetry(dict),
        note_refused=lambda row: built[0].refused.append(row),
        credential_refused=lambda provider, credential_id, status: built[0].credentials_refused.append(
            (provider.name, credential_id, status)
        ),
        request_id=lambda at_ns: f"req_{next(numbers):012x}",
        now_ns=lambda: T0_NS,
        chat=chat,
        open_key=open_key,
        captured=captured,
    )
    closed = frozenset(() if chat else (Endpoint.CHAT,))
    gate = Gate(EdgeOptions(**edge or {}, closed=closed), partial(Exchange, the_plane), loop, turn)
    running = Running(gate, the_plane, journal, outbox, 0, snapshot)
    built.append(running)
    config = uvicorn_config(gate)
    server = await loop.create_server(
        lambda: config.http_protocol_class(config=config, server_state=running.state, app_state={}),  # type: ignore[operator]
        "127.0.0.1",
        0,
    )
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        for one in list(gate.edges):
            one.transport.abort()
        gate.close()
        the_plane.pool.close()
        await until(lambda: not gate.edges)
        await asyncio.gather(*running.state.tasks, return_exceptions=True)
        assert gate.buffered_bytes == 0


def uvicorn_config(gate: Gate) -> uvicorn.Config:
    config = uvicorn.Config(
        hello,
        http=protocol_class(gate),  # type: ignore[arg-type]
        ws="none",
        loop="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
    )
    config.load()
    return config


def ask(*, stream: bool = False, max_tokens: int = 100, **more: Any) -> bytes:
    return json.dumps(
        {"model": "claude-x", "max_tokens": max_tokens, "stream": stream, "messages": [], **more}
    ).encode()


def post(body: bytes | None = None, *lines: bytes, path: bytes = b"/v1/messages", version: bytes = b"1.1") -> bytes:
    """A request with the good key."""
    body = ask() if body is None else body
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"POST %b HTTP/%b\r\nhost: tollhouse\r\nx-api-key: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
        path,
        version,
        KEY,
        fields,
        len(body),
        body,
    )


def get(path: bytes, *lines: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    fields = b"".join(line + b"\r\n" for line in lines)
    return b"%b %b HTTP/%b\r\nhost: tollhouse\r\nx-api-key: %b\r\n%b\r\n" % (method, path, version, KEY, fields)


MESSAGE = msgspec.json.encode(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }
)
MESSAGE_NUSD = 10 * 3_000 + 5 * 15_000
