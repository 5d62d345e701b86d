"""Notices on their way to real receivers: none is lost, none goes out unsigned, no receiver holds up another."""

import asyncio
import base64
import functools
import hashlib
import hmac
import json
import secrets
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.planes.control import START_NS, Desk, open_desk
from tests.scripted import CLOSE, HANG, RESET, Gate, Received, ScriptedUpstream, reply
from tollhouse.app.notices import HooksAtRest, binding
from tollhouse.events import Board, Poster
from tollhouse.events.signature import new_secret, secret_bytes, signed_headers
from tollhouse.rules.addresses import AddressRules, read_networks
from tollhouse.settings import Settings
from tollhouse.storage import notices as stored
from tollhouse.storage.database import Database
from tollhouse.storage.webhooks import create_webhook, get_webhook
from tollhouse.terms.errors import VaultError
from tollhouse.terms.notices import Notice, NoticeKind
from tollhouse.terms.webhooks import Delivery, RecordedNotice, Webhook
from tollhouse.upstream.guard import AddressGuard
from tollhouse.upstream.guarded_http import GuardedTransport
from tollhouse.vault import MasterKeys, Vault
from tollhouse.workers import Deliverer, DelivererOptions, Recorder

WAIT_S = 30.0
API = "/api/v1/webhooks"
VAULT = Vault(MasterKeys({1: b"m" * 32}))
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def verify(secret: str, received: Received) -> Any:
    """As the standard says, in other words than ours; the body as JSON."""
    key = base64.b64decode(secret.split("_", 1)[1])
    signed = f"{received.header('webhook-id')}.{received.header('webhook-timestamp')}.".encode() + received.body
    good = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert f"v1,{good}" in (received.header("webhook-signature") or "").split(" ")
    return json.loads(received.body)


def test_the_signature_of_the_standards_own_example() -> None:
    secret = secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_###", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ="])
def test_what_is_no_secret_signs_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        secret_bytes(text)


def test_nothing_is_signed_without_a_secret() -> None:
    with pytest.raises(ValueError, match="nothing is sent"):
        signed_headers(b"", "ntc_1", 1, b"{}")


# --- the way from the board to receivers


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


@pytest.fixture
def receiver() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        running.script = lambda received: [reply(200, b"thanks")]
        yield running


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Database]:
    """For what depends on receivers, not on the database."""
    opened = Database.open(tmp_path / "tollhouse.db")
    yield opened
    opened.close()


@dataclass
class Office:
    """A recorder and a deliverer on a real database, whose clock a test may put forward."""

    database: Database
    board: Board
    recorder: Recorder
    deliverer: Deliverer
    ahead_ns: list[int] = field(default_factory=lambda: [0])

    def emit(self, text: str, kind: NoticeKind = NoticeKind.ANOMALY, once: str = "") -> None:
        self.board.emit(Notice(kind, "key key_1", text, {"n": 1}, once=once))

    async def deliveries(self, webhook_id: str) -> list[Delivery]:
        """Oldest first."""
        found = await self.database.read(lambda connection: stored.list_deliveries(connection, webhook_id))
        return list(found[::-1])

    async def until(self, webhook_id: str, *states: str) -> list[Delivery]:
        """The deliveries of a webhook once they stand so."""
        async with asyncio.timeout(WAIT_S):
            while True:
                found = await self.deliveries(webhook_id)
                if [one.state.value for one in found] == list(states):
                    return found
                await asyncio.sleep(0.005)


QUICK = DelivererOptions(parallel=4, first_retry_s=0.02, last_retry_s=0.05, give_up_s=3_600)


@asynccontextmanager
async def office(
    database: Database,
    *hooks: Webhook,
    options: DelivererOptions = QUICK,
    timeout_s: float = 10.0,
    networks: tuple[str, ...] = ("127.0.0.0/8",),
) -> AsyncIterator[Office]:
    """With webhooks that are in the database from the start."""
    ahead_ns = [0]

    def now_ns() -> int:
        return time.time_ns() + ahead_ns[0]

    for hook in hooks:
        await database.run(lambda connection, hook=hook: create_webhook(connection, hook))
    rest = HooksAtRest(Settings(), VAULT)
    guard, tls = AddressGuard(AddressRules(read_networks(networks))), ssl.create_default_context()
    poster = Poster(timeout_s=timeout_s, tls=tls, parallel=4, transport=lambda: GuardedTransport(guard, tls))
    deliverer = Deliverer(database, poster, rest.secret_of, (), options, now_ns=now_ns)
    board = Board(now_ns)
    recorder = Recorder(board, database, (), deliverer.wake, max_pending=100, now_ns=now_ns)
    deliverer.start()
    recorder.start()
    try:
        yield Office(database, board, recorder, deliverer, ahead_ns)
    finally:
        await recorder.stop()
        await deliverer.stop()
        await poster.close()


