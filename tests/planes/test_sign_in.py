"""Signing in by password, and the sessions it begins: who may, who may not, and what ends them."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.planes.browsing import GOOD, Browser
from tests.planes.control import MASTER_KEY, QUICK, SECRET, Desk, open_desk
from tollhouse.controlplane.permissions import PERMISSIONS, Permission
from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.sign_in.book import Browser as Client
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.controlplane.sign_in.guard import network_of
from tollhouse.controlplane.sign_in.hashing import Hasher
from tollhouse.controlplane.sign_in.options import Argon2, SignInOptions
from tollhouse.storage import directory
from tollhouse.storage.sign_in_tables import passwords, sessions, sign_in_failures
from tollhouse.storage.tables import users
from tollhouse.terms.people import Role
from tollhouse.terms.sessions import SESSION_COOKIE

OPEN = msgspec.structs.replace(QUICK, sign_up="open")
NS = 10**9
MIA = "mia@acme.example"


@pytest.fixture
def desk(location: str) -> Iterator[Desk]:
    opened = open_desk(location, OPEN)
    yield opened
    opened.deps.database.close()


def concrete(path: str) -> str:
    return path.replace("{user_id:path}", "alice").replace("{", "").replace("}", "")


def with_options(tmp_path: Path, **changes: Any) -> Desk:
    return open_desk(tmp_path, msgspec.structs.replace(OPEN, **changes))


def another_keeper(desk: Desk, options: SignInOptions = OPEN, secret: bytes = SECRET) -> Doorkeeper:
    """As after a restart."""
    deps = desk.deps
    return Doorkeeper(
        deps.database, secret, options, changed=deps.changed, random_bytes=deps.random_bytes, now_ns=deps.now_ns
    )


def keeper_of(desk: Desk) -> Doorkeeper:
    assert desk.deps.doorkeeper is not None
    return desk.deps.doorkeeper


def set_user(desk: Desk, user_id: str, **fields: Any) -> None:
    """Changed as the management API would: in the database, then everywhere."""

    def change(connection: Any) -> str:
        user = directory.get_user(connection, user_id)
        assert user is not None
        directory.update_user(connection, msgspec.structs.replace(user, **fields))
        return user_id

    asyncio.run(desk.deps.write(change, touches=lambda changed: changed))


def make(desk: Desk, email: str = MIA, role: Role = Role.MEMBER) -> tuple[Browser, str]:
    """Somebody signed in, and their id."""
    browser = Browser(desk)
    user_id = browser.sign_up(email)["user"]["user_id"]
    if role is not Role.MEMBER:
        set_user(desk, user_id, role=role)
        browser.sign_in(email)
    return browser, user_id


# --- accounts


def test_sign_up_in_and_out(desk: Desk) -> None:
    browser = Browser(desk)
    told = browser.sign_up(" Mia@Acme.example ", name="Mia")
    assert (told["user"]["email"], told["user"]["name"]) == (MIA, "Mia")
    assert browser.done("GET", "/api/v1/session")["user"] == told["user"]
    browser.done("POST", "/api/v1/sign-out")
    assert browser.cookies == {}
    assert browser.problem(401, "GET", "/api/v1/session") == "missing_credentials"
    again = browser.sign_in("MIA@acme.example")
    assert again["user"]["user_id"] == told["user"]["user_id"]
    assert again["csrf_token"] != told["csrf_token"]


def test_the_cookie(desk: Desk) -> None:
    answer = Browser(desk).ask("POST", "/api/v1/sign-up", {"email": MIA, "password": GOOD})
    (line,) = answer.headers.get_list("set-cookie")
    name, _, rest = line.partition("=")
    assert name == SESSION_COOKIE
    token, *attributes = rest.split("; ")
    assert set(attributes) == {"Path=/", "Secure", "HttpOnly", "SameSite=Strict", "Max-Age=43200"}
    assert token not in answer.text
    assert len(token) == 43


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_nothing_secret_is_stored_or_logged(desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    browser, _ = make(desk)
    browser.problem(401, "POST", "/api/v1/sign-in", {"email": MIA, "password": "not the password"})
    desk.deps.database.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"$argon2id$" in stored
    for secret in (GOOD, browser.token, browser.csrf, "not the password"):
        assert secret.encode() not in stored
        assert secret not in caplog.text
    assert "signed up user='usr_" in caplog.text
    assert MIA not in caplog.text


@pytest.mark.parametrize("sign_up", ["closed", "domains"])
def test_who_may_sign_up(tmp_path: Path, sign_up: Any) -> None:
    desk = with_options(tmp_path, sign_up=sign_up, sign_up_domains=("acme.example",))
    body = {"email": "mia@evil.example", "password": GOOD}
    assert Browser(desk).problem(403, "POST", "/api/v1/sign-up", body).startswith("sign_up_")
    if sign_up == "domains":
        for trick in ("mia@sub.acme.example", "mia@evil.example@acme.example", "mia@acme.example.evil.example"):
            assert not Browser(desk).ask("POST", "/api/v1/sign-up", {**body, "email": trick}).is_success
        Browser(desk).sign_up(MIA)


def test_people_of_a_captured_domain_sign_in_at_their_issuer(tmp_path: Path) -> None:
    desk = open_desk(tmp_path, OPEN)
    _, owner_id = make(desk, "boss@acme.example", Role.OWNER)
    make(desk)
    captured = msgspec.structs.replace(OPEN, captured=(("acme.example", "acme"),))
    keeper = another_keeper(desk, captured)
    desk = desk.with_deps(doorkeeper=keeper)
    problem = Browser(desk).ask("POST", "/api/v1/sign-in", {"email": MIA, "password": GOOD})
    assert (problem.status_code, problem.json()["code"], problem.json()["issuer"]) == (403, "use_issuer", "acme")
    body = {"email": "new@acme.example", "password": GOOD}
    assert Browser(desk).problem(403, "POST", "/api/v1/sign-up", body) == "use_issuer"
    assert Browser(desk).sign_in("boss@acme.example")["user"]["user_id"] == owner_id


def test_a_plan_by_default_must_be_there(tmp_path: Path) -> None:
    desk = with_options(tmp_path, default_plan="free")
    assert Browser(desk).problem(503, "POST", "/api/v1/sign-up", {"email": MIA, "password": GOOD}) == "plan_missing"


@pytest.mark.parametrize(
    "password",
    ["short", "password1234", "aaaaaaaaaaaaaaaa", "qwertyuiop12", "mia@acme.example", "miaacmeexample", "123456789012"],
)
def test_guessable_passwords_are_not_taken(desk: Desk, password: str) -> None:
    answer = Browser(desk).ask("POST", "/api/v1/sign-up", {"email": MIA, "password": password})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "weak_password", "password")
    assert password not in answer.json()["detail"] or password == "password"


def test_a_password_is_what_its_characters_mean(desk: Desk) -> None:
    browser = Browser(desk)
    browser.sign_up(MIA, "  Ångström ﬁfty otters  ")  # composed or not, ligature or not: the same
    browser.sign_in(MIA, "  Ångström fifty otters  ")
    trimmed = {"email": MIA, "password": "Ångström fifty otters"}
    assert browser.problem(401, "POST", "/api/v1/sign-in", trimmed) == "wrong_credentials"


@pytest.mark.parametrize("password", ["\x00" * 12, "\ud800otters and wardrobes", "x" * 1025])
def test_what_is_no_password_is_refused(desk: Desk, password: str) -> None:
    body = msgspec.json.encode({"email": MIA, "password": "?"}).replace(b"?", repr_json(password))
    for path in ("sign-up", "sign-in"):
        headers = {"content-type": "application/json", "origin": "http://tollhouse:4000"}
        answer = desk.ask("POST", f"/api/v1/{path}", bearer=None, content=body, headers=headers)
        assert answer.status_code in (400, 401), answer.text


def repr_json(text: str) -> bytes:
    return "".join(f"\\u{ord(character):04x}" for character in text).encode()


def test_an_address_is_taken_once(desk: Desk) -> None:
    make(desk)
    body = {"email": "MIA@ACME.example", "password": GOOD}
    assert Browser(desk).problem(409, "POST", "/api/v1/sign-up", body) == "email_taken"
    desk.make("/api/v1/users", user_id="app-7", email="Ada@acme.example")
    body = {"email": "ada@acme.example", "password": GOOD}
    assert Browser(desk).problem(409, "POST", "/api/v1/sign-up", body) == "email_taken"


def test_a_new_account_is_nobody_elses(desk: Desk) -> None:
    """Somebody may sign up with any address: an id that an application chose must not become theirs by it."""
    desk.make("/api/v1/users", user_id=MIA)
    assert make(desk)[1] != MIA


# --- guessing


def wrong(desk: Desk, email: str = MIA) -> httpx.Response:
    """A try with a wrong password."""
    return Browser(desk).ask("POST", "/api/v1/sign-in", {"email": email, "password": "wrong, but long"})


def test_an_unknown_address_and_a_wrong_password_are_alike(desk: Desk) -> None:
    make(desk)
    known, unknown = wrong(desk), wrong(desk, "nobody@acme.example")
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    assert known.json()["code"] == "wrong_credentials"
    for _ in range(4):
        known, unknown = wrong(desk), wrong(desk, "nobody@acme.example")
    known, unknown = wrong(desk), wrong(desk, "nobody@acme.example")
    assert known.status_code == unknown.status_code == 429
    assert known.content == unknown.content
    assert known.headers["retry-after"] == unknown.headers["retry-after"] == "30"


def test_unknown_addresses_cost_a_hash_too(desk: Desk) -> None:
    make(desk)
    verified: list[str] = []
    argon2 = keeper_of(desk).hasher._argon2()

    class Counting:
        def verify(self, stored: str, password: str) -> bool:
            verified.append(stored)
            return argon2.verify(stored, password)

    keeper_of(desk).hasher._hasher = Counting()  # type: ignore[assignment]
    wrong(desk)
    wrong(desk, "nobody@acme.example")
    assert len(verified) == 2
    assert [stored.rsplit("$", 2)[0] for stored in verified] == [verified[0].rsplit("$", 2)[0]] * 2  # equal parameters


def test_waits_double_are_shared_and_end(desk: Desk) -> None:
    make(desk)
    for _ in range(5):
        assert wrong(desk).status_code == 401
    right = {"email": MIA, "password": GOOD}
    assert Browser(desk).problem(429, "POST", "/api/v1/sign-in", right) == "too_many_attempts"
    for wait_s in (30, 60, 120):
        desk.plane.now_ns += (wait_s - 1) * NS
        assert wrong(desk).headers["retry-after"] == "1"
        desk.plane.now_ns += NS
        assert wrong(desk).status_code == 401
    desk.plane.now_ns += 900 * NS
    Browser(desk).sign_in(MIA)
    assert wrong(desk).status_code == 401  # forgiven
    Browser(desk).sign_in(MIA)


def test_a_hundred_tries_at_once_are_a_hundred_tries(desk: Desk) -> None:
    make(desk)

    async def storm() -> list[int]:
        keeper = keeper_of(desk)

        async def one() -> int:
            try:
                await keeper.sign_in(MIA, "wrong, but long", Client("192.0.2.1"))
            except Problem as problem:
                return problem.status
            return 200

        return await asyncio.gather(*(one() for _ in range(40)))

    found = asyncio.run(storm())
    assert found.count(401) == 5
    assert found.count(429) == 35


def test_one_address_tries_many_accounts_in_vain(desk: Desk) -> None:
    answers = [wrong(desk, f"user{number}@acme.example") for number in range(31)]
    assert [answer.status_code for answer in answers] == [401] * 30 + [429]


def test_locks_outlive_a_restart_and_are_forgotten(desk: Desk) -> None:
    for _ in range(5):
        wrong(desk)
    keeper = keeper_of(desk)
    again = another_keeper(desk)
    assert wrong(desk.with_deps(doorkeeper=again)).status_code == 429
    desk.plane.now_ns += 2 * 86_400 * NS
    asyncio.run(keeper.tidy())
    assert count(desk, sign_in_failures) == 0


def test_failures_are_bounded(tmp_path: Path) -> None:
    desk = with_options(tmp_path, max_failures=10)
    for number in range(20):
        desk.plane.now_ns += NS
        wrong(desk, f"user{number}@acme.example")
    asyncio.run(keeper_of(desk).tidy())
    assert count(desk, sign_in_failures) == 10


def count(desk: Desk, table: Any) -> int:
    return desk.deps.database.run_sync(lambda connection: len(connection.execute(table.select()).all()))


def test_networks() -> None:
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2") == "2001:db8::/64"
    assert network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("testclient") == "testclient"


# --- hashing


def test_hashes_follow_the_parameters(desk: Desk) -> None:
    make(desk)
    old = stored_hash(desk)
    keeper_of(desk).hasher = Hasher(Argon2(passes=2, memory_kib=64), 4)
    Browser(desk).sign_in(MIA)
    assert "m=64,t=1" in old
    assert "m=64,t=2" in stored_hash(desk)
    Browser(desk).sign_in(MIA)


def stored_hash(desk: Desk) -> str:
    found: str = desk.deps.database.run_sync(lambda connection: connection.execute(passwords.select()).one().hash)
    return found


def test_the_loop_goes_on_while_passwords_are_hashed_and_the_queue_is_bounded() -> None:
    async def crowd() -> tuple[int, int]:
        hasher = Hasher(Argon2(passes=3, memory_kib=4096), 3)
        turns = 0
        tries = [asyncio.create_task(hasher.hash(GOOD)) for _ in range(5)]
        while not all(one.done() for one in tries):
            turns += 1
            await asyncio.sleep(0)
        busy = [one.exception() for one in tries if one.exception()]
        assert all(isinstance(error, Problem) and error.status == 503 for error in busy)
        await hasher.hash(GOOD)  # there is room again
        hasher.close()
        return turns, len(busy)

    turns, busy = asyncio.run(crowd())
    assert turns > 10
    assert busy == 2


def test_the_usual_cost_is_that_of_the_settings() -> None:
    async def one() -> str:
        hasher = Hasher(Argon2(), 1)
        found = await hasher.hash(GOOD)
        assert await hasher.verify(found, GOOD) == (True, None)
        hasher.close()
        return found

    assert asyncio.run(one()).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


# --- sessions


def test_a_session_slides_to_its_absolute_end(desk: Desk) -> None:
    browser, _ = make(desk)
    for _ in range(12):
        desk.plane.now_ns += 3_599 * NS
        browser.done("GET", "/api/v1/session")
    told = browser.done("GET", "/api/v1/session")
    assert told["expires_at"] == told["ends_at"]
    desk.plane.now_ns += 12 * NS
    assert browser.problem(401, "GET", "/api/v1/session") == "session_over"


def test_a_session_ends_without_use(desk: Desk) -> None:
    browser, _ = make(desk)
    desk.plane.now_ns += 3_600 * NS
    assert browser.problem(401, "GET", "/api/v1/session") == "session_over"
    asyncio.run(keeper_of(desk).tidy())
    assert count(desk, sessions) == 0
    assert len(keeper_of(desk).book) == 0


def test_use_is_written_once_a_minute_and_by_the_flush(desk: Desk) -> None:
    browser, _ = make(desk)

    def seen() -> int:
        asyncio.run(keeper_of(desk).tidy())
        found: int = desk.deps.database.run_sync(
            lambda connection: connection.execute(sessions.select()).one().seen_at_ns
        )
        return found

    began = seen()
    desk.plane.now_ns += 59 * NS
    browser.done("GET", "/api/v1/session")
    assert seen() == began
    desk.plane.now_ns += NS
    browser.done("GET", "/api/v1/session")
    assert seen() == desk.plane.now_ns


def test_a_database_that_is_gone_keeps_nobody_from_closing(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    make(desk)
    desk.deps.database.close()
    asyncio.run(keeper_of(desk).close())
    assert "could not be written" in caplog.text


def test_sessions_outlive_a_restart(desk: Desk) -> None:
    (mia, _), (blocked, blocked_id) = make(desk), make(desk, "b@acme.example")
    desk.deps.database.run_sync(
        lambda connection: connection.execute(
            users.update().where(users.c.user_id == blocked_id).values(blocked_at_ns=1)
        )
    )
    for secret, outlives in ((SECRET, True), (b"another secret", False)):
        again = another_keeper(desk, secret=secret)
        asyncio.run(again.open())
        mia.desk = blocked.desk = desk.with_deps(doorkeeper=again)
        if outlives:
            assert mia.done("GET", "/api/v1/session")["csrf_token"] == mia.csrf
        else:
            assert mia.problem(401, "GET", "/api/v1/session") == "session_over"
        assert blocked.problem(401, "GET", "/api/v1/session") == "session_over"


def test_signing_in_again_ends_the_session_of_this_browser(desk: Desk) -> None:
    browser, _ = make(desk)
    before = dict(browser.cookies)
    browser.sign_in(MIA)
    assert browser.cookies != before
    assert count(desk, sessions) == 1
    browser.cookies = before
    assert browser.problem(401, "GET", "/api/v1/session") == "session_over"


def test_a_token_that_somebody_planted_is_not_taken_over(desk: Desk) -> None:
    """Session fixation: what the browser shows before signing in says nothing afterwards."""
    browser = Browser(desk)
    browser.cookies[SESSION_COOKIE] = planted = "A" * 43
    browser.sign_up(MIA)
    assert browser.token != planted


def test_sessions_are_listed_and_ended(desk: Desk) -> None:
    mia, mia_id = make(desk)
    phone = Browser(desk)
    phone.sign_in(MIA)
    other, _ = make(desk, "other@acme.example")
    rows = mia.done("GET", "/api/v1/sessions")["items"]
    assert {row["user_id"] for row in rows} == {mia_id}
    assert [row["current"] for row in rows].count(True) == 1
    assert rows[0]["client"] == "Tests/1"
    assert mia.done("GET", "/api/v1/sessions", params={"user_id": "other"})["items"] == []
    theirs = other.done("GET", "/api/v1/sessions")["items"][0]["session_id"]
    assert mia.problem(404, "DELETE", f"/api/v1/sessions/{theirs}") == "not_found"
    assert mia.problem(404, "DELETE", "/api/v1/sessions", params={"user_id": "other"}) == "not_found"
    assert mia.done("DELETE", "/api/v1/sessions") == {"ended": 1}
    assert phone.problem(401, "GET", "/api/v1/session") == "session_over"
    mine = next(row["session_id"] for row in rows if row["current"])
    assert mia.ask("DELETE", f"/api/v1/sessions/{mine}").status_code == 204
    assert mia.problem(401, "GET", "/api/v1/session") == "session_over"
    assert mia.problem(401, "DELETE", f"/api/v1/sessions/{mine}") == "session_over"
    assert other.done("GET", "/api/v1/session")


def test_admins_end_the_sessions_of_members_owners_those_of_all(desk: Desk) -> None:
    owner, owner_id = make(desk, "owner@acme.example", Role.OWNER)
    admin, admin_id = make(desk, "admin@acme.example", Role.ADMIN)
    viewer, _ = make(desk, "viewer@acme.example", Role.VIEWER)
    mia, mia_id = make(desk)
    assert len(admin.done("GET", "/api/v1/sessions", params={"limit": 3})["items"]) == 3
    assert len(viewer.done("GET", "/api/v1/sessions")["items"]) == 1
    rows = {row["user_id"]: row["session_id"] for row in admin.done("GET", "/api/v1/sessions")["items"]}
    assert admin.problem(403, "DELETE", f"/api/v1/sessions/{rows[owner_id]}") == "forbidden"
    assert admin.ask("DELETE", f"/api/v1/sessions/{rows[mia_id]}").status_code == 204
    assert mia.problem(401, "GET", "/api/v1/session") == "session_over"
    assert owner.done("DELETE", "/api/v1/sessions", params={"user_id": admin_id}) == {"ended": 1}
    assert admin.problem(401, "GET", "/api/v1/session") == "session_over"
    assert desk.ask("DELETE", "/api/v1/sessions", params={"user_id": owner_id}).json() == {"ended": 1}
    assert desk.ask("DELETE", "/api/v1/sessions").status_code == 400  # the operator has none of their own


def test_who_is_blocked_is_out_at_once(desk: Desk) -> None:
    browser, user_id = make(desk)
    desk.ask("POST", f"/api/v1/users/{user_id}/block")
    assert browser.problem(401, "GET", "/api/v1/session") == "session_over"
    assert count(desk, sessions) == 0
    assert browser.problem(403, "POST", "/api/v1/sign-in", {"email": MIA, "password": GOOD}) == "user_blocked"
    desk.ask("POST", f"/api/v1/users/{user_id}/unblock")
    assert browser.problem(401, "GET", "/api/v1/session") == "session_over"  # not by the old cookie
    browser.sign_in(MIA)


def test_the_gate_asks_the_directory_not_the_session(desk: Desk) -> None:
    """Blocked or demoted behind the book's back, as by another tool on the same database."""
    browser, user_id = make(desk, role=Role.ADMIN)
    assert browser.done("GET", "/api/v1/users")
    for fields, status in (({"role": "member"}, 200), ({"blocked_at_ns": 1}, 401), ({"role": "service"}, 401)):
        update = users.update().where(users.c.user_id == user_id).values(**fields)
        desk.deps.database.run_sync(lambda connection, update=update: connection.execute(update))
        assert browser.ask("GET", "/api/v1/session").status_code == status
        assert browser.ask("POST", "/api/v1/users", {"user_id": "x"}).status_code in (401, 403)


