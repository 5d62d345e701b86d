"""Content that a key has kept: both sides of its calls, sealed, for its time, and of nobody else."""

import asyncio
import base64
import json
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dialects.recorded import recording
from tests.planes.control import Desk, open_desk
from tests.planes.plane import MESSAGE, ask, image, plane, post
from tests.planes.wire import STREAM_HEAD, Answer, Peer, chunk, reply, run, until, upstream
from tollhouse.controlplane.access import Caller
from tollhouse.dataplane.captured import CapturedRelay, CaptureOptions
from tollhouse.storage import captures
from tollhouse.storage.captures import Capture
from tollhouse.terms.captures import Content, Side
from tollhouse.terms.errors import StorageError
from tollhouse.terms.people import DirectoryImage, Role
from tollhouse.vault import MasterKeys, Vault, open_content
from tollhouse.workers import Capturer, CapturerOptions

STREAM = recording("anthropic_text.sse")
DAY_NS = 86_400 * 10**9
KEYS, REQUESTS = "/api/v1/keys", "/api/v1/requests"


def vault() -> Vault:
    return Vault(MasterKeys({1: b"m" * 32}))


def of_days(days: int) -> DirectoryImage:
    people = image()
    return msgspec.structs.replace(people, keys=(msgspec.structs.replace(people.keys[0], capture_days=days),))


async def answering(peer: Peer) -> None:
    while True:
        await peer.request()
        peer.send(reply(MESSAGE))


async def streaming(peer: Peer) -> None:
    await peer.request()
    peer.send(STREAM_HEAD)
    for at in range(0, len(STREAM), 100):
        peer.send(chunk(STREAM[at : at + 100]))
        await peer.drain()
    peer.send(b"0\r\n\r\n")
    await peer.until_gone()


def called(script: Any, body: bytes, days: int, **options: int) -> tuple[Answer, list[Content]]:
    """The answer to one call with a key of so many days, and what was handed over to be kept."""
    kept: list[Content] = []
    got: list[Answer] = []

    async def story() -> None:
        captured = partial(CapturedRelay, kept.append, CaptureOptions(**options))
        async with (
            upstream(script) as provider,
            plane(provider.port, people=of_days(days), captured=captured) as running,
            await running.client() as client,
        ):
            client.send(post(body))
            got.append(await client.answer())
            await until(lambda: running.settlements or running.refused)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    run(story())
    return got[0], kept


def header(answer: Answer) -> bool:
    return b"x-tollhouse-captured: 7d" in answer.head


@pytest.mark.parametrize(("script", "stream"), [(answering, False), (streaming, True)])
def test_both_sides_are_kept_as_they_were_and_the_caller_is_told(script: Any, stream: bool) -> None:
    body = ask(stream=stream, system="what I asked")
    answer, kept = called(script, body, 7)
    assert header(answer)
    (content,) = kept
    assert (content.request.data, content.answer.data) == (body, answer.body)
    assert not content.request.cut
    assert not content.answer.cut
    assert (content.user_id, content.key_id) == ("alice", "key_1")
    assert content.expires_at_ns - content.at_ns == 7 * DAY_NS


def test_nothing_is_kept_unless_the_key_says_so_or_where_the_house_forbids_it() -> None:
    for days, most in ((0, 30), (7, 0)):
        answer, kept = called(answering, ask(), days, max_days=most)
        assert answer.status == 200
        assert b"captured" not in answer.head
        assert kept == []
    _, kept = called(answering, ask(), 30, max_days=2)
    assert kept[0].expires_at_ns - kept[0].at_ns == 2 * DAY_NS


def test_long_sides_are_cut_and_marked() -> None:
    answer, (content,) = called(streaming, ask(stream=True), 7, max_request_bytes=10, max_answer_bytes=150)
    assert (content.request.data, content.request.cut) == (ask(stream=True)[:10], True)
    assert (content.answer.data, content.answer.cut) == (answer.body[:150], True)
    assert content.answer.size_bytes == len(answer.body)


def test_an_answer_of_our_own_says_nothing_of_being_kept_and_is_not() -> None:
    async def broken(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await peer.drain()

    answer, kept = called(broken, ask(), 7)
    assert answer.status == 502
    assert not header(answer)
    assert kept == []


# The worker


def content(number: int, size: int = 10) -> Content:
    return Content(f"req_{number}", "default", "alice", "key_1", 5, 6, Side(b"q" * size, size), Side(b"a", 1))


class Store:
    """Takes rows, unless it is down."""

    def __init__(self) -> None:
        self.rows: list[Capture] = []
        self.down = False

    async def __call__(self, rows: Sequence[Capture]) -> None:
        if self.down:
            raise StorageError("the database is away")
        self.rows += rows


def test_what_cannot_be_stored_waits_within_bounds_and_is_then_dropped_and_counted() -> None:
    async def story() -> None:
        store = Store()
        store.down = True
        capturer = Capturer(vault(), store, CapturerOptions(max_waiting=3, max_waiting_bytes=1_000))
        for number in range(5):
            capturer.put(content(number))
        assert (capturer.waiting, capturer.dropped) == (3, 2)
        assert not await capturer.flush(0.01)
        store.down = False
        assert await capturer.flush(10)
        capturer.put(content(9, size=2_000))
        assert (capturer.waiting, capturer.dropped, capturer.kept) == (0, 3, 3)
        assert [row.request_id for row in store.rows] == ["req_0", "req_1", "req_2"]
        assert all(b"qqq" not in row.sealed for row in store.rows)
        opened = open_content(vault(), store.rows[0].sealed, org_id="default", request_id="req_0")
        assert opened == (b"q" * 10, b"a")

    asyncio.run(story())


def test_without_a_master_key_nothing_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        store = Store()
        capturer = Capturer(Vault(), store, CapturerOptions())
        capturer.start()
        capturer.put(content(1))
        capturer.put(content(2))
        await until(lambda: not capturer.waiting)
        await capturer.stop(1)
        assert (store.rows, capturer.dropped) == ([], 2)

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())
    assert caplog.text.count("tollhouse vault init") == 1
    assert "qqq" not in caplog.text


