"""Users, keys, budgets and reports over the management API."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.planes.control import SECRET, START_NS, Desk, open_desk, refused, settled
from tollhouse.controlplane.times import iso_ns
from tollhouse.rules import keys as key_rules
from tollhouse.storage.ledger import ship
from tollhouse.terms.errors import StorageError
from tollhouse.terms.events import SettleKind

KEYS, USERS, BUDGETS = "/api/v1/keys", "/api/v1/users", "/api/v1/budgets"


@pytest.fixture
def desk(location: str) -> Iterator[Desk]:
    opened = open_desk(location)
    yield opened
    opened.deps.database.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For tests that leave nothing behind which another would stumble over."""
    opened = open_desk(tmp_path_factory.mktemp("shared"))
    yield opened
    opened.deps.database.close()


# Keys


def test_a_key_is_made_with_its_user_on_first_mention(desk: Desk) -> None:
    answer = desk.ask(
        "POST",
        KEYS,
        {
            "user_id": "alice",
            "name": "ci",
            "budget": "20/month",
            "limits": {"requests_per_minute": 60},
            "models": ["claude-*"],
            "expires": "30d",
            "metadata": {"team": "core"},
        },
    )
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    key = answer.json()
    assert key_rules.is_well_formed(key["key"])
    assert key["hint"] == key_rules.hint(key["key"])
    assert key["limits"]["requests_per_minute"] == 60
    assert key["expires_at"] == iso_ns(START_NS + 30 * 86_400 * 10**9)
    budget = key["budgets"][0]
    assert (budget["limit"], budget["unit"], budget["window"]) == ("20", "usd", "month")
    assert (budget["posted"], budget["held"], budget["remaining"]) == ("0", "0", "20")
    assert budget["scope_name"] == "ci"
    assert desk.get(f"{USERS}/alice")["status"] == "active"
    assert desk.plane.told == ["alice"]
    assert desk.plane.own_key(key["key"]) is not None  # effective before the answer


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_the_secret_is_shown_once_and_stored_nowhere(desk: Desk, tmp_path: Path) -> None:
    key = desk.make(KEYS, user_id="alice")
    for path in (KEYS, f"{KEYS}/{key['key_id']}", f"{USERS}/alice", f"{BUDGETS}"):
        assert key["key"] not in desk.ask("GET", path).text
    desk.deps.database.close()
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert key["key"].encode() not in stored
    assert key_rules.digest(SECRET, key["key"].encode()) in stored


def test_rotation_keeps_the_old_secret_for_its_grace(desk: Desk) -> None:
    key = desk.make(KEYS, user_id="alice")
    rotated = desk.make(f"{KEYS}/{key['key_id']}/rotate", grace="1h")
    assert rotated["key"] != key["key"]
    assert rotated["key_id"] == key["key_id"]
    assert desk.plane.own_key(key["key"]) is not None
    desk.plane.now_ns += 3600 * 10**9
    assert desk.plane.own_key(key["key"]) is None
    assert desk.plane.own_key(rotated["key"]) is not None
    again = desk.ask("POST", f"{KEYS}/{key['key_id']}/rotate").json()  # no body: no grace
    assert desk.plane.own_key(rotated["key"]) is None
    assert desk.plane.own_key(again["key"]) is not None
    assert desk.problem(400, "POST", f"{KEYS}/{key['key_id']}/rotate", {"grace": "31d"})["field"] == "grace"


def test_a_revoked_key_stays_revoked(desk: Desk) -> None:
    key = desk.make(KEYS, user_id="alice", name="ci")
    path = f"{KEYS}/{key['key_id']}"
    revoked = desk.ask("DELETE", path).json()
    assert revoked["status"] == "revoked"
    assert desk.plane.own_key(key["key"]) is None
    desk.plane.now_ns += 10**9
    assert desk.ask("DELETE", path).json()["revoked_at"] == revoked["revoked_at"]
    assert desk.problem(409, "PATCH", path, {"name": "x"})["code"] == "key_revoked"
    assert desk.problem(409, "POST", f"{path}/rotate")["code"] == "key_revoked"