def test_a_lower_role_ends_sessions_a_higher_one_does_not(desk: Desk) -> None:
    browser, user_id = make(desk, role=Role.ADMIN)
    set_user(desk, user_id, role=Role.OWNER)
    assert browser.done("GET", "/api/v1/session")
    set_user(desk, user_id, role=Role.ADMIN)
    assert browser.problem(401, "GET", "/api/v1/session") == "session_over"
    browser.sign_in(MIA)
    set_user(desk, user_id, name="Mia", plan_id=None)
    assert browser.done("GET", "/api/v1/session")


def test_a_new_password_ends_all_sessions_but_makes_one(desk: Desk) -> None:
    mia, _ = make(desk)
    phone = Browser(desk)
    phone.sign_in(MIA)
    old = mia.token
    body = {"current_password": "wrong, but long", "new_password": "other plinth nine badgers"}
    assert mia.problem(403, "POST", "/api/v1/password", body) == "wrong_password"
    body["current_password"] = GOOD
    assert mia.problem(400, "POST", "/api/v1/password", body | {"new_password": "short"}) == "weak_password"
    mia.done("POST", "/api/v1/password", body)
    assert mia.token != old
    assert mia.done("GET", "/api/v1/session")
    assert phone.problem(401, "GET", "/api/v1/session") == "session_over"
    assert phone.problem(401, "POST", "/api/v1/sign-in", {"email": MIA, "password": GOOD}) == "wrong_credentials"
    phone.sign_in(MIA, "other plinth nine badgers")