# The management API


@pytest.fixture
def desk(location: str) -> Iterator[Desk]:
    opened = open_desk(location).with_deps(vault=vault(), capture_days=30)
    yield opened
    opened.deps.database.close()


def store(desk: Desk, request_id: str, user_id: str, asked: bytes, answered: bytes, **more: Any) -> None:
    now_ns = desk.plane.now_ns
    sides = (Side(asked, more.get("size", len(asked))), Side(answered, len(answered)))
    one = Content(request_id, "default", user_id, "key_1", now_ns, now_ns + more.get("days", 7) * DAY_NS, *sides)

    async def write(rows: Sequence[Capture]) -> None:
        await desk.deps.database.run(lambda connection: captures.keep(connection, rows))

    async def go() -> None:
        capturer = Capturer(desk.deps.vault, write, CapturerOptions())
        capturer.put(one)
        assert await capturer.flush(10)

    asyncio.run(go())


def test_a_key_has_its_content_kept_for_some_days_and_no_longer_than_is_allowed(desk: Desk) -> None:
    key = desk.make(KEYS, user_id="alice", capture_days=7)
    assert key["capture_days"] == 7
    path = f"{KEYS}/{key['key_id']}"
    assert desk.get("/api/v1/me", bearer=key["key"])["key"]["capture_days"] == 7
    assert desk.ask("PATCH", path, {"name": "x"}).json()["capture_days"] == 7
    assert desk.ask("PATCH", path, {"capture_days": 0}).json()["capture_days"] == 0
    refused = desk.problem(400, "PATCH", path, {"capture_days": 31})
    assert (refused["field"], "capture.max_days" in refused["detail"]) == ("capture_days", True)
    refused = desk.with_deps(vault=Vault()).problem(409, "PATCH", path, {"capture_days": 1})
    assert refused["code"] == "no_master_key"
    assert desk.with_deps(vault=Vault()).ask("PATCH", path, {"capture_days": 0}).status_code == 200


def test_owners_and_who_asked_read_it_and_nobody_else(desk: Desk) -> None:
    key = desk.make(KEYS, user_id="alice")
    store(desk, "req_1", "alice", b'{"q":1}', "Grüße".encode())
    path = f"{REQUESTS}/req_1/content"
    found = desk.get(path)
    assert found["request"] == {"encoding": "utf-8", "body": '{"q":1}', "bytes": 7, "cut": False}
    assert found["answer"]["body"] == "Grüße"
    assert desk.get(path, caller=Caller(Role.MEMBER, "alice")) == found
    for caller in (
        Caller(Role.MEMBER, "bob", {"red": Role.ADMIN}),
        Caller(Role.ADMIN, "boss"),
        Caller(Role.VIEWER, "looks on"),
    ):
        missing = desk.problem(404, "GET", path, caller=caller)
        assert missing == desk.problem(404, "GET", path.replace("req_1", "req_2"), caller=caller) | {
            "detail": missing["detail"]
        }
    desk.problem(403, "GET", path, caller=Caller(Role.SERVICE, "alice"))
    desk.problem(403, "GET", path, bearer=key["key"])


def test_a_text_that_is_cut_within_a_character_is_a_text_and_bytes_are_base64(desk: Desk) -> None:
    store(desk, "req_1", "alice", "Grüße".encode()[:3], b"\xff\xfe\x00", size=7)
    found = desk.get(f"{REQUESTS}/req_1/content")
    assert found["request"] == {"encoding": "utf-8", "body": "Gr", "bytes": 7, "cut": True}
    assert (found["answer"]["encoding"], base64.b64decode(found["answer"]["body"])) == ("base64", b"\xff\xfe\x00")


def test_its_time_ends_it(desk: Desk) -> None:
    store(desk, "req_1", "alice", b"a", b"b", days=1)
    store(desk, "req_2", "alice", b"a", b"b", days=3)
    desk.plane.now_ns += 2 * DAY_NS
    desk.problem(404, "GET", f"{REQUESTS}/req_1/content")
    database, now_ns = desk.deps.database, desk.plane.now_ns
    assert database.run_sync(lambda connection: captures.forget_expired(connection, now_ns)) == 1
    assert database.run_sync(lambda connection: captures.forget_expired(connection, now_ns)) == 0
    desk.get(f"{REQUESTS}/req_2/content")


def test_under_another_master_key_it_says_so(desk: Desk) -> None:
    store(desk, "req_1", "alice", b"what I asked", b"b")
    other = desk.with_deps(vault=Vault(MasterKeys({1: b"x" * 32})))
    refused = other.problem(503, "GET", f"{REQUESTS}/req_1/content")
    assert refused["code"] == "content_unreadable"
    assert "what I" not in json.dumps(refused)


def test_the_file_holds_nothing_of_it_in_clear(tmp_path: Path) -> None:
    desk = open_desk(tmp_path).with_deps(vault=vault())
    store(desk, "req_1", "alice", b"MARKED-QUESTION", b"MARKED-ANSWER")
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    desk.deps.database.close()
    assert b"req_1" in raw
    assert b"MARKED" not in raw
