"""What a body names must be there: a plan, a team, somebody's place in it. Each raises Problem (400) at its field."""

from sqlalchemy import Connection

from tollhouse.controlplane.problems import invalid
from tollhouse.storage import plans, teams
from tollhouse.terms.people import Team


def plan_there(connection: Connection, plan_id: str | None, *, field: str = "plan_id") -> None:
    if plan_id is not None and plans.get_plan(connection, plan_id) is None:
        raise invalid(field, f"there is no plan {plan_id!r}; create it first (`tollhouse plans list`)")


def team_there(connection: Connection, team_id: str, *, field: str = "team_id") -> Team:
    team = teams.get_team(connection, team_id)
    if team is None:
        raise invalid(field, f"there is no team {team_id!r}; create it first (`tollhouse teams list`)")
    return team


def member_of(connection: Connection, team_id: str | None, user_id: str, *, field: str = "team_id") -> None:
    """Somebody's calls count toward a team only while they are in it."""
    if team_id is not None and teams.get_member(connection, team_id, user_id) is None:
        raise invalid(field, f"{user_id!r} is not in the team {team_id!r}; make them a member first")