def hook(receiver: ScriptedUpstream, webhook_id: str = "hook_1", **fields: Any) -> Webhook:
    sealed = VAULT.seal(SECRET.encode(), binding(webhook_id))
    base = Webhook(webhook_id, f"{receiver.url}/hooks/{webhook_id}", hint="abcd", sealed=sealed, sealed_under=1)
    return msgspec.structs.replace(base, **fields)


@in_a_loop
async def test_a_notice_is_told_signed_and_once(database: Database, receiver: ScriptedUpstream) -> None:
    async with office(database, hook(receiver)) as here:
        here.emit("first")
        here.emit("told once", once="x")
        here.emit("told once", once="x")
        done = await here.until("hook_1", "delivered", "delivered")
        here.emit("told once, after a while", once="x")
        here.emit("\0 and a lone \ud800", kind=NoticeKind.KEY_PAUSED)
        done = await here.until("hook_1", "delivered", "delivered", "delivered")
    told = [verify(SECRET, one) for one in receiver.received]
    assert [one["text"] for one in told] == ["first", "told once", "? and a lone ?"]
    assert [one["id"] for one in told] == [one.notice_id for one in done]
    assert told[0].keys() == {"id", "type", "at", "subject", "text", "data"}
    assert (told[0]["type"], told[0]["subject"], told[0]["data"]) == ("anomaly", "key key_1", {"n": 1})
    assert [receiver.received[0].header(name) for name in ("webhook-id", "content-type")] == [
        told[0]["id"],
        "application/json",
    ]
    assert [one.attempts for one in done] == [1, 1, 1]


@in_a_loop
async def test_only_what_a_webhook_wants_is_owed_to_it(plain: Database, receiver: ScriptedUpstream) -> None:
    some = hook(receiver, "hook_some", kinds=("key.*", "anomaly"))
    none = hook(receiver, "hook_none", kinds=("test",))
    off, unsigned = hook(receiver, "hook_off", enabled=False), hook(receiver, "hook_unsigned", hint="", sealed=b"")
    async with office(plain, some, none, off, unsigned) as here:
        here.emit("a", NoticeKind.ANOMALY)
        here.emit("b", NoticeKind.LOCKED_OUT)
        here.emit("c", NoticeKind.KEY_PAUSED)
        await here.until("hook_some", "delivered", "delivered")
        for other in ("hook_none", "hook_off", "hook_unsigned"):
            assert await here.deliveries(other) == []
    assert [one.json["text"] for one in receiver.received] == ["a", "c"]


@pytest.mark.parametrize("accident", ["500", "302", "reset", "close", "hang", "slow"])
@in_a_loop
async def test_what_is_not_taken_is_sent_again_with_the_same_id(
    plain: Database, receiver: ScriptedUpstream, accident: str
) -> None:
    scripts: dict[str, list[Any]] = {
        "500": [reply(500, b"x" * 100_000)],
        "302": [reply(302, b"", ("location", f"{receiver.url}/elsewhere"))],
        "reset": [RESET],
        "close": [CLOSE],
        "hang": [HANG],
        "slow": [b"HTTP/1.1 200 OK\r\n", HANG],
    }
    receiver.script = lambda received: scripts[accident] if len(receiver.received) < 3 else [reply(204, b"")]
    async with office(plain, hook(receiver), timeout_s=0.3) as here:
        here.emit("again")
        (done,) = await here.until("hook_1", "delivered")
    assert (done.attempts, done.error) == (3, "")
    assert {one.header("webhook-id") for one in receiver.received} == {done.notice_id}
    assert {one.target for one in receiver.received} == {"/hooks/hook_1"}  # no redirect was followed
    assert len({one.body for one in receiver.received}) == 1
    for one in receiver.received:
        verify(SECRET, one)


@in_a_loop
async def test_a_receiver_that_does_not_answer_is_left_alone(plain: Database, receiver: ScriptedUpstream) -> None:
    receiver.script = lambda received: [RESET]
    slow = DelivererOptions(first_retry_s=3_600, last_retry_s=3_600)
    async with office(plain, hook(receiver), options=slow) as here:
        here.emit("first")
        here.emit("second")
        async with asyncio.timeout(WAIT_S):
            while [one.attempts for one in await here.deliveries("hook_1")] != [1, 0] or here.deliverer._rounds:
                await asyncio.sleep(0.005)
        await here.deliverer._begin()
        assert not here.deliverer._rounds