class HeldHasher:
    """Says what another says, when it is let."""

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def verify(self, stored: str | None, password: str) -> tuple[bool, str | None]:
        found = await self._hasher.verify(stored, password)
        self.asked.set()
        await self.go_on.wait()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hasher, name)


@pytest.mark.parametrize("way", ["signs in", "changes it too"])
def test_the_old_password_is_good_for_nobody_who_is_on_their_way(desk: Desk, way: str) -> None:
    """Who showed it before it changed, and goes on after that."""
    mia, _ = make(desk)
    eve = Browser(desk)
    eve.sign_in(MIA)
    keeper = keeper_of(desk)
    hers, other = (keeper.book.find(browser.token) for browser in (mia, eve))
    assert hers is not None
    assert other is not None

    async def race() -> int:
        hasher, held = keeper.hasher, HeldHasher(keeper.hasher)
        keeper.hasher = held  # type: ignore[assignment]
        late = asyncio.ensure_future(
            keeper.sign_in(MIA, GOOD, Client("192.0.2.1"))
            if way == "signs in"
            else keeper.change_password(other, GOOD, "eves plinth nine badgers", Client("192.0.2.1"))
        )
        await asyncio.wait_for(held.asked.wait(), 30)
        keeper.hasher = hasher
        desk.plane.now_ns += NS
        await keeper.change_password(hers, GOOD, "other plinth nine badgers", Client())
        held.go_on.set()
        with pytest.raises(Problem) as refused:
            await late
        return refused.value.status

    assert asyncio.run(race()) == (401 if way == "signs in" else 403)
    assert len(list(keeper.book.sessions())) == 1
    Browser(desk).sign_in(MIA, "other plinth nine badgers")


