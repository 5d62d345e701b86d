"""Teams, their members, plans, roles, and what each may do to keys and budgets over the management API."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.planes.control import Desk, open_desk
from tollhouse.controlplane.access import Caller
from tollhouse.storage import directory, plans, teams
from tollhouse.terms.people import Role

KEYS, USERS, BUDGETS = "/api/v1/keys", "/api/v1/users", "/api/v1/budgets"
TEAMS, PLANS, ME = "/api/v1/teams", "/api/v1/plans", "/api/v1/me"
ADMIN = Caller(Role.ADMIN, "boss")


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


def member(user_id: str, **team_roles: str) -> Caller:
    return Caller(Role.MEMBER, user_id, {team: Role(role) for team, role in team_roles.items()})


def put(desk: Desk, team_id: str, user_id: str, role: str = "member") -> None:
    assert desk.ask("PUT", f"{TEAMS}/{team_id}/members/{user_id}", {"role": role}).status_code == 200


# Roles


def test_only_an_owner_touches_owners_and_admins(desk: Desk) -> None:
    desk.make(USERS, user_id="first", role="owner")
    desk.make(USERS, user_id="alice")
    for role in ("owner", "admin"):
        assert desk.problem(403, "POST", USERS, {"user_id": "x", "role": role}, caller=ADMIN)["field"] == "role"
        desk.problem(403, "PATCH", f"{USERS}/alice", {"role": role}, caller=ADMIN)
    for body in ({"role": "member"}, {"email": "mine@example.org"}, {"limits": {"requests_per_minute": 1}}):
        desk.problem(403, "PATCH", f"{USERS}/first", body, caller=ADMIN)
    desk.problem(403, "POST", f"{USERS}/first/block", caller=ADMIN)
    assert desk.ask("PATCH", f"{USERS}/alice", {"role": "viewer"}, caller=ADMIN).json()["role"] == "viewer"
    assert desk.ask("PATCH", f"{USERS}/alice", {"role": "admin"}).json()["role"] == "admin"


@pytest.mark.parametrize("role", ["owner", "admin"])
def test_nobody_below_gets_a_key_that_makes_them_an_owner_or_admin_elsewhere(desk: Desk, role: str) -> None:
    """A key is its user to whoever asks `/authz`: applications give by its role."""
    desk.make(USERS, user_id="first", role=role)
    desk.make(TEAMS, team_id="red")
    put(desk, "red", "first")
    lead = member("lead", red="admin")
    key = desk.make(KEYS, user_id="first", team_id="red")
    for caller in (ADMIN, lead):
        body = {"user_id": "first", "team_id": "red"}
        desk.problem(403, "POST", KEYS, body, caller=caller)
        desk.problem(403, "POST", f"{KEYS}/mint", body, caller=caller)
        desk.problem(403, "POST", f"{KEYS}/{key['key_id']}/rotate", caller=caller)
    own = Caller(Role(role), "first", {"red": Role.MEMBER})
    assert desk.ask("POST", KEYS, {"team_id": "red"}, caller=own).status_code == 201
    assert desk.ask("POST", f"{KEYS}/{key['key_id']}/rotate", caller=own).status_code == 200
    assert desk.ask("POST", KEYS, {"user_id": "first"}, caller=Caller(Role.OWNER, "other")).status_code == 201
    assert desk.ask("DELETE", f"{KEYS}/{key['key_id']}", caller=lead).status_code == 200  # taking away is no giving


def test_the_last_owner_stays(desk: Desk) -> None:
    desk.make(USERS, user_id="first", role="owner")
    assert desk.problem(409, "PATCH", f"{USERS}/first", {"role": "admin"})["code"] == "last_owner"
    assert desk.problem(409, "POST", f"{USERS}/first/block")["code"] == "last_owner"
    desk.make(USERS, user_id="second", role="owner")
    assert desk.ask("POST", f"{USERS}/first/block").status_code == 200
    assert desk.problem(409, "POST", f"{USERS}/second/block")["code"] == "last_owner"  # a blocked one does not count


# Teams and their members


def test_a_team_is_made_changed_and_blocked(desk: Desk) -> None:
    desk.make(PLANS, plan_id="free")
    made = desk.make(TEAMS, team_id="red", name="Red", plan_id="free", models=["claude-*"], budget="5/day")
    assert (made["status"], made["plan_id"], made["budgets"][0]["scope_name"]) == ("active", "free", "Red")
    assert desk.problem(409, "POST", TEAMS, {"team_id": "red"})["code"] == "team_exists"
    edited = desk.ask("PATCH", f"{TEAMS}/red", {"models": None, "limits": {"requests_per_day": 7}}).json()
    assert (edited["models"], edited["name"], edited["limits"]["requests_per_day"]) == (None, "Red", 7)
    assert desk.ask("POST", f"{TEAMS}/red/block").json()["status"] == "blocked"
    assert [team["team_id"] for team in desk.get(TEAMS, params={"blocked": True})["items"]] == ["red"]
    assert desk.ask("POST", f"{TEAMS}/red/unblock").json()["blocked_at"] is None
    assert set(desk.plane.told) == {None}  # everybody's calls may count toward it
    for body in ({"team_id": "a b"}, {"team_id": "../x"}, {"team_id": ""}, {"team_id": "x" * 65}, {"team_id": "a\nb"}):
        assert desk.problem(400, "POST", TEAMS, body)["field"] == "team_id"
    assert desk.problem(400, "POST", TEAMS, {"team_id": "x", "plan_id": "gone"})["field"] == "plan_id"


def test_members_come_change_and_go_with_their_keys(desk: Desk) -> None:
    for team_id in ("red", "blue"):
        desk.make(TEAMS, team_id=team_id)
    for user_id in ("alice", "bob/x"):
        desk.make(USERS, user_id=user_id)
    put(desk, "red", "alice")
    put(desk, "blue", "alice", "viewer")
    put(desk, "red", "bob%2Fx", "admin")
    alice = desk.get(f"{USERS}/alice")
    assert alice["team_id"] == "red"  # the first team becomes their own
    assert alice["teams"] == [{"team_id": "blue", "role": "viewer"}, {"team_id": "red", "role": "member"}]
    assert [one["user_id"] for one in desk.get(f"{TEAMS}/red/members")["items"]] == ["alice", "bob/x"]
    plain = desk.make(KEYS, user_id="alice", name="through her team")
    red, blue = (desk.make(KEYS, user_id="alice", team_id=team_id) for team_id in ("red", "blue"))
    other = desk.make(KEYS, user_id="bob/x", team_id="red")
    assert [key["key_id"] for key in desk.get(KEYS, params={"team": "red"})["items"]] == [
        one["key_id"] for one in (plain, red, other)
    ]
    gone = desk.ask("DELETE", f"{TEAMS}/red/members/alice").json()
    assert gone["revoked_keys"] == [plain["key_id"], red["key_id"]]
    assert [desk.plane.own_key(one["key"]) is None for one in (plain, red, blue, other)] == [True, True, False, False]
    assert desk.get(f"{USERS}/alice")["team_id"] is None
    desk.problem(404, "DELETE", f"{TEAMS}/red/members/alice")
    desk.problem(404, "PUT", f"{TEAMS}/red/members/nobody", {})
    desk.problem(404, "PUT", f"{TEAMS}/gone/members/alice", {})
    assert desk.problem(400, "PUT", f"{TEAMS}/red/members/alice", {"role": "owner"})["field"] == "role"


def test_who_leads_a_team_leads_nobody_else(desk: Desk) -> None:
    for team_id in ("red", "blue"):
        desk.make(TEAMS, team_id=team_id)
    for user_id, team_id in (("lead", "red"), ("alice", "red"), ("bob", "blue")):
        desk.make(USERS, user_id=user_id, team_id=team_id)
    lead = member("lead", red="admin")
    desk.problem(404, "PUT", f"{TEAMS}/red/members/bob", {}, caller=lead)  # nobody is pulled in from elsewhere
    assert desk.ask("PUT", f"{TEAMS}/red/members/alice", {"role": "viewer"}, caller=lead).status_code == 200
    desk.problem(404, "PUT", f"{TEAMS}/blue/members/alice", {}, caller=lead)
    key = desk.ask("POST", KEYS, {"user_id": "alice", "team_id": "red"}, caller=lead)
    assert key.status_code == 201
    desk.problem(404, "POST", KEYS, {"user_id": "bob"}, caller=lead)
    desk.problem(404, "POST", KEYS, {"user_id": "somebody new"}, caller=lead)
    put(desk, "blue", "alice")
    assert desk.problem(403, "POST", KEYS, {"user_id": "alice", "team_id": "blue"}, caller=lead)["field"] == "team_id"
    moved = desk.problem(403, "PATCH", f"{KEYS}/{key.json()['key_id']}", {"team_id": "blue"}, caller=lead)
    assert moved["field"] == "team_id"
    over_key = {"scope": "key", "scope_id": key.json()["key_id"], "amount": "3/day"}
    assert desk.ask("POST", BUDGETS, over_key, caller=lead).status_code == 201
    for scope, scope_id in (("team", "red"), ("user", "alice"), ("organisation", None)):
        desk.problem(403, "POST", BUDGETS, {"scope": scope, "scope_id": scope_id, "amount": "1"}, caller=lead)
    for path, body in ((f"{TEAMS}/red", {"name": "x"}), (f"{USERS}/alice", {"name": "x"})):
        desk.problem(403, "PATCH", path, body, caller=lead)


# Plans


@pytest.mark.parametrize("looker", ["viewer of the organisation", "viewer of their team"])
def test_who_only_sees_people_takes_none_of_them_into_a_team(desk: Desk, looker: str) -> None:
    """Keys in the team's name are its admin's to make, and would be theirs."""
    for team in ("red", "blue"):
        desk.make(TEAMS, team_id=team)
    for user_id, team in (("lead", "red"), ("theirs", "red"), ("other", "blue")):
        desk.make(USERS, user_id=user_id)
        put(desk, team, user_id)
    whole = looker == "viewer of the organisation"
    roles = {"red": Role.ADMIN} if whole else {"red": Role.ADMIN, "blue": Role.VIEWER}
    lead = Caller(Role.VIEWER if whole else Role.MEMBER, "lead", roles)
    assert desk.get(f"{USERS}/other", caller=lead)["user_id"] == "other"
    desk.problem(403, "PUT", f"{TEAMS}/red/members/other", {}, caller=lead)
    assert desk.ask("PUT", f"{TEAMS}/red/members/theirs", {"role": "viewer"}, caller=lead).status_code == 200


def test_a_plan_is_made_changed_and_removed_when_nobody_has_it(desk: Desk) -> None:
    made = desk.make(
        PLANS, plan_id="free", limits={"requests_per_minute": 10}, budgets=["1M tokens/month", "5/day"], models=["x"]
    )
    assert made["budgets"] == [
        {"limit": "1000000", "unit": "tokens", "window": "month"},
        {"limit": "5", "unit": "usd", "window": "day"},
    ]
    desk.make(PLANS, plan_id="premium", own_key="own_only", without_own_key="free", max_output_tokens=100_000)
    edited = desk.ask("PATCH", f"{PLANS}/free", {"budgets": ["2M tokens/month"], "models": None}).json()
    assert (edited["models"], edited["limits"]["requests_per_minute"]) == (None, 10)
    assert [one["limit"] for one in edited["budgets"]] == ["2000000"]
    assert [plan["plan_id"] for plan in desk.get(PLANS)["items"]] == ["free", "premium"]
    desk.make(USERS, user_id="alice", plan_id="free")
    desk.make(KEYS, user_id="alice", plan_id="free")
    desk.make(TEAMS, team_id="red", plan_id="free")
    held = desk.problem(409, "DELETE", f"{PLANS}/free")
    assert held["code"] == "plan_in_use"
    assert [one.split()[0] for one in held["holders"]] == ["team", "user", "key", "plan"]
    assert desk.ask("DELETE", f"{PLANS}/premium").status_code == 204
    desk.problem(404, "GET", f"{PLANS}/premium")
    assert desk.problem(409, "POST", PLANS, {"plan_id": "free"})["code"] == "plan_exists"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"plan_id": "a@b"}, "plan_id"),
        ({"plan_id": "a:b"}, "plan_id"),
        ({"plan_id": "p", "budgets": ["much"]}, "budgets.0"),
        ({"plan_id": "p", "budgets": ["1/day", "2/day"]}, "budgets.1"),
        ({"plan_id": "p", "without_own_key": "gone"}, "without_own_key"),
        ({"plan_id": "p", "without_own_key": "p"}, "without_own_key"),
        ({"plan_id": "p", "own_key": "own_only", "fall_back": True}, "fall_back"),
        ({"plan_id": "p", "counts_own_key": True}, "counts_own_key"),
        ({"plan_id": "p", "max_output_tokens": 0}, "max_output_tokens"),
        ({"plan_id": "p", "edge": "downgrade"}, "edge"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(shared: Desk, body: dict[str, Any], field: str) -> None:
    assert shared.problem(400, "POST", PLANS, body)["field"] == field
    assert shared.get(PLANS)["items"] == []


def test_a_member_knows_the_plans_they_have(desk: Desk) -> None:
    for plan_id in ("free", "team", "keyed", "secret"):
        desk.make(PLANS, plan_id=plan_id)
    desk.make(PLANS, plan_id="own", own_key="own_only", without_own_key="free")
    desk.make(TEAMS, team_id="red", plan_id="team")
    desk.make(USERS, user_id="alice", plan_id="own", team_id="red")
    desk.make(KEYS, user_id="alice", plan_id="keyed")
    alice = member("alice", red="member")
    assert [one["plan_id"] for one in desk.get(PLANS, caller=alice)["items"]] == ["free", "keyed", "own", "team"]
    desk.problem(404, "GET", f"{PLANS}/secret", caller=alice)
    desk.problem(403, "PATCH", f"{PLANS}/free", {}, caller=alice)


# One's own keys


def test_a_member_makes_keys_for_themselves_and_nobody_else(desk: Desk) -> None:
    desk.make(USERS, user_id="alice")
    desk.make(USERS, user_id="bob")
    desk.make(TEAMS, team_id="red")
    desk.make(PLANS, plan_id="rich")
    alice = member("alice")
    mine = desk.ask("POST", KEYS, {"name": "laptop", "budget": "1/day"}, caller=alice).json()
    assert mine["user_id"] == "alice"
    desk.problem(404, "POST", KEYS, {"user_id": "bob"}, caller=alice)
    desk.problem(404, "POST", KEYS, {"user_id": "somebody new"}, caller=alice)
    assert desk.problem(400, "POST", KEYS, {"team_id": "red"}, caller=alice)["field"] == "team_id"
    assert desk.problem(403, "POST", KEYS, {"plan_id": "rich"}, caller=alice)["field"] == "plan_id"
    path = f"{KEYS}/{mine['key_id']}"
    assert desk.ask("POST", f"{path}/rotate", caller=alice).status_code == 200
    assert desk.ask("DELETE", path, caller=alice).json()["status"] == "revoked"


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"name": "other"}, True),
        ({"limits": {"requests_per_minute": 5}}, True),
        ({"limits": {"tokens_per_minute": 5}}, True),
        ({"limits": {"requests_per_minute": 11}}, False),
        ({"limits": {"requests_per_minute": None}}, False),
        ({"models": ["claude-*"]}, True),
        ({"models": None}, False),
        ({"models": ["*"]}, False),
        ({"expires": "1h"}, True),
        ({"expires": "31d"}, False),
        ({"expires": "never"}, False),
    ],
)
def test_a_member_narrows_their_key_and_never_widens_it(shared: Desk, change: dict[str, Any], allowed: bool) -> None:
    limits = {"requests_per_minute": 10}
    key = shared.make(KEYS, user_id="alice", limits=limits, models=["claude-*", "gpt-*"], expires="30d")
    path = f"{KEYS}/{key['key_id']}"
    answer = shared.ask("PATCH", path, change, caller=member("alice"))
    assert answer.status_code == (200 if allowed else 403), answer.text
    if not allowed:
        assert answer.json()["field"].split(".")[0] == next(iter(change))
        assert shared.ask("PATCH", path, change).status_code == 200


# What is left


def test_me_tells_all_that_a_call_must_have_room_in(desk: Desk) -> None:
    desk.make(
        PLANS, plan_id="free", limits={"requests_per_minute": 10}, budgets=["1M tokens/month"], max_output_tokens=1_000
    )
    desk.make(PLANS, plan_id="crew", max_output_tokens=5_000)
    desk.make(TEAMS, team_id="red", name="Red", plan_id="crew", budget="100/month")
    desk.make(USERS, user_id="alice", plan_id="free", team_id="red", limits={"requests_per_day": 3}, budget="5/day")
    key = desk.make(KEYS, user_id="alice")
    by_key = desk.get(ME, bearer=key["key"])
    signed_in = desk.get(ME, caller=member("alice", red="member"))
    assert by_key["key"]["key_id"] == key["key_id"]
    assert signed_in["key"] is None
    for me in (by_key, signed_in):
        assert (me["plan"]["plan_id"], me["max_output_tokens"], me["team"]["name"]) == ("free", 1_000, "Red")
        assert me["teams"] == [{"team_id": "red", "role": "member"}]
        of_user = next(one for one in me["limits"] if one["scope"] == "user")["limits"]
        assert (of_user["requests_per_minute"], of_user["requests_per_day"]) == (10, 3)
        budgets = {(one["scope"], one["unit"], one["owned_by"]): one["remaining"] for one in me["budgets"]}
        assert budgets == {
            ("team", "usd", ""): "100",
            ("user", "usd", ""): "5",
            ("user", "tokens", "plan:free"): "1000000",
        }
    assert desk.problem(403, "GET", ME)["code"] == "key_only"  # the operator is nobody in particular


# What a file owns


def test_what_a_file_owns_is_read_only_here(desk: Desk) -> None:
    desk.make(PLANS, plan_id="free")
    desk.make(TEAMS, team_id="red")
    user = desk.make(USERS, user_id="alice", budget="5/day")
    desk.make(USERS, user_id="bob")
    key = desk.make(KEYS, user_id="alice")
    budget_id = user["budgets"][0]["budget_id"]
    mine = msgspec.structs.replace

    def declare(connection: Any) -> None:
        owned = {"owned_by": "people.yaml"}
        directory.update_user(connection, mine(directory.get_user(connection, "alice"), **owned))  # type: ignore[type-var]
        directory.update_key(connection, mine(directory.get_key(connection, key["key_id"]), **owned))  # type: ignore[type-var]
        teams.update_team(connection, mine(teams.get_team(connection, "red"), **owned))  # type: ignore[type-var]
        plans.update_plan(connection, mine(plans.get_plan(connection, "free"), **owned))  # type: ignore[type-var]
        budget = mine(directory.get_budget(connection, budget_id), **owned)  # type: ignore[type-var]
        directory.delete_budget(connection, budget_id)
        directory.create_budget(connection, budget)

    desk.deps.database.run_sync(declare)
    for method, path, body in (
        ("PATCH", f"{USERS}/alice", {"name": "x"}),
        ("PATCH", f"{KEYS}/{key['key_id']}", {"name": "x"}),
        ("PATCH", f"{TEAMS}/red", {"name": "x"}),
        ("PUT", f"{TEAMS}/red/members/bob", {}),
        ("DELETE", f"{TEAMS}/red/members/bob", None),
        ("POST", USERS, {"user_id": "carol", "team_id": "red"}),
        ("PATCH", f"{PLANS}/free", {"description": "x"}),
        ("DELETE", f"{PLANS}/free", None),
        ("PATCH", f"{BUDGETS}/{budget_id}", {"amount": "6"}),
        ("DELETE", f"{BUDGETS}/{budget_id}", None),
    ):
        problem = desk.problem(409, method, path, body)
        assert (problem["code"], problem["owned_by"]) == ("declared", "people.yaml"), path
    # Taking away never waits for a file.
    assert desk.ask("POST", f"{USERS}/alice/block").status_code == 200
    assert desk.ask("POST", f"{TEAMS}/red/block").status_code == 200
    assert desk.ask("DELETE", f"{KEYS}/{key['key_id']}").status_code == 200
