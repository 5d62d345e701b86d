"""Roles × routes: what the gate lets in, computed from the tables alone and compared for every caller and route."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from tests.planes.browsing import Browser
from tests.planes.control import QUICK, Desk, open_desk
from tests.planes.test_controlplane_access import concrete
from tollhouse.controlplane.access import Caller
from tollhouse.controlplane.permissions import PERMISSIONS, Permission
from tollhouse.rules.roles import IN_TEAM, MATRIX, Action, Reach
from tollhouse.terms.people import Role
from tollhouse.terms.sessions import Session

CALLERS = {
    **{role.value: Caller(role, "ann") for role in Role},
    **{f"member, {role} of a team": Caller(Role.MEMBER, "ann", {"red": role}) for role in IN_TEAM},
    "service, admin of a team": Caller(Role.SERVICE, "ann", {"red": Role.ADMIN}),
    "viewer, admin of a team": Caller(Role.VIEWER, "ann", {"red": Role.ADMIN}),
    "operator": Caller(Role.OWNER),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    opened = open_desk(Path(tmp_path_factory.mktemp("roles")))
    opened.make("/api/v1/users", user_id="ann")
    yield opened
    opened.deps.database.close()


def let_in(caller: Caller, permission: Permission | Action) -> bool:
    """By the tables, not by the code that reads them for the gate."""
    if isinstance(permission, Action):
        assert caller.role is not None
        by_role = MATRIX[caller.role][permission] > Reach.NONE
        by_team = any(permission in IN_TEAM[role] for role in caller.team_roles.values())
        return by_role or (by_team and caller.role is not Role.SERVICE)
    return {
        Permission.PUBLIC: True,
        Permission.OWN_CALL: True,
        Permission.SELF: caller.user_id != "",
        Permission.SESSION: caller.session is not None,
        Permission.METRICS: caller.role is Role.OWNER,
        Permission.OWNER_BEARER: caller.role is Role.OWNER,
    }[permission]


@pytest.mark.parametrize("name", CALLERS)
def test_the_gate_keeps_to_the_tables(desk: Desk, name: str) -> None:
    wrong = {}
    for (method, path), permission in PERMISSIONS.items():
        status = desk.ask(method, concrete(path), caller=CALLERS[name]).status_code
        refused = status in (401, 403)
        decided_there = permission is Permission.ANYBODY
        if status >= 500 or (not decided_there and refused is let_in(CALLERS[name], permission)):
            wrong[f"{method} {path}"] = status
    assert wrong == {}


def test_a_blocked_users_key_is_nobodys(desk: Desk) -> None:
    key = desk.make("/api/v1/keys", user_id="blocked")["key"]
    assert desk.ask("GET", "/api/v1/me", bearer=key).status_code == 200
    desk.make("/api/v1/users/blocked/block")
    for (method, path), permission in PERMISSIONS.items():
        if permission not in (Permission.PUBLIC, Permission.ANYBODY):
            assert desk.ask(method, concrete(path), bearer=key).status_code == 401, f"{method} {path}"


@pytest.fixture
def open_house(tmp_path: Path) -> Iterator[Desk]:
    opened = open_desk(tmp_path, msgspec.structs.replace(QUICK, sign_up="open"))
    yield opened
    opened.deps.database.close()


SIGNED_IN: dict[str, tuple[Role, dict[str, Role]]] = {
    "owner": (Role.OWNER, {}),
    "admin": (Role.ADMIN, {}),
    "viewer": (Role.VIEWER, {}),
    "member": (Role.MEMBER, {}),
    "lead": (Role.MEMBER, {"red": Role.ADMIN}),
}
ENDS_THE_SESSION = {("POST", "/api/v1/sign-out"), ("DELETE", "/api/v1/sessions"), ("POST", "/sign-out")}


@pytest.mark.parametrize("name", SIGNED_IN)
def test_the_gate_keeps_to_the_tables_for_a_real_session(open_house: Desk, name: str) -> None:
    role, teams = SIGNED_IN[name]
    browser = Browser(open_house)
    told = browser.sign_up("someone@acme.example")
    user_id = told["user"]["user_id"]
    open_house.make("/api/v1/teams", team_id="red")
    open_house.make("/api/v1/users", user_id="another owner", role="owner")
    path = f"/api/v1/users/{quote(user_id, safe='')}"
    assert open_house.ask("PATCH", path, {"role": role}).status_code == 200
    for team, team_role in teams.items():
        open_house.ask("PUT", f"/api/v1/teams/{team}/members/{quote(user_id, safe='')}", {"role": team_role})
    browser.sign_in("someone@acme.example")
    caller = Caller(role, user_id, teams, session=Session("", user_id, "", 0, 0, 0, 0))
    wrong = {}
    for (method, route), permission in PERMISSIONS.items():
        if (method, route) not in ENDS_THE_SESSION and permission is not Permission.ANYBODY:
            status = browser.ask(method, concrete(route)).status_code
            bearer_only = permission is Permission.OWNER_BEARER  # whoever it is: a cookie is none
            if status >= 500 or (status in (401, 403)) is (not bearer_only and let_in(caller, permission)):
                wrong[f"{method} {route}"] = status
    assert wrong == {}
    assert open_house.ask("PATCH", path, {"role": "member"}).status_code == 200
    assert browser.ask("GET", "/api/v1/status").status_code in (401, 403)  # demoted with the next request
    open_house.make(f"{path}/block")
    assert browser.ask("GET", "/api/v1/me").status_code == 401
