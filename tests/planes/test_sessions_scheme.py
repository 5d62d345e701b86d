"""A signed-in browser calls models with its cookie, and no other site can make it do so."""

import json
from typing import Any

import msgspec
import pytest

from tests.planes.plane import KEY, MESSAGE, Running, ask, image, plane
from tests.planes.wire import Answer, Peer, reply, run, upstream
from tollhouse.dataplane.sessions import SessionScheme
from tollhouse.dataplane.snapshot import Snapshot
from tollhouse.terms.sessions import Session

COOKIE = b"cookie: __Host-tollhouse=good"
CSRF = b"x-csrf-token: csrf-of-alice"
OWN = b"origin: http://tollhouse"


class Book:
    """Who is signed in."""

    def __init__(self) -> None:
        self.sessions = {
            "good": Session("ses_1", "alice", "csrf-of-alice", 0, 0, 1, 1),
            "stranger": Session("ses_2", "nobody", "csrf-of-nobody", 0, 0, 1, 1),
        }

    def find(self, token: str) -> Session | None:
        return self.sessions.get(token)


def signed_in(book: Book, public_url: str = "") -> Any:
    def schemes(snapshot: Snapshot) -> list[SessionScheme]:
        return [SessionScheme(book, snapshot, scheme="http", public_url=public_url)]

    return schemes


def request(*lines: bytes, method: bytes = b"POST", path: bytes = b"/v1/messages", body: bytes | None = None) -> bytes:
    body = ask() if body is None and method == b"POST" else body or b""
    fields = b"".join(line + b"\r\n" for line in lines)
    framing = b"content-length: %d\r\n" % len(body) if method == b"POST" else b""
    return b"%b %b HTTP/1.1\r\nhost: tollhouse\r\n%b%b\r\n%b" % (method, path, fields, framing, body)


async def call(running: Running, *lines: bytes, **more: Any) -> Answer:
    async with await running.client() as client:
        client.send(request(*lines, **more))
        return await client.answer(more.get("method", b"POST"))