@in_a_loop
async def test_an_endless_answer_is_not_read(plain: Database, receiver: ScriptedUpstream) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n"
    receiver.script = lambda received: [head, *([b"x" * 65_536] * 50), HANG]
    async with office(plain, hook(receiver)) as here:
        here.emit("long")
        await here.until("hook_1", "delivered")


@in_a_loop
async def test_a_receiver_that_is_gone_for_good_is_asked_no_more(plain: Database, receiver: ScriptedUpstream) -> None:
    receiver.script = lambda received: [reply(410, b"")]
    async with office(plain, hook(receiver)) as here:
        here.emit("one")
        here.emit("two")
        found = await here.until("hook_1", "dead", "dead")
        assert [one.error for one in found] == ["answered 410", "answered 410"]
        here.emit("three")
        await here.recorder.flush()
        assert len(await here.deliveries("hook_1")) == 2
    off = await plain.read(lambda connection: get_webhook(connection, "hook_1"))
    assert off is not None
    assert (off.enabled, off.gone_at_ns is None) == (False, False)
    assert len(receiver.received) == 1


@in_a_loop
async def test_what_nobody_takes_for_a_day_is_dead_and_stays_to_be_seen(
    plain: Database, receiver: ScriptedUpstream
) -> None:
    receiver.script = lambda received: [reply(503, b"")]
    async with office(plain, hook(receiver)) as here:
        here.emit("old")
        async with asyncio.timeout(WAIT_S):
            while len(receiver.received) < 3:
                await asyncio.sleep(0.005)
        assert [one.state.value for one in await here.deliveries("hook_1")] == ["pending"]
        here.ahead_ns[0] = 3_601 * 10**9
        (dead,) = await here.until("hook_1", "dead")
        assert (dead.status, dead.error) == (503, "answered 503")
        receiver.script = lambda received: [reply(200, b"")]
        here.emit("new")
        await here.until("hook_1", "dead", "delivered")


def test_pauses_double_up_to_a_bound_and_longer_where_the_receiver_asks(tmp_path: Any) -> None:
    deliverer = Deliverer(None, None, lambda hook: b"", (), DelivererOptions())  # type: ignore[arg-type]
    for attempts, wanted_s in ((1, 5), (2, 10), (5, 80), (11, 3_600), (1_000, 3_600)):
        assert wanted_s * 0.9 <= deliverer.pause_s(attempts, None) <= wanted_s * 1.1
    assert deliverer.pause_s(1, 120) == 120


@in_a_loop
async def test_a_receiver_that_hangs_holds_up_nobody_else(plain: Database, receiver: ScriptedUpstream) -> None:
    gate = Gate()
    receiver.script = lambda received: (
        [gate, reply(200, b"")] if received.target.endswith("slow") else [reply(200, b"")]
    )
    async with office(plain, hook(receiver, "hook_slow"), hook(receiver, "hook_2")) as here:
        for number in range(30):
            here.emit(f"{number}")
        await here.until("hook_2", *["delivered"] * 30)
        assert {one.state.value for one in await here.deliveries("hook_slow")} == {"pending"}
        assert gate.reached.is_set()
        gate.open()
        await here.until("hook_slow", *["delivered"] * 30)
    for target in ("slow", "2"):
        told = [one.json["text"] for one in receiver.received if one.target.endswith(target)]
        assert told == [f"{number}" for number in range(30)]


@in_a_loop
async def test_what_was_being_sent_is_sent_again_by_the_next_process(
    database: Database, receiver: ScriptedUpstream
) -> None:
    receiver.script = lambda received: [HANG]
    async with office(database, hook(receiver)) as here:
        here.emit("cut")
        async with asyncio.timeout(WAIT_S):
            while not receiver.received:
                await asyncio.sleep(0.005)
    receiver.script = lambda received: [reply(200, b"")]
    async with office(database) as here:
        await here.until("hook_1", "delivered")
    assert len({one.header("webhook-id") for one in receiver.received}) == 1


@in_a_loop
async def test_a_secret_that_does_not_open_sends_nothing(plain: Database, receiver: ScriptedUpstream) -> None:
    moved = hook(receiver, sealed=VAULT.seal(SECRET.encode(), binding("hook_2")))
    async with office(plain, moved) as here:
        here.emit("unsigned?")
        async with asyncio.timeout(WAIT_S):
            while not (found := await here.deliveries("hook_1")) or not found[0].error:
                await asyncio.sleep(0.005)
    assert "does not open" in found[0].error
    assert receiver.received == []


