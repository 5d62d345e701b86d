"""Roles × routes: what the gate lets in, computed from the tables alone and compared for every caller and route."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planes.control import Desk, open_desk
from tests.planes.test_controlplane_access import concrete
from tollhouse.controlplane.access import PERMISSIONS, Caller, Permission
from tollhouse.rules.roles import IN_TEAM, MATRIX, Action, Reach
from tollhouse.terms.people import Role

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
