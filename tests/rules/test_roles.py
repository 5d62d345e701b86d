"""The matrix of roles and actions."""

import pytest

from tollhouse.rules.roles import IN_TEAM, MATRIX, Action, Reach, may_give, reach, teams_within
from tollhouse.terms.people import Role


def test_every_role_and_action_has_its_place() -> None:
    assert set(MATRIX) == set(Role)
    assert all(set(row) == set(Action) for row in MATRIX.values())


@pytest.mark.parametrize("action", Action)
def test_the_larger_role_reaches_at_least_as_far(action: Action) -> None:
    order = (Role.OWNER, Role.ADMIN, Role.MEMBER)
    reaches = [MATRIX[role][action] for role in order]
    assert reaches == sorted(reaches, reverse=True)
    assert MATRIX[Role.OWNER][action] is Reach.ALL
    assert MATRIX[Role.SERVICE][action] is Reach.NONE


@pytest.mark.parametrize("action", [action for action in Action if not action.value.endswith(":read")])
def test_a_viewer_changes_nothing_but_their_own_sessions(action: Action) -> None:
    assert MATRIX[Role.VIEWER][action] is (Reach.OWN if action is Action.WRITE_SESSIONS else Reach.NONE)
    assert action not in IN_TEAM[Role.VIEWER]


def test_a_role_in_a_team_reaches_within_that_team_only() -> None:
    roles = {"red": Role.ADMIN, "blue": Role.MEMBER, "green": Role.VIEWER}
    assert reach(Role.MEMBER, roles, Action.WRITE_KEYS) is Reach.TEAM
    assert teams_within(roles, Action.WRITE_KEYS) == {"red"}
    assert teams_within(roles, Action.READ_KEYS) == {"red", "green"}
    assert reach(Role.MEMBER, {}, Action.WRITE_KEYS) is Reach.OWN
    assert reach(Role.ADMIN, roles, Action.WRITE_KEYS) is Reach.ALL


@pytest.mark.parametrize("action", Action)
def test_nobody_and_programs_reach_nothing_whatever_the_team(action: Action) -> None:
    assert reach(None, {"red": Role.ADMIN}, action) is Reach.NONE
    assert reach(Role.SERVICE, {"red": Role.ADMIN}, action) is Reach.NONE


def test_only_owners_make_owners_and_admins() -> None:
    assert all(may_give(Role.OWNER, role) for role in Role)
    assert {role for role in Role if may_give(Role.ADMIN, role)} == {Role.MEMBER, Role.VIEWER, Role.SERVICE}
    assert not any(may_give(giver, role) for giver in (None, Role.MEMBER, Role.VIEWER, Role.SERVICE) for role in Role)