class Kept:
    """A provider that keeps the heads it was sent."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            self.heads.append(head.lower())
            peer.send(reply(MESSAGE))


def test_a_page_of_ours_calls_a_model_and_its_cookie_stays_here() -> None:
    async def story() -> None:
        provider = Kept()
        async with upstream(provider) as server, plane(server.port, schemes=signed_in(Book())) as running:
            lines = (b"cookie: theme=dark; __Host-tollhouse=good; other=1", CSRF, OWN, b"sec-fetch-site: same-origin")
            answer = await call(running, *lines)
            assert answer.status == 200, answer.body
            hold = running.settled.hold
            assert (hold.user_id, hold.key_id) == ("alice", "session")
            assert answer.headers[b"x-tollhouse-budget"] == b"user alice"
            (head,) = provider.heads
            for word in (b"cookie", b"csrf", b"__host", b"good", b"origin", b"sec-fetch", b"dark"):
                assert word not in head, word

    run(story())


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ((COOKIE,), "CSRF token"),
        ((COOKIE, OWN), "CSRF token"),
        ((COOKIE, OWN, b"x-csrf-token: csrf-of-nobody"), "CSRF token"),
        ((COOKIE, OWN, b"x-csrf-token:"), "CSRF token"),
        ((COOKIE, CSRF, b"origin: http://evil.example"), "another origin"),
        ((COOKIE, CSRF, b"origin: null"), "another origin"),
        ((COOKIE, CSRF, b"origin: https://tollhouse"), "another origin"),
        ((COOKIE, CSRF, b"origin: http://tollhouse:81"), "another origin"),
        ((COOKIE, CSRF, OWN, b"origin: http://evil.example"), "another origin"),
        ((COOKIE, CSRF, b"sec-fetch-site: cross-site"), "another origin"),
        ((COOKIE, CSRF, b"sec-fetch-site: same-site"), "another origin"),
        ((COOKIE, CSRF, b"origin: http://evil.example", b"sec-fetch-site: same-origin"), "another origin"),
    ],
)
def test_another_site_cannot_call_in_the_users_name(lines: tuple[bytes, ...], why: str) -> None:
    async def story() -> None:
        async with plane(schemes=signed_in(Book())) as running:
            answer = await call(running, *lines)
            error = json.loads(answer.body)["error"]
            assert (answer.status, error["code"], error["type"]) == (403, "csrf", "permission_error")
            assert why in error["message"]
            assert not running.journal.records

    run(story())


def test_a_program_with_the_cookie_needs_its_csrf_token_and_reading_needs_none() -> None:
    async def story() -> None:
        async with upstream(Kept()) as server, plane(server.port, schemes=signed_in(Book())) as running:
            assert (await call(running, COOKIE, CSRF)).status == 200
            assert (await call(running, COOKIE, method=b"GET", path=b"/v1/models")).status == 200
            counting = await call(running, COOKIE, CSRF, path=b"/v1/messages/count_tokens")
            assert counting.status == 200

    run(story())


def test_behind_a_proxy_the_public_url_is_our_origin_too() -> None:
    async def story() -> None:
        schemes = signed_in(Book(), "https://llm.example")
        async with upstream(Kept()) as server, plane(server.port, schemes=schemes) as running:
            assert (await call(running, COOKIE, CSRF, b"origin: https://LLM.example")).status == 200
            assert (await call(running, COOKIE, CSRF, OWN)).status == 200
            assert (await call(running, COOKIE, CSRF, b"origin: http://llm.example")).status == 403

    run(story())


@pytest.mark.parametrize(
    "cookie",
    [
        b"cookie: __Host-tollhouse=gone",
        b"cookie: __Host-tollhouse=",
        b"cookie: __Host-tollhouse=good; __Host-tollhouse=gone",
        b"cookie: __Host-tollhouse=stranger",
        b'cookie: __Host-tollhouse="good"',
        b"cookie: __Host-tollhouse=\xff\xfe",
    ],
)
def test_who_is_not_signed_in_is_told_so(cookie: bytes) -> None:
    async def story() -> None:
        async with plane(schemes=signed_in(Book())) as running:
            answer = await call(running, cookie, CSRF if b"stranger" not in cookie else b"x-csrf-token: csrf-of-nobody")
            error = json.loads(answer.body)["error"]
            assert (answer.status, error["code"]) == (401, "session_over")
            assert cookie.rpartition(b"=")[2] not in answer.body or not cookie.rpartition(b"=")[2]

    run(story())


def test_cookies_of_others_are_nobody() -> None:
    async def story() -> None:
        async with plane(schemes=signed_in(Book())) as running:
            for cookie in (
                b"cookie: tollhouse=good",
                b"cookie: x__Host-tollhouse=good",
                b"cookie: a=__Host-tollhouse=good",
            ):
                answer = await call(running, cookie, CSRF)
                assert json.loads(answer.body)["error"]["code"] == "missing_key"

    run(story())


def test_a_session_that_ends_and_a_user_who_is_blocked_stop_at_once() -> None:
    async def story() -> None:
        book = Book()
        async with (
            upstream(Kept()) as server,
            plane(server.port, schemes=signed_in(book)) as running,
            await running.client() as client,
        ):
            wire = request(COOKIE, CSRF, OWN)
            for change, status, code in ((None, 200, ""), ("block", 401, "user_blocked"), ("end", 401, "session_over")):
                if change == "block":
                    user = msgspec.structs.replace(image().users[0], blocked_at_ns=1)
                    running.change(msgspec.structs.replace(image(), users=(user,)))
                if change == "end":
                    book.sessions.clear()
                client.send(wire)  # the same bytes on the same connection: a head that is known again
                answer = await client.answer()
                assert answer.status == status
                if code:
                    assert json.loads(answer.body)["error"]["code"] == code

    run(story())


def test_a_key_that_is_shown_counts_before_the_cookie() -> None:
    async def story() -> None:
        async with upstream(Kept()) as server, plane(server.port, schemes=signed_in(Book())) as running:
            assert (await call(running, COOKIE, b"x-api-key: " + KEY)).status == 200
            assert running.settlements[0].hold.key_id == "key_1"
            answer = await call(running, COOKIE, CSRF, b"x-api-key: sk-th-wrong")
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (401, "invalid_key")
            assert (await call(running, COOKIE, CSRF, b"authorization: Bearer sk-ant-oat01-x")).status == 401
            assert (await call(running, COOKIE, CSRF, b"authorization: Basic dXNlcjpwYXNz")).status == 200

    run(story())
