"""How the management API behaves to clients that share it: entity tags, keys of idempotency, rates."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.planes.control import MASTER_KEY, START_NS, Desk, open_desk
from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.rates import ManagementOptions, Rates
from tollhouse.storage import idempotency
from tollhouse.terms.people import Role

KEYS, USERS, BUDGETS = "/api/v1/keys", "/api/v1/users", "/api/v1/budgets"
TEAMS, PLANS = "/api/v1/teams", "/api/v1/plans"


@pytest.fixture
def desk(location: str) -> Iterator[Desk]:
    opened = open_desk(location)
    yield opened
    opened.deps.database.close()


# Entity tags


@pytest.fixture
def paths(desk: Desk) -> dict[str, dict[str, Any]]:
    """One thing of each kind, and a change of it."""
    desk.make(PLANS, plan_id="free")
    desk.make(TEAMS, team_id="red", budget="5/day")
    user = desk.make(USERS, user_id="alice", budget="5/day")
    key = desk.make(KEYS, user_id="alice")
    return {
        f"{USERS}/alice": {"name": "other"},
        f"{KEYS}/{key['key_id']}": {"name": "other"},
        f"{TEAMS}/red": {"name": "other"},
        f"{PLANS}/free": {"description": "other"},
        f"{BUDGETS}/{user['budgets'][0]['budget_id']}": {"amount": "6"},
    }


def test_a_thing_is_not_sent_to_who_has_it(desk: Desk, paths: dict[str, dict[str, Any]]) -> None:
    for path, change in paths.items():
        first = desk.ask("GET", path)
        tag = first.headers["etag"]
        assert tag.startswith('"')
        for shown in (tag, f'"x", {tag}', f"W/{tag}", "*"):
            again = desk.ask("GET", path, headers={"if-none-match": shown})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert desk.ask("GET", path, headers={"if-none-match": '"x"'}).json() == first.json()
        changed = desk.ask("PATCH", path, change)
        assert changed.headers["etag"] == desk.ask("GET", path).headers["etag"] != tag
        assert desk.ask("GET", path, headers={"if-none-match": tag}).status_code == 200


def test_a_change_of_another_version_is_refused(desk: Desk, paths: dict[str, dict[str, Any]]) -> None:
    for path, change in paths.items():
        tag = desk.ask("GET", path).headers["etag"]
        for wrong in ('"x"', f"W/{tag}", tag.strip('"'), ""):
            problem = desk.problem(412, "PATCH", path, change, headers={"if-match": wrong})
            assert problem["code"] == "changed_meanwhile"
        assert desk.ask("PATCH", path, change, headers={"if-match": tag}).status_code == 200
        desk.problem(412, "PATCH", path, change, headers={"if-match": tag})
        assert desk.ask("PATCH", path, change, headers={"if-match": "*"}).status_code == 200
    key, budget = (next(path for path in paths if path.startswith(noun)) for noun in (KEYS, BUDGETS))
    for method, path in (("DELETE", key), ("DELETE", budget), ("POST", f"{USERS}/alice/block")):
        desk.problem(412, method, path, headers={"if-match": '"x"'})
        assert desk.ask(method, path, headers={"if-match": "*"}).status_code in (200, 204)


def test_what_is_spent_meanwhile_spoils_no_edit_but_is_told(desk: Desk) -> None:
    budget_id = desk.make(USERS, user_id="alice", budget="5/day")["budgets"][0]["budget_id"]
    path = f"{BUDGETS}/{budget_id}"
    tag = desk.ask("GET", path).headers["etag"]
    desk.plane.held[budget_id] = 1_000_000_000
    told = desk.ask("GET", path, headers={"if-none-match": tag})
    assert (told.status_code, told.json()["held"]) == (200, "1")
    assert desk.ask("PATCH", path, {"amount": "6"}, headers={"if-match": tag}).status_code == 200


# Done once


def once(desk: Desk, key: str, body: Any = None, path: str = KEYS, **how: Any) -> Any:
    return desk.ask("POST", path, body, headers={"idempotency-key": key}, **how)


def test_what_was_done_is_answered_again_and_not_done_again(desk: Desk) -> None:
    first, second = (once(desk, "k-1", {"user_id": "alice"}) for _ in range(2))
    assert first.status_code == 201
    assert "idempotency-replayed" not in first.headers
    assert (second.status_code, second.json(), second.headers["etag"]) == (201, first.json(), first.headers["etag"])
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["cache-control"] == "no-store"
    assert len(desk.get(KEYS)["items"]) == 1
    assert desk.plane.own_key(second.json()["key"]) is not None
    other = once(desk, "k-1", {"user_id": "bob"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert once(desk, "k-2", {"user_id": "alice"}).json()["key"] != first.json()["key"]
    rotated = [once(desk, "k-1", path=f"{KEYS}/{first.json()['key_id']}/rotate").json()["key"] for _ in range(2)]
    assert rotated[0] == rotated[1] != first.json()["key"]  # another route, another matter


def test_a_key_of_idempotency_is_its_callers_own(desk: Desk) -> None:
    for user_id in ("alice", "bob"):
        desk.make(USERS, user_id=user_id)
    made = [once(desk, "k", {"name": "x"}, caller=Caller(Role.MEMBER, user_id)) for user_id in ("alice", "bob")]
    assert [one.json()["user_id"] for one in made] == ["alice", "bob"]


def test_a_refusal_is_not_kept(desk: Desk) -> None:
    assert once(desk, "k", {"user_id": ""}).status_code == 400
    assert once(desk, "k", {"user_id": "alice"}, path=f"{KEYS}/none/rotate").status_code == 400
    assert once(desk, "k", {"user_id": "alice"}).status_code == 201
    for wrong in ("", "x" * 256, "a b", "é"):
        assert desk.ask("POST", KEYS, {}, headers={"idempotency-key": wrong.encode()}).status_code == 400


def test_answers_are_forgotten_after_their_time_and_beyond_their_number(desk: Desk) -> None:
    few = desk.with_deps(options=ManagementOptions(idempotency_keep_s=60, idempotency_rows=3))
    keys = []
    for number in range(5):
        desk.plane.now_ns += 1  # of rows of one time, a database may take any for the oldest
        keys.append(once(few, f"k-{number}", {"user_id": "alice"}).json()["key"])
    assert once(few, "k-4", {"user_id": "alice"}).json()["key"] == keys[4]
    assert once(few, "k-0", {"user_id": "alice"}).json()["key"] not in keys
    desk.plane.now_ns = START_NS + 61 * 10**9
    assert once(few, "k-4", {"user_id": "alice"}).json()["key"] not in keys


def test_a_lost_answer_is_said_to_be_lost(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "keep_answer", lambda *_: None)  # as after a crash in between
    assert once(desk, "k", {"user_id": "alice"}).status_code == 201
    problem = once(desk, "k", {"user_id": "alice"})
    assert (problem.status_code, problem.json()["code"]) == (409, "idempotency_answer_lost")
    assert len(desk.get(KEYS)["items"]) == 1


def test_of_two_at_once_one_is_done(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    once(desk, "k", {"user_id": "alice"})
    monkeypatch.setattr(idempotency, "find", _first_time_blind(idempotency.find))
    problem = once(desk, "k", {"user_id": "alice"})  # looked before the other was done
    assert (problem.status_code, problem.json()["code"]) == (409, "idempotency_in_use")
    assert len(desk.get(KEYS)["items"]) == 1


def _first_time_blind(find: Any) -> Any:
    looks = iter((True,))

    def look(connection: Connection, name: bytes, **how: Any) -> Any:
        return None if next(looks, False) else find(connection, name, **how)

    return look


def test_no_secret_stands_in_the_database(tmp_path: Path) -> None:
    desk = open_desk(tmp_path)
    key = once(desk, "my-own-idempotency-key", {"user_id": "alice"}).json()["key"]
    desk.deps.database.close()
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert key.encode() not in stored
    assert b"my-own-idempotency-key" not in stored


# Rates


def test_a_caller_asks_so_often_and_no_oftener(desk: Desk) -> None:
    clock = [0.0]
    slow = desk.with_deps(options=ManagementOptions(requests_per_minute=3), monotonic=lambda: clock[0])
    ann, bob = Caller(Role.ADMIN, "ann"), Caller(Role.ADMIN, "bob")
    assert [slow.ask("GET", USERS, caller=ann).status_code for _ in range(4)] == [200, 200, 200, 429]
    told = slow.ask("GET", USERS, caller=ann)
    assert (told.json()["code"], told.headers["retry-after"]) == ("rate_limited", "20")
    assert slow.ask("GET", USERS, caller=bob).status_code == 200
    clock[0] = 20.0
    assert [slow.ask("GET", USERS, caller=ann).status_code for _ in range(2)] == [200, 429]
    by_socket = {"bearer": None, "base_url": "http://tollhouse"}
    assert {slow.ask("GET", USERS, **by_socket).status_code for _ in range(9)} == {200}


def test_who_guesses_does_not_learn_which_guess_was_good(desk: Desk) -> None:
    clock = [0.0]
    key = desk.make(KEYS, user_id="alice")["key"]
    slow = desk.with_deps(options=ManagementOptions(failures_per_minute=3), monotonic=lambda: clock[0])
    shown = [slow.ask("GET", USERS, bearer=bearer).status_code for bearer in ("a", None, "b", "c", MASTER_KEY)]
    assert shown == [401, 401, 401, 429, 429]
    assert slow.ask("GET", "/api/v1/me", bearer=key).status_code == 200  # who guesses none is not shut out by who does
    assert slow.ask("GET", USERS, bearer=None, base_url="http://tollhouse").status_code == 200
    clock[0] = 61.0
    assert slow.ask("GET", USERS).status_code == 200


def test_what_is_remembered_of_names_is_bounded() -> None:
    rates = Rates(per_minute=1, max_names=100, monotonic=lambda: 0.0)
    for number in range(1_000):
        rates.count(f"{number}")
    assert len(rates._paid_off_s) == 100
    assert rates.wait_s("999") == 60.0
    assert rates.wait_s("0") == 0.0