def test_sessions_are_bounded(tmp_path: Path) -> None:
    desk = with_options(tmp_path, max_sessions=4, max_sessions_of_user=2)
    mia, _ = make(desk)
    others = [Browser(desk) for _ in range(3)]
    for browser in others:
        browser.sign_in(MIA)
    assert mia.problem(401, "GET", "/api/v1/session") == "session_over"
    assert [browser.ask("GET", "/api/v1/session").status_code for browser in others] == [401, 200, 200]
    make(desk, "b@acme.example")
    make(desk, "c@acme.example")
    body = {"email": "d@acme.example", "password": GOOD}
    assert Browser(desk).problem(503, "POST", "/api/v1/sign-up", body) == "too_many_sessions"


# --- the cookie at the gate


def test_a_shown_key_counts_before_the_cookie(desk: Desk) -> None:
    browser, _ = make(desk)
    key = desk.make("/api/v1/keys", user_id="app")["key"]
    for shown, status in (("wrong", 401), (key, 403), (MASTER_KEY, 403)):
        headers = {"authorization": f"Bearer {shown}"}
        assert browser.ask("GET", "/api/v1/session", headers=headers).status_code == status
    assert browser.ask("GET", "/api/v1/users", headers={"x-api-key": MASTER_KEY}).status_code == 200
    me = browser.ask("GET", "/api/v1/me", headers={"x-api-key": key})
    assert me.json()["user"]["user_id"] == "app"


