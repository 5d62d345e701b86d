"""Letting people in by a link: who may send which, and what following one gives."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.planes.browsing import GOOD, Browser
from tests.planes.control import Desk, open_desk
from tests.planes.test_sign_in import NS, OPEN, keeper_of, make, set_user
from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.sign_in import inviting
from tollhouse.controlplane.sign_in.book import Browser as Client
from tollhouse.controlplane.sign_in.inviting import first_owner
from tollhouse.storage import teams
from tollhouse.storage.invitations import SETUP
from tollhouse.storage.sign_in_tables import invitations
from tollhouse.terms.people import Membership, Role, Team

NEW = "new@acme.example"
ACCEPT = "/api/v1/invitations/accept"
DAY_NS = 86_400 * NS


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = open_desk(tmp_path, OPEN)
    opened.deps.database.run_sync(fill)
    yield opened
    opened.deps.database.close()


def fill(connection: Any) -> None:
    for team in (Team("red"), Team("blue"), Team("stated", owned_by="people.yaml")):
        teams.create_team(connection, team)


def join(desk: Desk, user_id: str, team_id: str, role: Role) -> None:
    member = Membership(team_id, user_id, role)
    desk.deps.database.run_sync(lambda connection: teams.put_member(connection, member))


def follow(desk: Desk, token: str, **fields: str) -> tuple[Browser, Any]:
    browser = Browser(desk)
    return browser, browser.done("POST", ACCEPT, {"token": token, "password": GOOD, **fields})


def test_an_invitation_makes_an_account_once(desk: Desk) -> None:
    made = desk.make("/api/v1/invitations", email="New@Acme.example", role="admin", team_id="red", team_role="viewer")
    assert made["link"] == f"http://127.0.0.1:4000/invitation/{made['token']}"
    assert (made["status"], made["invited_by"], made["email"]) == ("open", "", NEW)
    browser, told = follow(desk, made["token"], name="New")
    user = told["user"]
    assert (user["email"], user["role"], user["team_id"], user["name"]) == (NEW, "admin", "red", "New")
    members = desk.deps.database.run_sync(lambda connection: teams.members_of(connection, "red"))
    assert [(member.user_id, member.role) for member in members] == [(user["user_id"], Role.VIEWER)]
    assert browser.done("GET", "/api/v1/users")
    again = Browser(desk).problem(404, "POST", ACCEPT, {"token": made["token"], "password": GOOD})
    assert again == "invitation_over"
    row = desk.get(f"/api/v1/invitations/{made['invitation_id']}")
    assert (row["status"], row["user_id"]) == ("accepted", user["user_id"])
    assert "token" not in row
    Browser(desk).sign_in(NEW)


def test_what_ends_a_link(desk: Desk) -> None:
    for end in ("time", "taken back"):
        made = desk.make("/api/v1/invitations", email=NEW, expires="2d")
        if end == "time":
            desk.plane.now_ns += 2 * DAY_NS
        else:
            assert desk.ask("DELETE", f"/api/v1/invitations/{made['invitation_id']}").status_code == 204
        assert Browser(desk).problem(404, "POST", ACCEPT, {"token": made["token"], "password": GOOD})
    for token in ("", "x", "A" * 43, "A" * 100):
        assert Browser(desk).ask("POST", ACCEPT, {"token": token, "password": GOOD}).status_code in (400, 404)


def test_a_link_is_for_the_address_it_names(desk: Desk) -> None:
    made = desk.make("/api/v1/invitations", email=NEW)
    body = {"token": made["token"], "password": GOOD, "email": "eve@evil.example"}
    assert Browser(desk).ask("POST", ACCEPT, body).json()["field"] == "email"
    anybody = desk.make("/api/v1/invitations")
    body = {"token": anybody["token"], "password": GOOD}
    assert Browser(desk).ask("POST", ACCEPT, body).json()["field"] == "email"  # nobody has said which
    make(desk)
    assert Browser(desk).problem(409, "POST", ACCEPT, body | {"email": "mia@acme.example"}) == "email_taken"
    assert desk.ask("POST", "/api/v1/invitations", {"email": "mia@acme.example"}).status_code == 409
    assert follow(desk, anybody["token"], email="eve@evil.example")[1]["user"]["email"] == "eve@evil.example"


@pytest.mark.parametrize("field", ["team_id", "plan_id", "user_id"])
def test_what_is_not_there_is_not_given(desk: Desk, field: str) -> None:
    answer = desk.ask("POST", "/api/v1/invitations", {field: "none"})
    assert answer.status_code in (400, 404)
    assert "none" in answer.json()["detail"]


def test_a_declared_team_takes_nobody_in(desk: Desk) -> None:
    assert desk.ask("POST", "/api/v1/invitations", {"team_id": "stated"}).json()["code"] == "declared"


@pytest.mark.parametrize("body", [{"role": "service"}, {"team_role": "owner"}, {"expires": "1s"}, {"expires": "91d"}])
def test_what_no_link_gives(desk: Desk, body: dict[str, str]) -> None:
    assert desk.ask("POST", "/api/v1/invitations", body).status_code == 400


@pytest.mark.parametrize("sender", [Role.OWNER, Role.ADMIN, Role.MEMBER, Role.VIEWER])
@pytest.mark.parametrize("role", ["owner", "admin", "member", "viewer"])
def test_who_may_give_which_role(desk: Desk, sender: Role, role: str) -> None:
    browser, _ = make(desk, role=sender)
    allowed = sender is Role.OWNER or (sender is Role.ADMIN and role in ("member", "viewer"))
    answer = browser.ask("POST", "/api/v1/invitations", {"role": role})
    assert answer.status_code == (201 if allowed else 403), answer.text


def test_an_admin_of_a_team_lets_people_into_it_and_nowhere_else(desk: Desk) -> None:
    lead, lead_id = make(desk, "lead@acme.example")
    join(desk, lead_id, "red", Role.ADMIN)
    join(desk, lead_id, "blue", Role.VIEWER)
    made = lead.done("POST", "/api/v1/invitations", {"team_id": "red", "team_role": "viewer", "email": NEW})
    for body in (
        {},
        {"team_id": "blue"},
        {"team_id": "stated"},
        {"team_id": "red", "team_role": "admin"},
        {"team_id": "red", "role": "admin"},
        {"team_id": "red", "role": "viewer"},
        {"team_id": "red", "plan_id": "pro"},
        {"user_id": lead_id},
    ):
        assert lead.ask("POST", "/api/v1/invitations", body).status_code == 403, body
    others = desk.make("/api/v1/invitations", team_id="blue")["invitation_id"]
    assert [row["invitation_id"] for row in lead.done("GET", "/api/v1/invitations")["items"]] == [made["invitation_id"]]
    assert lead.problem(404, "GET", f"/api/v1/invitations/{others}") == "not_found"
    assert lead.problem(404, "DELETE", f"/api/v1/invitations/{others}") == "not_found"
    assert lead.ask("DELETE", f"/api/v1/invitations/{made['invitation_id']}").status_code == 204


def test_a_link_is_worth_what_its_sender_still_may_give(desk: Desk) -> None:
    admin, admin_id = make(desk, "admin@acme.example", Role.ADMIN)
    links = [admin.done("POST", "/api/v1/invitations", {}) for _ in range(2)]
    set_user(desk, admin_id, role=Role.MEMBER)
    body = {"token": links[0]["token"], "password": GOOD, "email": NEW}
    assert Browser(desk).problem(404, "POST", ACCEPT, body) == "invitation_over"
    set_user(desk, admin_id, role=Role.ADMIN, blocked_at_ns=1)
    assert Browser(desk).problem(404, "POST", ACCEPT, body) == "invitation_over"
    set_user(desk, admin_id, blocked_at_ns=None)
    follow(desk, links[0]["token"], email=NEW)


def test_a_link_gives_a_new_password_to_somebody_here(desk: Desk) -> None:
    mia, mia_id = make(desk)
    admin, _ = make(desk, "admin@acme.example", Role.ADMIN)
    made = admin.done("POST", "/api/v1/invitations", {"user_id": mia_id})
    body = {"token": made["token"], "password": "other plinth nine badgers"}
    new = Browser(desk)
    assert new.done("POST", ACCEPT, body)["user"]["user_id"] == mia_id
    assert mia.problem(401, "GET", "/api/v1/session") == "session_over"
    assert Browser(desk).problem(401, "POST", "/api/v1/sign-in", {"email": "mia@acme.example", "password": GOOD})
    Browser(desk).sign_in("mia@acme.example", "other plinth nine badgers")
    for body in ({"user_id": mia_id, "role": "admin"}, {"user_id": mia_id, "team_id": "red"}):
        assert admin.ask("POST", "/api/v1/invitations", body).status_code == 400


def test_a_user_of_an_application_gets_a_way_to_sign_in(desk: Desk) -> None:
    desk.make("/api/v1/users", user_id="app-7", email="ada@acme.example")
    made = desk.make("/api/v1/invitations", user_id="app-7", email="ada@acme.example")
    assert follow(desk, made["token"])[1]["user"]["user_id"] == "app-7"


def test_no_admin_takes_an_owner_over(desk: Desk) -> None:
    _, owner_id = make(desk, "owner@acme.example", Role.OWNER)
    _, mia_id = make(desk)
    admin, _ = make(desk, "admin@acme.example", Role.ADMIN)
    assert admin.problem(403, "POST", "/api/v1/invitations", {"user_id": owner_id}) == "forbidden"
    made = admin.done("POST", "/api/v1/invitations", {"user_id": mia_id})
    set_user(desk, mia_id, role=Role.OWNER)  # and is an owner by the time the link is followed
    assert Browser(desk).problem(404, "POST", ACCEPT, {"token": made["token"], "password": GOOD}) == "invitation_over"


def test_two_who_follow_a_link_at_once_are_one(desk: Desk) -> None:
    made = desk.make("/api/v1/invitations")

    async def one(number: int) -> int:
        try:
            await inviting.accept(
                keeper_of(desk),
                made["token"],
                email=f"new{number}@acme.example",
                password=GOOD,
                name="",
                browser=Client(),
                setup=False,
            )
        except Problem as problem:
            return problem.status
        return 201

    async def both() -> list[int]:
        return sorted(await asyncio.gather(*(one(number) for number in range(4))))

    assert asyncio.run(both()) == [201, 404, 404, 404]


# --- the first owner


def test_the_first_owner_comes_by_the_link_of_serve(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    older, token = asyncio.run(first_owner(keeper_of(desk))), asyncio.run(first_owner(keeper_of(desk)))
    assert older is not None
    assert token is not None
    body = {"token": token, "email": "boss@acme.example", "password": GOOD, "name": "Boss"}
    assert Browser(desk).problem(404, "POST", "/api/v1/setup", body | {"token": older}) == "invitation_over"
    assert Browser(desk).problem(404, "POST", ACCEPT, body) == "invitation_over"  # it is no invitation
    assert Browser(desk).problem(400, "POST", "/api/v1/setup", body | {"password": "short"}) == "weak_password"
    browser = Browser(desk)
    assert browser.done("POST", "/api/v1/setup", body)["user"]["role"] == "owner"
    assert browser.done("POST", "/api/v1/users", {"user_id": "a"})
    assert Browser(desk).problem(404, "POST", "/api/v1/setup", body) == "invitation_over"
    assert asyncio.run(first_owner(keeper_of(desk))) is None
    assert token not in caplog.text


def test_the_link_for_the_first_owner_ends(desk: Desk) -> None:
    token = asyncio.run(first_owner(keeper_of(desk)))
    body = {"token": token, "email": "boss@acme.example", "password": GOOD}
    desk.plane.now_ns += DAY_NS
    assert Browser(desk).problem(404, "POST", "/api/v1/setup", body) == "invitation_over"
    body["token"] = asyncio.run(first_owner(keeper_of(desk)))
    make(desk, role=Role.OWNER)  # somebody else became owner meanwhile
    assert Browser(desk).problem(404, "POST", "/api/v1/setup", body) == "invitation_over"


def test_an_invitation_is_no_set_up_and_the_set_up_in_no_list(desk: Desk) -> None:
    asyncio.run(first_owner(keeper_of(desk)))
    assert desk.get("/api/v1/invitations")["items"] == []
    assert desk.ask("GET", f"/api/v1/invitations/{SETUP}").status_code == 404
    assert desk.ask("DELETE", f"/api/v1/invitations/{SETUP}").status_code == 404
    made = desk.make("/api/v1/invitations", role="owner")
    body = {"token": made["token"], "email": "boss@acme.example", "password": GOOD}
    assert Browser(desk).problem(404, "POST", "/api/v1/setup", body) == "invitation_over"


def test_a_blocked_owner_is_none(desk: Desk) -> None:
    _, owner_id = make(desk, role=Role.OWNER)
    assert asyncio.run(first_owner(keeper_of(desk))) is None
    set_user(desk, owner_id, blocked_at_ns=1)
    assert asyncio.run(first_owner(keeper_of(desk))) is not None


def test_tokens_are_not_stored(desk: Desk) -> None:
    made = desk.make("/api/v1/invitations")
    (row,) = desk.deps.database.run_sync(lambda connection: connection.execute(invitations.select()).all())
    assert made["token"] not in repr(row)
    assert len(row.digest) == 32


def test_old_invitations_are_forgotten(desk: Desk) -> None:
    desk.make("/api/v1/invitations")
    desk.plane.now_ns += 200 * DAY_NS
    asyncio.run(keeper_of(desk).tidy())
    assert desk.get("/api/v1/invitations")["items"] == []


def test_a_link_leads_to_the_public_address(tmp_path: Path) -> None:
    desk = open_desk(tmp_path, msgspec.structs.replace(OPEN, public_url="https://llm.example"))
    assert desk.make("/api/v1/invitations")["link"].startswith("https://llm.example/invitation/")
    desk.deps.database.close()