def test_an_edit_changes_only_what_is_given(desk: Desk) -> None:
    key = desk.make(
        KEYS,
        user_id="a",
        name="ci",
        models=["x"],
        expires="1d",
        limits={"requests_per_minute": 6, "parallel_requests": 2},
    )
    path = f"{KEYS}/{key['key_id']}"
    edited = desk.ask("PATCH", path, {"limits": {"requests_per_minute": None, "tokens_per_minute": 9}}).json()
    limits = edited["limits"]
    assert (limits["requests_per_minute"], limits["tokens_per_minute"], limits["parallel_requests"]) == (None, 9, 2)
    same = ("name", "models", "expires_at", "metadata", "hint")
    assert [edited[name] for name in same] == [key[name] for name in same]
    freed = desk.ask("PATCH", path, {"models": None, "expires": "never"}).json()
    assert (freed["models"], freed["expires_at"], freed["name"]) == (None, None, "ci")
    assert desk.get(path)["secrets"][0]["hint"] == key["hint"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "user_id"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "a\nb"}, "user_id"),
        ({"user_id": "a" * 257}, "user_id"),
        ({"user_id": ".."}, "user_id"),
        ({"user_id": "a/./b"}, "user_id"),
        ({"user_id": 7}, "user_id"),
        ({"user_id": "a", "limits": {"requests_per_minute": 0}}, "limits.requests_per_minute"),
        ({"user_id": "a", "limits": {"requests_per_minute": 1.5}}, "limits.requests_per_minute"),
        ({"user_id": "a", "limits": {"rpm": 1}}, "limits.rpm"),
        ({"user_id": "a", "budget": "much"}, "budget"),
        ({"user_id": "a", "budget": "20/fortnight"}, "budget"),
        ({"user_id": "a", "budget": "-1"}, "budget"),
        ({"user_id": "a", "expires": "soon"}, "expires"),
        ({"user_id": "a", "expires": "2020-01-01"}, "expires"),
        ({"user_id": "a", "models": []}, "models"),
        ({"user_id": "a", "models": ["a b"]}, "models.0"),
        ({"user_id": "a", "metadata": {"x": "y" * 20_000}}, "metadata"),
        ({"user_id": "a", "metadata": json.loads('{"x":' * 300 + "1" + "}" * 300)}, "metadata"),
        ({"user_id": "a", "buget": "20"}, "buget"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_made(shared: Desk, body: dict[str, Any], field: str) -> None:
    problem = shared.problem(400, "POST", KEYS, body)
    assert problem["code"] == "invalid_request"
    assert problem["field"] == field
    assert problem["detail"].startswith(field)
    assert shared.get(KEYS)["items"] == []
    assert shared.get(USERS)["items"] == []


def test_what_is_no_json_is_said_so(desk: Desk) -> None:
    answer = desk.ask("POST", KEYS, content=b'{"user_id": ', headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
    form = desk.ask("POST", KEYS, content=b'{"user_id": "a"}', headers={"content-type": "text/plain"})
    assert form.status_code == 400


def test_errors_never_repeat_what_was_sent(desk: Desk) -> None:
    secret = "sk-ant-api03-very-secret"
    answer = desk.ask("POST", KEYS, {"user_id": "a", "limits": secret, "models": secret, "expires": 5})
    assert answer.status_code == 400
    assert secret not in answer.text


def test_keys_are_found_by_user_and_name_and_paged(desk: Desk) -> None:
    for number in range(7):
        desk.make(KEYS, user_id=f"user{number % 2}", name=f"name{number % 3}")
    everything = desk.get(KEYS)["items"]
    assert len(everything) == 7
    pages, cursor = [], None
    while True:
        page = desk.get(KEYS, params={"limit": 3, **({"cursor": cursor} if cursor else {})})
        pages.append(len(page["items"]))
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert pages == [3, 3, 1]
    assert desk.get(KEYS, params={"limit": 7})["next_cursor"] is None  # full, and the last one all the same
    assert len(desk.get(KEYS, params={"user": "user0"})["items"]) == 4
    assert len(desk.get(KEYS, params={"name": "name0"})["items"]) == 3
    assert len(desk.get(KEYS, params={"name": "name0", "user": "user0"})["items"]) == 2
    assert desk.problem(400, "GET", KEYS, params={"cursor": "!!"})["field"] == "cursor"
    assert desk.problem(400, "GET", KEYS, params={"limit": 501})["field"] == "limit"


def test_a_character_that_no_database_need_hold_is_refused_everywhere(desk: Desk) -> None:
    desk.make(USERS, user_id="alice")
    cursors = [base64.urlsafe_b64encode(text).decode() for text in (b"a\0b", b"%d:x" % 2**63)]
    for method, path, body in (
        ("GET", f"{USERS}/a%00b", None),
        ("GET", f"{KEYS}?user=a%00b", None),
        ("GET", f"{USERS}?cursor={cursors[0]}", None),
        ("GET", f"/api/v1/requests?cursor={cursors[1]}", None),
        ("POST", USERS, {"user_id": "a\0b"}),
        ("PATCH", f"{USERS}/alice", {"email": "a\0b"}),
        ("POST", KEYS, {"user_id": "alice", "name": "a\0b"}),
    ):
        desk.problem(400, method, path, body)
    facts = {"a\0b": ["c\0d"]}
    assert desk.ask("PATCH", f"{USERS}/alice", {"metadata": facts}).json()["metadata"] == facts
    assert desk.get(f"{USERS}/alice")["metadata"] == facts


# Users


@pytest.mark.parametrize("user_id", ["alice", "a/b", "x/block", "ä ö", "/a", "100%", "a?b#c", "..."])
def test_a_user_id_is_any_string(desk: Desk, user_id: str) -> None:
    path = f"{USERS}/{quote(user_id, safe='')}"
    desk.make(USERS, user_id=user_id)
    assert desk.get(path)["user_id"] == user_id
    assert desk.ask("POST", f"{path}/block").json()["status"] == "blocked"
    assert desk.ask("PATCH", path, {"name": "N"}).json()["name"] == "N"
    assert [user["user_id"] for user in desk.get(USERS)["items"]] == [user_id]


def test_a_blocked_users_keys_stop_and_start_with_them(desk: Desk) -> None:
    key = desk.make(KEYS, user_id="alice")
    blocked = desk.ask("POST", f"{USERS}/alice/block").json()
    assert desk.plane.own_key(key["key"]) is None
    desk.plane.now_ns += 10**9
    assert desk.ask("POST", f"{USERS}/alice/block").json()["blocked_at"] == blocked["blocked_at"]
    assert desk.problem(409, "POST", KEYS, {"user_id": "alice"})["code"] == "user_blocked"
    assert desk.ask("POST", f"{USERS}/alice/unblock").json()["status"] == "active"
    assert desk.plane.own_key(key["key"]) is not None
    assert desk.problem(404, "POST", f"{USERS}/bob/block")["code"] == "not_found"


def test_a_user_is_made_once(desk: Desk) -> None:
    made = desk.make(USERS, user_id="alice", email="a@example.org", budget="5/day", limits={"parallel_requests": 3})
    assert made["budgets"][0]["limit"] == "5"
    assert made["budgets"][0]["resets_at"] is not None
    assert desk.problem(409, "POST", USERS, {"user_id": "alice", "budget": "7/day"})["code"] == "user_exists"
    assert len(desk.get(BUDGETS)["items"]) == 1
    edited = desk.ask("PATCH", f"{USERS}/alice", {"limits": {"requests_per_day": 5}}).json()
    assert edited["email"] == "a@example.org"
    assert edited["limits"]["parallel_requests"] == 3
    assert edited["limits"]["requests_per_day"] == 5


# Budgets


def test_budgets_hold_over_each_scope(desk: Desk) -> None:
    key = desk.make(KEYS, user_id="alice", name="ci")
    desk.plane.told.clear()
    everyone = desk.make(BUDGETS, scope="organisation", amount="100/month", timezone="Europe/Berlin", edge="refuse")
    user = desk.make(BUDGETS, scope="user", scope_id="alice", amount="1M tokens/day")
    of_key = desk.make(BUDGETS, scope="key", scope_id=key["key_id"], amount="500 requests")
    assert desk.plane.told == [None, "alice", "alice"]
    assert (everyone["scope_id"], everyone["timezone"], everyone["edge"]) == ("default", "Europe/Berlin", "refuse")
    assert (user["limit"], user["unit"], of_key["window"], of_key["resets_at"]) == ("1000000", "tokens", "total", None)
    mine = desk.get("/api/v1/me", bearer=key["key"])
    assert [budget["scope"] for budget in mine["budgets"]] == ["organisation", "user", "key"]
    assert mine["key"]["key_id"] == key["key_id"]
    assert [one["budget_id"] for one in desk.get(BUDGETS, params={"scope": "user"})["items"]] == [user["budget_id"]]


def test_a_budget_shows_spent_held_and_left_apart(desk: Desk) -> None:
    key = desk.make(KEYS, user_id="alice", budget="1/month")
    budget = key["budgets"][0]
    budget_id = budget["budget_id"]
    start_s = desk.plane.standing(desk.plane.image.budgets[0]).window_start_s
    call = settled("req_1", key, amount_nusd=42_000, budgets=((budget_id, start_s),))
    desk.deps.database.run_sync(lambda connection: ship(connection, [call]))
    desk.plane.held[budget_id] = 300_000_000
    desk.ask("PATCH", f"{BUDGETS}/{budget_id}", {"edge": "clamp"})
    shown = desk.get(f"{BUDGETS}/{budget_id}")
    assert (shown["posted"], shown["held"], shown["remaining"]) == ("0.000042", "0.3", "0.699958")
    lowered = desk.ask("PATCH", f"{BUDGETS}/{budget_id}", {"amount": "0.1"}).json()
    assert (lowered["limit"], lowered["posted"], lowered["remaining"]) == ("0.1", "0.000042", "-0.200042")


def test_a_scope_has_one_budget_of_a_unit_and_window(desk: Desk) -> None:
    first = desk.make(USERS, user_id="alice", budget="20/month")["budgets"][0]
    problem = desk.problem(409, "POST", BUDGETS, {"scope": "user", "scope_id": "alice", "amount": "30/month"})
    assert problem["existing"] == first["budget_id"]
    desk.make(BUDGETS, scope="user", scope_id="alice", amount="5/day")


@pytest.mark.parametrize(
    ("amount", "edited", "limit"),
    [
        ("20/month", "30", "30"),
        ("20/month", "$0.5/month", "0.5"),
        ("20/month", "30/day", None),
        ("20/month", "5 tokens", None),
        ("1M tokens/month", "2M", "2000000"),
        ("1M tokens/month", "2M tokens", "2000000"),
        ("1M tokens/month", "2M tokens/month", "2000000"),
        ("1M tokens/month", "$2", None),
        ("90 requests", "100", "100"),
        ("90 requests", "1 request", "1"),
        ("90 requests", "x", None),
    ],
)
def test_an_amount_is_edited_in_its_own_unit(desk: Desk, amount: str, edited: str, limit: str | None) -> None:
    budget_id = desk.make(USERS, user_id="alice", budget=amount)["budgets"][0]["budget_id"]
    answer = desk.ask("PATCH", f"{BUDGETS}/{budget_id}", {"amount": edited})
    if limit is None:
        assert (answer.status_code, answer.json()["field"]) == (400, "amount")
    else:
        assert answer.json()["limit"] == limit


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"scope": "user", "amount": "1"}, 400),
        ({"scope": "team", "scope_id": "x", "amount": "1"}, 404),
        ({"scope": "user", "scope_id": "nobody", "amount": "1"}, 404),
        ({"scope": "key", "scope_id": "key_0", "amount": "1"}, 404),
        ({"scope": "organisation", "scope_id": "other", "amount": "1"}, 400),
        ({"scope": "organisation", "amount": "1", "timezone": "Mars/Olympus"}, 400),
        ({"scope": "organisation", "amount": "1", "edge": "explode"}, 400),
    ],
)
def test_a_budget_over_nothing_is_refused(shared: Desk, body: dict[str, Any], status: int) -> None:
    shared.problem(status, "POST", BUDGETS, body)
    assert shared.get(BUDGETS)["items"] == []