@pytest.mark.parametrize("row", sorted(row for row, action in PERMISSIONS.items() if row[0] != "GET"), ids=str)
def test_a_cookie_alone_changes_nothing(shared: tuple[Desk, Browser], row: tuple[str, str]) -> None:
    """Every route that changes something, from every other page, also without the token, or with another's."""
    if PERMISSIONS[row] is Permission.ANYBODY:
        return  # they need no session: test_another_site_signs_nobody_in
    desk, owner = shared
    path = concrete(row[1])
    other = Browser(desk)
    other.sign_in("other@acme.example")
    tries: list[dict[str, str]] = [
        {"x-csrf-token": ""},
        {"x-csrf-token": other.csrf},
        {"x-csrf-token": owner.csrf[:-1]},
        {"x-csrf-token": owner.token},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://tollhouse"},
        {"origin": "https://tollhouse:4000"},
        {"origin": "http://tollhouse:4000.evil.example"},
    ]
    for headers in tries:
        answer = owner.ask(row[0], path, {}, headers=headers)
        assert answer.status_code in (401, 403), (headers, answer.text)
        reason = answer.json().get("code") or answer.json()["error"]["reason"]
        assert reason in ("csrf", "missing_credentials")  # LiteLLM's routes take no session at all
    silent = Browser(desk, origin=None)
    silent.cookies, silent.csrf = owner.cookies, owner.csrf
    for headers in ({}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"}):
        assert silent.ask(row[0], path, {}, headers=headers).status_code in (401, 403)


def test_a_page_of_ours_may(desk: Desk) -> None:
    browser, _ = make(desk, role=Role.OWNER)
    assert browser.done("POST", "/api/v1/users", {"user_id": "a"})
    browser.origin = None
    assert browser.done("POST", "/api/v1/users", {"user_id": "b"}, headers={"sec-fetch-site": "same-origin"})


def test_behind_a_proxy_the_public_address_is_ours(tmp_path: Path) -> None:
    desk = with_options(tmp_path, public_url="https://llm.example")
    browser = Browser(desk, origin="https://llm.example")
    browser.sign_up(MIA)
    browser.done("DELETE", "/api/v1/sessions")
    browser.origin = "https://llm.example.evil.example"
    assert browser.problem(403, "DELETE", "/api/v1/sessions") == "csrf"


def test_another_site_signs_nobody_in(desk: Desk) -> None:
    make(desk)
    evil = Browser(desk, origin="https://evil.example")
    body = {"email": MIA, "password": GOOD}
    assert evil.problem(403, "POST", "/api/v1/sign-in", body) == "csrf"
    assert evil.problem(403, "POST", "/api/v1/sign-up", body | {"email": "x@acme.example"}) == "csrf"
    assert evil.cookies == {}
    Browser(desk, origin=None).sign_in(MIA)  # a program: no browser, no cookie to ride on


@given(token=st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_no_other_token_is_a_session(shared: tuple[Desk, Browser], token: str) -> None:
    desk, owner = shared
    book = keeper_of(desk).book
    assert book.find(token) is None or token == owner.token
    near = owner.token[:-1] + ("A" if owner.token[-1] != "A" else "B")
    assert book.find(near) is None


@pytest.mark.parametrize(
    "cookie", ["", ";;;", "=", f"{SESSION_COOKIE}", f"{SESSION_COOKIE}=", "x" * 20_000, "\xff=\xfe"]
)
def test_strange_cookies_are_nobodys(desk: Desk, cookie: str) -> None:
    headers = {"cookie": cookie.encode("latin-1")}
    assert desk.ask("GET", "/api/v1/session", bearer=None, headers=headers).status_code == 401


def test_two_sessions_at_once_are_none(desk: Desk) -> None:
    (mia, _), (eve, _) = make(desk), make(desk, "eve@evil.example")
    headers = {"cookie": f"{SESSION_COOKIE}={mia.token}; {SESSION_COOKIE}={eve.token}"}
    assert desk.ask("GET", "/api/v1/session", bearer=None, headers=headers).status_code == 401


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Browser]]:
    """For tests that change nothing: an owner, and somebody else."""
    opened = open_desk(tmp_path_factory.mktemp("shared"), OPEN)
    make(opened, "other@acme.example")
    owner, _ = make(opened, "owner@acme.example", Role.OWNER)
    yield opened, owner
    opened.deps.database.close()