@in_a_loop
async def test_an_address_that_is_not_allowed_is_never_called(plain: Database, receiver: ScriptedUpstream) -> None:
    async with office(plain, hook(receiver), networks=()) as here:
        here.emit("inside")
        async with asyncio.timeout(WAIT_S):
            while not (found := await here.deliveries("hook_1")) or not found[0].error:
                await asyncio.sleep(0.005)
    assert "must be public" in found[0].error
    assert receiver.received == []


def one(number: int, *, at_ns: int = START_NS, once: str = "") -> RecordedNotice:
    return RecordedNotice(f"ntc_{number:05d}", Notice(NoticeKind.TEST, "", f"{number}", once=once, at_ns=at_ns))


def test_a_webhook_is_owed_no_more_than_it_may_wait_for(database: Database, receiver: ScriptedUpstream) -> None:
    database.run_sync(lambda connection: create_webhook(connection, hook(receiver)))
    for start in (0, 10):
        some = [one(number) for number in range(start, start + 10)]
        database.run_sync(lambda connection, some=some: stored.record(connection, some, (), max_pending=15))
    owed = database.run_sync(lambda connection: stored.list_deliveries(connection, "hook_1"))
    assert [found.notice_id for found in owed[::-1]] == [f"ntc_{number:05d}" for number in range(15)]


def test_old_notices_go_but_what_was_told_once_is_remembered(database: Database) -> None:
    day_ns = 86_400 * 10**9
    old, once, new = one(1), one(2, once="x"), one(3, at_ns=START_NS + 99 * day_ns)

    def play(connection: Any) -> tuple[int, list[str], int]:
        stored.record(connection, [old, once, new], (), max_pending=1)
        gone = stored.prune(connection, keep_days=90, keep_rows=10**6, now_ns=START_NS + 100 * day_ns)
        left = [found.notice_id for found in stored.list_notices(connection)]
        stored.prune(connection, keep_days=90, keep_rows=1, now_ns=START_NS + 100 * day_ns)
        return gone, left, len(stored.list_notices(connection))

    assert database.run_sync(play) == (1, ["ntc_00003", "ntc_00002"], 1)


# --- the management API


class AtDesk(HooksAtRest):
    """Tries what the API asks for by writing down that nobody took it."""

    def __init__(self, settings: Settings, vault: Vault, running: bool) -> None:
        super().__init__(settings, vault)
        self.running = running
        self.asked: list[tuple[str, str]] = []

    async def tried(self, webhook_id: str, notice_id: str) -> None:
        self.asked.append((webhook_id, notice_id))


@pytest.fixture
def desk(location: str) -> Iterator[Desk]:
    opened = open_desk(location)
    yield opened.with_deps(hooks=AtDesk(Settings(), VAULT, running=True))
    opened.deps.database.close()


URL = "https://example.org/hook"


def test_a_secret_is_sealed_in_the_transaction_that_stores_it(desk: Desk) -> None:
    """Else a master key could be forgotten in between: nothing lay under it when that was counted."""
    sealing: list[str] = []

    class Watched(AtDesk):
        def seal(self, webhook_id: str, secret: str) -> tuple[bytes, int]:
            sealing.append(threading.current_thread().name)
            return super().seal(webhook_id, secret)

    desk = desk.with_deps(hooks=Watched(Settings(), VAULT, running=True))
    made = desk.make(API, url=URL)
    assert desk.ask("PATCH", f"{API}/{made['webhook_id']}", {"secret": new_secret()}).status_code == 200
    writer = desk.deps.database.run_sync(lambda _: threading.current_thread().name)
    assert sealing == [writer, writer] != [threading.current_thread().name] * 2