def test_a_budget_is_removed(desk: Desk) -> None:
    budget_id = desk.make(USERS, user_id="alice", budget="20")["budgets"][0]["budget_id"]
    assert desk.ask("DELETE", f"{BUDGETS}/{budget_id}").status_code == 204
    assert desk.plane.image.budgets == ()
    desk.problem(404, "DELETE", f"{BUDGETS}/{budget_id}")
    desk.problem(404, "GET", f"{BUDGETS}/{budget_id}")


# Reports


def test_usage_by_every_group(desk: Desk) -> None:
    alice, bob = (desk.make(KEYS, user_id=user, name=f"key of {user}") for user in ("alice", "bob"))
    day_ns = 86_400 * 10**9
    desk.plane.waiting = [
        settled("req_1", alice, amount_nusd=5),
        settled("req_2", bob, amount_nusd=2_000_000_000, model="gpt-5", kind=SettleKind.UPPER),
        settled("req_3", bob, amount_nusd=7, at_ns=START_NS - day_ns, client="claude-cli", kind=SettleKind.ESTIMATED),
    ]
    report = desk.get("/api/v1/usage", params={"by": "user"})
    assert [(row["group"], row["amount_usd"]) for row in report["rows"]] == [
        ("bob", "2.000000007"),
        ("alice", "0.000000005"),
    ]
    total = report["total"]
    assert (total["calls"], total["amount_usd"]) == (3, "2.000000012")
    assert (total["upper_usd"], total["estimated_usd"]) == ("2", "0.000000007")
    by_key = desk.get("/api/v1/usage", params={"by": "key", "limit": 1})
    assert [row["label"] for row in by_key["rows"]] == ["key of bob"]
    assert by_key["total"] == total  # of everything, not only of the rows
    assert len(desk.get("/api/v1/usage", params={"by": "day"})["rows"]) == 2
    assert len(desk.get("/api/v1/usage", params={"by": "model", "since": "1h"})["rows"]) == 2
    only = desk.get("/api/v1/usage", params={"by": "client", "user": "bob", "until": "1h"})
    assert [(row["group"], row["input_tokens"], row["cache_read_tokens"]) for row in only["rows"]] == [
        ("claude-cli", 100, 50)
    ]
    assert desk.get("/api/v1/usage", params={"user": "nobody"})["rows"] == []


