"""Declared files at the API: a plan of what changes, one transaction, the same file twice changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.planes.control import START_NS, Desk, open_desk, settled
from tollhouse.rules import keys as key_rules
from tollhouse.storage import directory, teams
from tollhouse.storage.ledger import ship
from tollhouse.storage.plans import all_plans
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import BudgetEdge, BudgetUnit, BudgetWindow, OwnKeyRule, Role, Team, User

ROUTE = "/api/v1/declarations"
EXAMPLE = Path(__file__).parents[2] / "examples" / "plans.yaml"
FILE = yaml.safe_load(
    """
    plans:
      - {plan_id: free, limits: {requests_per_minute: 10}, budgets: [1M tokens/month], max_output_tokens: 1000}
    teams:
      - team_id: red
        name: Red
        plan_id: free
        models: [claude-*]
        budgets: [100/month]
        members: {alice: admin, bob: member}
    users:
      - {user_id: alice, email: alice@example.org, role: admin, team_id: red, budgets: [20/month, 500 requests/day]}
      - {user_id: bob, limits: {parallel_requests: 2}, metadata: {seat: 7}}
    keys:
      - {name: ci, user_id: bob, team_id: red, models: [claude-haiku-*], expires: "2030-01-01", budgets: [5/day]}
    budgets:
      - {scope: organisation, amount: 500/month, timezone: Europe/Berlin, edge: refuse}
    providers:
      - {name: gateway, kind: openai, base_url: "https://llm.example/v1", api_key: env:GATEWAY_KEY, models: ["own-*"]}
    """
)


@dataclass
class Book:
    """Providers that are called by nobody."""

    wrong: dict[str, str] = field(default_factory=dict)
    adopted: int = 0

    def rows(self) -> list[dict[str, Any]]:
        return []

    def faults(self, rows: Any) -> list[tuple[str, str, str]]:
        return [(row.name, "api_key", self.wrong[row.name]) for row in rows if row.name in self.wrong]

    async def adopt(self) -> None:
        self.adopted += 1

    def host_of(self, name: str) -> str | None:
        return None


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def desk(location: str, book: Book) -> Iterator[Desk]:
    opened = open_desk(location).with_deps(providers=book)
    yield opened
    opened.deps.database.close()


def apply(desk: Desk, resources: Any, owner: str = "people.yaml", **how: Any) -> Any:
    return desk.make(ROUTE, owner=owner, resources=resources, **how)


def acts(answer: Any, *kinds: str) -> list[tuple[str, str, str]]:
    return [(one["act"], one["kind"], one["name"]) for one in answer["changes"] if one["act"] in (kinds or one["act"])]


def faults(desk: Desk, resources: Any, **how: Any) -> dict[str, str]:
    problem = desk.problem(400, "POST", ROUTE, {"owner": "people.yaml", "resources": resources, **how})
    return {error["field"].removeprefix("resources."): error["message"] for error in problem["errors"]}


def without(resources: Any, noun: str, **field: str) -> Any:
    """The same file without one row, or without a noun."""
    name, value = next(iter(field.items()), ("", ""))
    return {**resources, noun: [row for row in resources[noun] if name and row[name] != value]}


def test_a_file_makes_what_it_states(desk: Desk, book: Book) -> None:
    answer = apply(desk, FILE)
    assert {act for act, _, _ in acts(answer)} == {"create"}
    assert answer["summary"] == {"create": 13, "update": 0, "unchanged": 0, "delete": 0, "left": 0}
    image = desk.plane.image
    [team] = image.teams
    assert (team.name, team.plan_id, team.models, team.owned_by) == ("Red", "free", ("claude-*",), "people.yaml")
    people = {user.user_id: user for user in image.users}
    assert (people["alice"].role, people["alice"].team_id) == (Role.ADMIN, "red")
    assert (people["bob"].role, people["bob"].metadata) == (Role.MEMBER, {"seat": 7})
    assert {user.owned_by for user in image.users} == {"people.yaml"}
    stated = {
        (one.scope, one.scope_id, one.unit, one.window): one for one in image.budgets if "plan:" not in one.budget_id
    }
    assert len(stated) == 5
    everybody = stated[ScopeKind.ORGANISATION, "default", BudgetUnit.USD, BudgetWindow.MONTH]
    assert (everybody.limit, everybody.timezone, everybody.edge) == (500 * 10**9, "Europe/Berlin", BudgetEdge.REFUSE)
    assert book.adopted == 1
    [made] = answer["keys"]
    assert key_rules.is_well_formed(made["key"])
    key = desk.plane.own_key(made["key"])
    assert key is not None
    assert (key.name, key.user_id, key.team_id, key.models) == ("ci", "bob", "red", ("claude-haiku-*",))
    assert key.hint == key_rules.hint(made["key"])
    assert (ScopeKind.KEY, key.key_id, BudgetUnit.USD, BudgetWindow.DAY) in stated


def test_the_same_file_again_changes_nothing_and_shows_no_secret(desk: Desk, book: Book) -> None:
    made = apply(desk, FILE)["keys"][0]["key"]
    before, told = desk.plane.image, len(desk.plane.told)
    desk.plane.now_ns += 10**15
    answer = apply(desk, FILE, prune=True)
    assert {act for act, _, _ in acts(answer)} == {"unchanged"}
    assert answer["keys"] == []
    assert made not in str(answer)
    assert (desk.plane.image, len(desk.plane.told), book.adopted) == (before, told, 1)


def test_a_dry_run_says_the_same_and_changes_nothing(desk: Desk, book: Book) -> None:
    planned = apply(desk, FILE, dry_run=True)
    assert (planned["keys"], planned["dry_run"]) == ([], True)
    assert desk.get("/api/v1/users")["items"] == []
    assert (desk.plane.told, book.adopted) == ([], 0)
    assert acts(apply(desk, FILE)) == acts(planned)


def test_a_lost_answer_can_be_had_again_with_its_new_keys(desk: Desk) -> None:
    body, headers = {"owner": "people.yaml", "resources": FILE}, {"idempotency-key": "0123456789abcdef"}
    first, again = (desk.ask("POST", ROUTE, body, headers=headers) for _ in range(2))
    assert first.json()["keys"][0]["key"] == again.json()["keys"][0]["key"]
    assert again.headers["idempotency-replayed"] == "true"


def test_a_change_is_told_field_by_field(desk: Desk) -> None:
    apply(desk, FILE)
    changed = {
        **FILE,
        "plans": [{"plan_id": "free", "limits": {"requests_per_day": 100}, "budgets": ["2M tokens/month"]}],
        "users": [FILE["users"][0], {"user_id": "bob", "name": "Bob"}],
    }
    answer = apply(desk, changed)
    found = {
        (one["name"], field["field"]): (field["before"], field["after"])
        for one in answer["changes"]
        for field in one["fields"]
    }
    assert found == {
        ("free", "limits.requests_per_minute"): (10, None),
        ("free", "limits.requests_per_day"): (None, 100),
        ("free", "budgets"): (["1,000,000 tokens/month"], ["2,000,000 tokens/month"]),
        ("free", "max_output_tokens"): (1000, None),
        ("bob", "name"): ("", "Bob"),
        ("bob", "limits.parallel_requests"): (2, None),
        ("bob", "metadata"): ({"seat": 7}, {}),
    }
    assert desk.plane.image.plans[0].limits.requests_per_day == 100


def test_what_is_no_longer_named_stays_until_pruned(desk: Desk) -> None:
    first = apply(desk, FILE)
    for noun in ("teams", "users", "keys", "budgets", "plans", "providers"):
        assert ("left", noun[:-1]) in [
            (act, kind) for act, kind, _ in acts(apply(desk, without(FILE, noun)), "left")
        ], noun
    secret = first["keys"][0]["key"]
    assert desk.plane.own_key(secret) is not None
    answer = apply(desk, {}, prune=True)
    assert {act for act, _, _ in acts(answer)} == {"delete"}
    image = desk.plane.image
    assert desk.plane.own_key(secret) is None
    assert all(user.blocked_at_ns for user in image.users)
    assert all(team.blocked_at_ns for team in image.teams)
    assert (image.budgets, image.plans) == ((), ())
    assert all(key.revoked_at_ns for key in image.keys)
    assert apply(desk, {}, prune=True)["changes"] == []  # nobody's file's any more


def test_pruning_touches_nobody_elses(desk: Desk) -> None:
    desk.make("/api/v1/users", user_id="carol")
    apply(desk, {"users": [{"user_id": "dave"}]}, owner="other.yaml")
    apply(desk, {"users": [{"user_id": "erin"}]})
    apply(desk, {}, prune=True)
    assert {user.user_id: user.blocked_at_ns is None for user in desk.plane.image.users} == {
        "carol": True,
        "dave": True,
        "erin": False,
    }


def test_a_file_takes_over_what_people_made_but_not_what_another_file_declares(desk: Desk) -> None:
    made = desk.make("/api/v1/keys", user_id="carol", name="ci", budget="5/day")
    desk.make("/api/v1/users", user_id="dave")
    rows = {
        "users": [{"user_id": "carol"}],
        "keys": [{"user_id": "carol", "name": "ci", "budgets": ["7/day"]}],
    }
    answer = apply(desk, rows)
    assert [one["act"] for one in answer["changes"]] == ["update", "update", "update"]
    assert answer["keys"] == []
    key = desk.plane.own_key(made["key"])  # the secret still works
    assert key is not None
    assert key.owned_by == "people.yaml"
    [budget] = desk.plane.image.budgets
    assert (budget.limit, budget.owned_by) == (7 * 10**9, "people.yaml")
    assert desk.get(f"/api/v1/keys/{made['key_id']}")["budgets"][0]["limit"] == "7"
    problem = desk.problem(400, "POST", ROUTE, {"owner": "other.yaml", "resources": {"users": [{"user_id": "carol"}]}})
    assert "declared by people.yaml" in problem["detail"]


def test_members_are_all_that_the_file_names(desk: Desk) -> None:
    secret = apply(desk, FILE)["keys"][0]["key"]
    assert desk.plane.own_key(secret) is not None
    teams = [{**FILE["teams"][0], "members": {"alice": "viewer"}}]
    answer = apply(desk, {**without(FILE, "keys"), "teams": teams})
    assert ("delete", "member", "bob in red") in acts(answer)
    assert ("update", "member", "alice in red") in acts(answer)
    assert desk.plane.own_key(secret) is None  # their keys in the team end with it
    unspoken = [{key: value for key, value in teams[0].items() if key != "members"}]
    assert acts(apply(desk, {**FILE, "teams": unspoken, "keys": []}), "delete", "update") == []


def test_who_counts_toward_a_team_is_in_it(desk: Desk) -> None:
    answer = apply(desk, {"teams": [{"team_id": "red"}], "users": [{"user_id": "a", "team_id": "red"}]})
    assert ("create", "member", "a in red") in acts(answer)
    again = apply(desk, {"teams": [{"team_id": "red"}], "users": [{"user_id": "a", "team_id": "red"}]})
    assert {act for act, _, _ in acts(again)} == {"unchanged"}
    rows = {"teams": [{"team_id": "red", "members": {}}], "users": [{"user_id": "a", "team_id": "red"}]}
    assert "not in the team" in faults(desk, rows)["users.0.team_id"]


def test_who_is_blocked_stays_so_unless_the_file_speaks_of_it(desk: Desk) -> None:
    apply(desk, {"users": [{"user_id": "eve"}], "teams": [{"team_id": "red"}]})
    desk.ask("POST", "/api/v1/users/eve/block")
    rows = {"users": [{"user_id": "eve", "name": "Eve"}], "teams": [{"team_id": "red"}]}
    apply(desk, rows)
    assert desk.plane.image.users[0].blocked_at_ns == START_NS
    rows["users"][0]["blocked"] = False
    answer = apply(desk, rows)
    assert answer["changes"][1]["fields"] == [{"field": "blocked", "before": True, "after": False}]
    assert desk.plane.image.users[0].blocked_at_ns is None
    rows["users"][0]["blocked"] = True
    apply(desk, rows)
    assert desk.plane.image.users[0].blocked_at_ns is not None
    assert {act for act, _, _ in acts(apply(desk, rows))} == {"unchanged"}


def test_everything_wrong_is_said_at_once_with_its_place(desk: Desk) -> None:
    rows = {
        "plans": [
            {"plan_id": "free", "without_own_key": "none"},
            {"plan_id": "free"},
            {"plan_id": "x", "budgets": ["1/day", "2/day"]},
        ],
        "teams": [{"team_id": "red", "plan_id": "gone", "members": {"nobody": "member"}}],
        "users": [{"user_id": "a", "plan_id": "gone", "team_id": "blue", "budgets": ["1/day", "2/day"]}],
        "keys": [
            {"name": "k", "user_id": "nobody", "expires": "30d"},
            {"name": "l", "user_id": "a", "expires": "2020-01-01", "team_id": "blue"},
            {"name": "m", "user_id": "a", "expires": "soon"},
        ],
        "budgets": [
            {"scope": "organisation", "scope_id": "x", "amount": "1/day"},
            {"scope": "team", "amount": "1/day"},
            {"scope": "user", "scope_id": "nobody", "amount": "1/day"},
        ],
    }
    found = faults(desk, rows)
    assert found.keys() == {
        "plans.0.without_own_key",
        "plans.1",
        "plans.2.budgets",
        "teams.0.plan_id",
        "teams.0.members.nobody",
        "users.0.plan_id",
        "users.0.team_id",
        "users.0.budgets.1",
        "keys.0.user_id",
        "keys.0.expires",
        "keys.1.expires",
        "keys.1.team_id",
        "keys.2.expires",
        "budgets.0.scope_id",
        "budgets.1.scope_id",
        "budgets.2.scope_id",
    }
    assert desk.get("/api/v1/users")["items"] == []


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ({"user": []}, "user"),
        ({"users": [{"user_id": "a", "plan": "x"}]}, "users.0.plan"),
        ({"users": [{"name": "a"}]}, "users.0.user_id"),
        ({"plans": [{"plan_id": "a b"}]}, "plans.0.plan_id"),
        ({"keys": [{"user_id": "a", "name": ""}]}, "keys.0.name"),
        ({"budgets": [{"scope": "key", "scope_id": "k", "amount": "1"}]}, "budgets.0.scope"),
        ({"users": [{"user_id": "a", "budgets": ["a lot"]}]}, "users.0.budgets.0"),
        ({"budgets": [{"scope": "organisation", "amount": "1", "timezone": "Mars"}]}, "budgets.0.timezone"),
    ],
)
def test_the_schema_is_strict(desk: Desk, rows: Any, place: str) -> None:
    assert place in faults(desk, rows)


def test_a_key_itself_is_refused_and_not_repeated(desk: Desk) -> None:
    row = {"name": "x", "kind": "openai", "models": ["*"], "api_key": "sk-proj-very-secret"}
    answer = desk.ask("POST", ROUTE, {"owner": "a.yaml", "resources": {"providers": [row]}})
    assert answer.status_code == 400
    assert "very-secret" not in answer.text
    assert answer.json()["errors"][0]["field"] == "resources.providers.0.api_key"


def test_a_helper_is_refused_in_a_file(desk: Desk) -> None:
    row = {"name": "x", "kind": "openai", "models": ["*"], "api_key": "cmd:/opt/helper --password very-secret"}
    answer = desk.ask("POST", ROUTE, {"owner": "a.yaml", "resources": {"providers": [row]}})
    assert answer.status_code == 400
    assert "very-secret" not in answer.text
    assert "operator's own settings only" in answer.text
    assert answer.json()["errors"][0]["field"] == "resources.providers.0.api_key"


def test_a_provider_that_cannot_be_called_is_refused_with_its_place(desk: Desk, book: Book) -> None:
    book.wrong["gateway"] = "the environment variable GATEWAY_KEY is not set"
    assert faults(desk, FILE) == {"providers.0.api_key": book.wrong["gateway"]}
    assert desk.get("/api/v1/users")["items"] == []


def test_a_plan_that_is_held_is_not_pruned(desk: Desk) -> None:
    apply(desk, {"plans": [{"plan_id": "free"}]})
    desk.deps.database.run_sync(_hold)
    found = faults(desk, {}, prune=True)
    assert "team red" in found["plans"]
    assert "user carol" in found["plans"]
    assert desk.deps.database.run_sync(_plans) == ["free"]


def _hold(connection: Any) -> None:
    directory.create_user(connection, User("carol", plan_id="free"))
    teams.create_team(connection, Team("red", plan_id="free"))


def _plans(connection: Any) -> list[str]:
    return [plan.plan_id for plan in all_plans(connection)]


def test_there_is_always_an_owner(desk: Desk) -> None:
    apply(desk, {"users": [{"user_id": "root", "role": "owner"}]})
    body = {"owner": "people.yaml", "resources": {"users": [{"user_id": "root", "role": "member"}]}}
    assert desk.problem(409, "POST", ROUTE, body)["code"] == "last_owner"
    assert desk.problem(409, "POST", ROUTE, {"owner": "people.yaml", "prune": True})["code"] == "last_owner"
    assert desk.get("/api/v1/users/root")["status"] == "active"


def test_a_budget_changes_its_midnight_by_beginning_anew(desk: Desk) -> None:
    row = {"scope": "organisation", "amount": "5/day"}
    apply(desk, {"budgets": [row]})
    first = desk.plane.image.budgets[0]
    apply(desk, {"budgets": [{**row, "amount": "6/day"}]})
    assert desk.plane.image.budgets[0].budget_id == first.budget_id  # what is posted stays
    answer = apply(desk, {"budgets": [{**row, "timezone": "Asia/Tokyo"}]})
    assert [one["field"] for one in answer["changes"][0]["fields"]] == ["amount", "timezone"]
    assert desk.plane.image.budgets[0].timezone == "Asia/Tokyo"
    assert {act for act, _, _ in acts(apply(desk, {"budgets": [{**row}]}))} == {"unchanged"}  # its zone is left


def test_a_budget_that_no_midnight_ends_keeps_what_is_spent_in_another_zone(desk: Desk) -> None:
    row = {"scope": "organisation", "amount": "5"}
    apply(desk, {"budgets": [row]})
    budget_id = desk.plane.image.budgets[0].budget_id
    spent = settled("req_1", {"user_id": "carol", "key_id": "key_1"}, budgets=((budget_id, 0),))
    desk.deps.database.run_sync(lambda connection: ship(connection, [spent]))
    apply(desk, {"budgets": [{**row, "timezone": "Asia/Tokyo"}]})
    assert desk.plane.image.budgets[0].timezone == "Asia/Tokyo"
    assert desk.plane.image.posted == {(budget_id, 0): 1_000_000}


def test_the_seeds_plans_as_the_example_states_them(desk: Desk) -> None:
    apply(desk, yaml.safe_load(EXAMPLE.read_text()), owner=EXAMPLE.name)
    plans = {plan.plan_id: plan for plan in desk.plane.image.plans}
    free, premium = plans["free"], plans["premium"]
    assert (free.limits.requests_per_minute, free.limits.requests_per_day, free.max_output_tokens) == (10, 100, 1_000)
    [budget] = free.budgets
    assert (budget.limit, budget.unit, budget.window) == (1_000_000, BudgetUnit.TOKENS, BudgetWindow.MONTH)
    assert free.own_key is OwnKeyRule.NEVER
    assert (premium.max_output_tokens, premium.limits.requests_per_minute) == (100_000, 10)
    assert (premium.own_key, premium.without_own_key) == (OwnKeyRule.OWN_ONLY, "free")