def test_a_webhooks_life(desk: Desk) -> None:
    made = desk.make(API, url=URL, name="pager", kinds=["budget.*"])
    path = f"{API}/{made['webhook_id']}"
    assert len(secret_bytes(made["secret"])) == 32
    assert (made["status"], made["hint"]) == ("on", made["secret"][-4:])
    shown = desk.get(path)
    assert "secret" not in shown
    assert made["secret"] not in desk.ask("GET", API).text
    assert desk.get(API)["items"] == [shown]
    changed = desk.ask("PATCH", path, {"enabled": False, "kinds": None}).json()
    assert (changed["status"], changed["kinds"], changed["hint"]) == ("off", ["*"], made["hint"])
    own = new_secret()
    changed = desk.ask("PATCH", path, {"enabled": True, "secret": own}).json()
    assert (changed["status"], changed["hint"]) == ("on", own[-4:])
    stored_one = desk.deps.database.run_sync(lambda connection: get_webhook(connection, made["webhook_id"]))
    assert stored_one is not None
    assert own.encode() not in stored_one.sealed
    assert VAULT.unseal(stored_one.sealed, binding(made["webhook_id"])).decode() == own
    delivery = desk.make(f"{path}/test")
    assert (delivery["kind"], delivery["state"], delivery["attempts"]) == ("test", "pending", 0)
    assert desk.deps.hooks.asked == [(made["webhook_id"], delivery["notice_id"])]  # type: ignore[attr-defined]
    assert desk.get(f"{path}/deliveries")["items"] == [delivery]
    assert desk.get(f"{path}/deliveries?state=dead")["items"] == []
    assert [one["kind"] for one in desk.get("/api/v1/notices?kind=te")["items"]] == ["test"]
    assert desk.get("/api/v1/notices?kind=budget.")["items"] == []
    assert desk.ask("DELETE", path).status_code == 200
    desk.problem(404, "GET", path)
    assert desk.get(API)["items"] == []


def test_without_a_secret_it_is_off(desk: Desk) -> None:
    made = desk.make(API, url=URL, secret="")
    assert (made["status"], made["secret"]) == ("no_secret", "")
    problem = desk.problem(409, "POST", f"{API}/{made['webhook_id']}/test")
    assert problem["code"] == "webhook_off"
    on = desk.make(API, url=URL)
    assert desk.ask("PATCH", f"{API}/{on['webhook_id']}", {"secret": ""}).json()["status"] == "no_secret"


WRONG: tuple[tuple[str, Any, str], ...] = (
    ("url", "http://example.org/", "must be https"),
    ("url", "https://localhost/", "allow_loopback"),
    ("url", "https://127.0.0.1:99/", "allow_loopback"),
    ("url", "https://[::1]/", "allow_loopback"),
    ("url", "https://alice:pw@example.org/", "password"),
    ("url", "https://example.org\\@evil/", "backslashes"),
    ("url", "ftp://example.org/", "https://host/path"),
    ("url", "https:///path", "https://host/path"),
    ("url", "https://example.org:99999/", "https://host/path"),
    ("kinds", ["budget.tresholds"], "matches no kind"),
    ("secret", "secret", "whsec_"),
)


def test_what_is_wrong_is_named_and_not_repeated(plain: Database, tmp_path: Path) -> None:
    plain.close()
    desk = open_desk(tmp_path).with_deps(hooks=AtDesk(Settings(), VAULT, running=True))
    for name, value, words in WRONG:
        problem = desk.problem(400, "POST", API, {"url": URL, name: value})
        assert problem["field"].split(".")[0] == name
        assert words in problem["detail"]
        if name == "url":
            assert value not in problem["detail"]
    desk.deps.database.close()


def test_bounds_the_vault_and_the_settings_are_asked(desk: Desk) -> None:
    rows = ({"name": "own", "url": URL, "secret": "env:HOOK"}, {"name": "lost", "url": URL})
    settings = Settings(webhooks=rows, notices={"max_webhooks": 1})  # type: ignore[arg-type]
    declared = desk.with_deps(hooks=AtDesk(settings, Vault(), running=False))
    assert [one["status"] for one in declared.get(API)["items"]] == ["no_secret", "no_secret"]
    assert len(declared.deps.hooks.warnings) == 2  # type: ignore[attr-defined]
    assert declared.problem(409, "DELETE", f"{API}/settings:own")["code"] == "declared"
    assert declared.get(f"{API}/settings:own")["declared"] is True
    assert declared.problem(409, "POST", API, {"url": URL})["code"] == "no_vault"
    assert declared.problem(503, "POST", f"{API}/settings:own/test")["code"] == "no_server"
    full = desk.with_deps(hooks=AtDesk(settings, VAULT, running=True))
    full.make(API, url=URL)
    assert full.problem(409, "POST", API, {"url": URL})["code"] == "too_many_webhooks"


def test_declared_secrets_are_read_and_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = new_secret()
    monkeypatch.setenv("HOOK", secret)
    rest = HooksAtRest(Settings(webhooks=({"name": "own", "url": URL, "secret": "env:HOOK"},)), Vault())  # type: ignore[arg-type]
    (own,) = rest.declared
    assert (own.on, rest.warnings, rest.secret_of(own)) == (True, [], secret_bytes(secret))
    with pytest.raises(VaultError):
        rest.secret_of(Webhook("hook_1", URL, hint="abcd", sealed=secrets.token_bytes(60)))