@pytest.mark.parametrize("query", [{"by": "planet"}, {"since": "yesterday"}, {"limit": 0}, {"utc_offset_s": 90_000}])
def test_a_wrong_report_is_refused(shared: Desk, query: dict[str, str]) -> None:
    assert shared.problem(400, "GET", "/api/v1/usage", params=query)["field"] == next(iter(query))


def test_the_request_log_is_paged_newest_first(desk: Desk) -> None:
    key = desk.make(KEYS, user_id="alice")
    calls = [settled(f"req_{number}", key, at_ns=START_NS + number * 10**9) for number in range(5)]
    desk.deps.database.run_sync(lambda connection: ship(connection, calls, [refused("req_no", key)]))
    first = desk.get("/api/v1/requests", params={"limit": 4})
    rest = desk.get("/api/v1/requests", params={"limit": 4, "cursor": first["next_cursor"]})
    seen = [row["request_id"] for row in first["items"] + rest["items"]]
    assert seen == ["req_4", "req_3", "req_2", "req_1", "req_no", "req_0"]
    assert rest["next_cursor"] is None
    assert [row["code"] for row in desk.get("/api/v1/requests", params={"failed": True})["items"]] == [
        "budget_exhausted"
    ]
    one = first["items"][0]
    assert (one["duration_ms"], one["usage"]["output_tokens"], one["kind"]) == (1500.0, 20, "exact")
    for cursor in ("!!", "YQ", "MTox"):  # nonsense, no cursor of this list, one it could have given
        status = desk.ask("GET", "/api/v1/requests", params={"cursor": cursor}).status_code
        assert status == (200 if cursor == "MTox" else 400)


# The gateway itself


def test_status_probes_only_when_asked(desk: Desk) -> None:
    probed: list[int] = []

    async def probe() -> dict[str, Any]:
        probed.append(1)
        return {"anthropic": {"reachable": True}}

    watched = desk.with_deps(probe=probe)
    assert "probes" not in watched.get("/api/v1/status")
    assert watched.get("/api/v1/status", params={"probe": True})["probes"] == {"anthropic": {"reachable": True}}
    assert probed == [1]
    desk.plane.reason = "draining"
    assert desk.get("/api/v1/status")["not_ready"] == "draining"


def test_a_broken_database_is_a_503_that_says_so(desk: Desk) -> None:
    async def unwell(_user_id: str | None) -> None:
        raise StorageError("disk I/O error")

    problem = desk.with_deps(changed=unwell).problem(503, "POST", KEYS, {"user_id": "alice"})
    assert problem["code"] == "store_unavailable"
    assert "disk I/O error" in problem["detail"]
