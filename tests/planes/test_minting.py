"""Short-lived keys: they end, so many work at once, and those long over are cleaned up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planes.control import Desk, open_desk
from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.minting import KEEP_S
from tollhouse.controlplane.rates import ManagementOptions
from tollhouse.terms.people import Role

MINT, KEYS = "/api/v1/keys/mint", "/api/v1/keys"
HOUR_NS = 3_600 * 10**9


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = open_desk(tmp_path).with_deps(options=ManagementOptions(minted_living=3))
    yield opened
    opened.deps.database.close()


def test_a_minted_key_ends(desk: Desk) -> None:
    made = desk.make(MINT, user_id="alice", ttl="15m", models=["claude-*"])
    assert (made["name"], made["models"], made["user_id"]) == ("minted", ["claude-*"], "alice")
    assert desk.plane.own_key(made["key"]) is not None
    desk.plane.now_ns += HOUR_NS // 4
    assert desk.plane.own_key(made["key"]) is None


@pytest.mark.parametrize("ttl", ["59s", "25h", "never", "2030-01-01", ""])
def test_the_life_of_one_is_bounded(desk: Desk, ttl: str) -> None:
    assert desk.problem(400, "POST", MINT, {"user_id": "alice", "ttl": ttl})["field"] == "ttl"


def test_nobody_fills_the_memory_with_keys_of_theirs(desk: Desk) -> None:
    """Revoked ones and ended secrets are kept, so they count."""
    desk = desk.with_deps(options=ManagementOptions(secrets_of_user=3))
    desk.make("/api/v1/users", user_id="alice")
    alice = Caller(Role.MEMBER, "alice")
    key_id = desk.ask("POST", KEYS, {}, caller=alice).json()["key_id"]
    minted = desk.ask("POST", MINT, {}, caller=alice).json()["key_id"]
    assert desk.ask("DELETE", f"{KEYS}/{minted}", caller=alice).status_code == 200
    assert desk.ask("POST", f"{KEYS}/{key_id}/rotate", caller=alice).status_code == 200
    for path in (KEYS, MINT, f"{KEYS}/{key_id}/rotate"):
        assert desk.problem(409, "POST", path, {}, caller=alice)["code"] == "too_many_keys"
    desk.make(KEYS, user_id="alice")  # the operator may


def test_so_many_work_at_once(desk: Desk) -> None:
    desk.make(KEYS, user_id="alice", name="minted", expires="30d")  # one that a person made does not count
    for ttl in ("1h", "2h", "2h"):
        desk.make(MINT, user_id="alice", ttl=ttl)
    answer = desk.ask("POST", MINT, {"user_id": "alice"})
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_minted_keys")
    assert answer.headers["retry-after"] == "3601"
    assert len(desk.get(KEYS)["items"]) == 4
    desk.make(MINT, user_id="bob")
    desk.plane.now_ns += HOUR_NS + 1
    made = desk.make(MINT, user_id="alice")
    desk.ask("DELETE", f"{KEYS}/{made['key_id']}")
    desk.make(MINT, user_id="alice")  # a revoked one makes room, too


def test_those_long_over_are_forgotten_and_no_others(desk: Desk) -> None:
    kept = desk.make(KEYS, user_id="alice", name="minted", expires="1h")
    first = desk.make(MINT, user_id="alice")
    budgeted = desk.make(MINT, user_id="alice")
    desk.make("/api/v1/budgets", scope="key", scope_id=budgeted["key_id"], amount="1/day")
    desk.plane.now_ns += HOUR_NS + KEEP_S * 10**9 + 1
    made = desk.make(MINT, user_id="bob")
    left = {key["key_id"] for key in desk.get(KEYS)["items"]}
    assert left == {kept["key_id"], budgeted["key_id"], made["key_id"]}
    assert first["key_id"] not in left


def test_members_mint_for_themselves(desk: Desk) -> None:
    desk.make("/api/v1/users", user_id="alice")
    desk.make("/api/v1/users", user_id="bob")
    alice = Caller(Role.MEMBER, "alice")
    made = desk.ask("POST", MINT, {}, caller=alice)
    assert (made.status_code, made.json()["user_id"]) == (201, "alice")
    assert desk.ask("POST", MINT, {"user_id": "bob"}, caller=alice).status_code in (403, 404)
    assert desk.problem(400, "POST", MINT, {})["field"] == "user_id"  # the operator has no keys
