"""Users made and moved by their claims: what claims gave they take back, what people set by hand stays."""

from collections.abc import Iterable

import msgspec
import pytest

from tollhouse.rules.claims import Claimed
from tollhouse.storage import directory, teams
from tollhouse.storage.database import Database
from tollhouse.storage.passwords import is_known_address
from tollhouse.storage.plans import create_plan
from tollhouse.storage.provision import provision
from tollhouse.terms.people import KeySecret, Membership, Plan, Role, Team, User, VirtualKey

NOW = 1_795_000_000 * 10**9


class Directory:
    def __init__(self, database: Database) -> None:
        self.database = database

    def provision(self, user_id: str = "mia", **said: object) -> tuple[User, bool]:
        claimed = msgspec.convert({"user_id": user_id, "source": "jwt:app", **said}, Claimed)
        return self.database.run_sync(lambda connection: provision(connection, claimed, NOW))

    def user(self, user_id: str = "mia") -> User:
        found = self.database.run_sync(lambda connection: directory.get_user(connection, user_id))
        assert found is not None
        return found

    def set(self, user_id: str = "mia", **fields: object) -> None:
        user = msgspec.structs.replace(self.user(user_id), **fields)
        self.database.run_sync(lambda connection: directory.update_user(connection, user))

    def teams(self, user_id: str = "mia") -> dict[str, Role]:
        found: Iterable[Membership] = self.database.run_sync(
            lambda connection: teams.memberships_of(connection, user_id)
        )
        return {member.team_id: member.role for member in found}

    def put(self, team_id: str, role: Role = Role.MEMBER) -> None:
        member = Membership(team_id, "mia", role, NOW)
        self.database.run_sync(lambda connection: teams.put_member(connection, member))


@pytest.fixture
def people(database: Database) -> Directory:
    def fill(connection: object) -> None:
        for plan in ("free", "pro"):
            create_plan(connection, Plan(plan))  # type: ignore[arg-type]
        for team in (Team("red"), Team("blue"), Team("stated", owned_by="people.yaml")):
            teams.create_team(connection, team)  # type: ignore[arg-type]

    database.run_sync(fill)
    return Directory(database)


def test_a_new_user_is_made_once(people: Directory) -> None:
    said = {"email": "mia@acme.example", "name": "Mia", "team_ids": ["red"], "role": "admin", "new_plan_id": "free"}
    user, changed = people.provision(**said)
    assert changed
    assert (user.email, user.name, user.role, user.plan_id) == ("mia@acme.example", "Mia", Role.ADMIN, "free")
    assert user.team_id == "red"
    assert people.teams() == {"red": Role.MEMBER}
    assert people.provision(**said) == (user, False)


def test_claims_that_change_are_applied_and_those_that_go_are_taken_back(people: Directory) -> None:
    people.provision(team_ids=["red", "blue"], role="viewer", plan_id="free")
    user, changed = people.provision(team_ids=["blue"], role="admin", plan_id="pro")
    assert changed
    assert (user.role, user.plan_id, people.teams()) == (Role.ADMIN, "pro", {"blue": Role.MEMBER})
    user, changed = people.provision()
    assert changed
    assert (user.role, user.plan_id, people.teams()) == (Role.MEMBER, None, {})


def test_what_people_set_by_hand_stays_until_the_claims_change(people: Directory) -> None:
    said = {"plan_id": "free", "team_ids": ["red"], "name": "Mia"}
    people.provision(**said)
    people.put("blue", Role.ADMIN)
    people.set(role=Role.ADMIN, plan_id="pro", name="Mia L.")
    user, changed = people.provision(**said)
    assert not changed
    assert (user.role, user.plan_id, user.name) == (Role.ADMIN, "pro", "Mia L.")
    user, _ = people.provision(plan_id="free", name="Mia")
    assert (user.role, user.plan_id, user.name) == (Role.ADMIN, "pro", "Mia L.")
    assert people.teams() == {"blue": Role.ADMIN}


def test_a_role_in_a_team_that_somebody_gave_stays(people: Directory) -> None:
    people.provision(team_ids=["red"])
    people.put("red", Role.ADMIN)
    people.provision(team_ids=["red", "blue"])
    assert people.teams() == {"red": Role.ADMIN, "blue": Role.MEMBER}


def test_sources_do_not_take_from_each_other(people: Directory) -> None:
    people.provision(source="oidc:acme", team_ids=["red"], role="admin", plan_id="pro")
    user, changed = people.provision(source="jwt:app", email="m@x.example")
    assert changed
    assert (user.role, user.plan_id, people.teams()) == (Role.ADMIN, "pro", {"red": Role.MEMBER})


def test_an_owner_is_neither_made_nor_unmade(people: Directory) -> None:
    people.provision()
    people.set(role=Role.OWNER)
    assert people.provision(role="viewer")[0].role is Role.OWNER
    assert people.provision()[0].role is Role.OWNER
    before = people.user()
    assert people.provision(email="eve@evil.example", name="Eve", plan_id="pro", team_ids=["red"]) == (before, False)
    assert people.teams() == {}


def test_an_address_that_claims_gave_stays_theirs_when_they_say_no_more(people: Directory) -> None:
    people.provision(email="ceo@acme.example")
    user, changed = people.provision()
    assert (user.email, changed) == ("ceo@acme.example", False)
    known = people.database.run_sync(lambda connection: is_known_address(connection, "mia", "ceo@acme.example"))
    assert not known  # nobody verified it, and no admin wrote it


@pytest.mark.parametrize("fields", [{"owned_by": "people.yaml"}, {"blocked_at_ns": NOW}, {"role": Role.SERVICE}])
def test_who_is_declared_blocked_or_a_service_is_left_alone(people: Directory, fields: dict[str, object]) -> None:
    people.provision()
    people.set(**fields)
    before = people.user()
    assert people.provision(role="admin", plan_id="pro", team_ids=["red"], name="Other") == (before, False)
    assert people.teams() == {}


def test_a_declared_team_keeps_its_people(people: Directory) -> None:
    people.provision(team_ids=["stated"])
    assert people.teams() == {}
    people.put("stated")
    people.provision()
    assert people.teams() == {"stated": Role.MEMBER}


def test_what_is_not_there_is_refused_and_nothing_is_made(people: Directory) -> None:
    for said in ({"plan_id": "none"}, {"new_plan_id": "none"}, {"team_ids": ["none"]}):
        with pytest.raises(ValueError, match=r"there is no (plan|team) 'none'"):
            people.provision(**said)
    assert people.database.run_sync(lambda connection: directory.get_user(connection, "mia")) is None
    people.provision()
    with pytest.raises(ValueError, match="no plan 'none'"):
        people.provision(plan_id="none")
    with pytest.raises(ValueError, match="name no user"):
        people.provision("")


def test_who_leaves_a_team_loses_the_keys_in_it(people: Directory) -> None:
    people.provision(team_ids=["red"])

    def keys(connection: object) -> None:
        for number, team_id in enumerate(("red", "blue", None)):
            key = VirtualKey(f"key{number}", "mia", team_id=team_id)
            directory.create_key(connection, key, KeySecret(bytes([number]), key.key_id))  # type: ignore[arg-type]

    people.database.run_sync(keys)
    people.provision()
    found = people.database.run_sync(lambda connection: directory.list_keys(connection, user_id="mia"))
    assert [key.key_id for key in found if key.revoked_at_ns] == ["key0"]
