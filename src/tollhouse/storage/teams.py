"""Teams and who is in them: plain functions of a Connection, as in `directory`."""

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from tollhouse.storage.rows import decode_globs, decode_limits, decode_mapping, encode, page
from tollhouse.storage.tables import memberships, teams, users
from tollhouse.terms.people import Membership, Role, Team


def create_team(connection: Connection, team: Team) -> bool:
    """Insert a team; False when there is one of this id."""
    if get_team(connection, team.team_id) is not None:
        return False
    connection.execute(insert(teams).values(_team_row(team)))
    return True


def get_team(connection: Connection, team_id: str) -> Team | None:
    row = connection.execute(select(teams).where(teams.c.team_id == team_id)).one_or_none()
    return None if row is None else _team(row)


def list_teams(
    connection: Connection, *where: ColumnElement[bool], cursor: str = "", limit: int = 100
) -> tuple[Team, ...]:
    """At most `limit` teams with an id after `cursor`, of those that meet all conditions."""
    return tuple(map(_team, page(connection, teams, teams.c.team_id, cursor, limit, *where)))


def all_teams(connection: Connection) -> tuple[Team, ...]:
    return tuple(map(_team, connection.execute(select(teams).order_by(teams.c.team_id))))


def update_team(connection: Connection, team: Team) -> bool:
    """Write all of a team's fields; False when there is none of this id. Teams are never deleted: the ledger names
    them.
    """
    query = update(teams).where(teams.c.team_id == team.team_id).values(_team_row(team))
    return connection.execute(query).rowcount == 1


# Who is in them


def put_member(connection: Connection, member: Membership) -> None:
    """Take somebody into a team, or give them another role there. The user's own team becomes this one if they have
    none.
    """
    here = (memberships.c.team_id == member.team_id, memberships.c.user_id == member.user_id)
    changed = connection.execute(update(memberships).where(*here).values(role=member.role.value)).rowcount
    if not changed:
        connection.execute(insert(memberships).values({**msgspec.structs.asdict(member), "role": member.role.value}))
    connection.execute(
        update(users).where(users.c.user_id == member.user_id, users.c.team_id.is_(None)).values(team_id=member.team_id)
    )


def remove_member(connection: Connection, team_id: str, user_id: str) -> bool:
    """Take somebody out of a team; False when they were not in it. Their keys in the team are the caller's to end."""
    here = (memberships.c.team_id == team_id, memberships.c.user_id == user_id)
    if not connection.execute(delete(memberships).where(*here)).rowcount:
        return False
    connection.execute(update(users).where(users.c.user_id == user_id, users.c.team_id == team_id).values(team_id=None))
    return True


def members_of(
    connection: Connection, team_id: str, *where: ColumnElement[bool], cursor: str = "", limit: int = 100
) -> tuple[Membership, ...]:
    """At most `limit` members of a team, by user id after `cursor`, of those that meet all conditions."""
    column = memberships.c
    found = page(connection, memberships, column.user_id, cursor, limit, column.team_id == team_id, *where)
    return tuple(map(_membership, found))


def get_member(connection: Connection, team_id: str, user_id: str) -> Membership | None:
    here = (memberships.c.team_id == team_id, memberships.c.user_id == user_id)
    row = connection.execute(select(memberships).where(*here)).one_or_none()
    return None if row is None else _membership(row)


def memberships_of(connection: Connection, user_id: str) -> tuple[Membership, ...]:
    """The teams somebody is in."""
    query = select(memberships).where(memberships.c.user_id == user_id).order_by(memberships.c.team_id)
    return tuple(map(_membership, connection.execute(query)))


def _team_row(team: Team) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(team),
        "models": None if team.models is None else encode(team.models),
        "limits": encode(team.limits),
        "metadata": encode(team.metadata),
    }


def _team(row: Row[Any]) -> Team:
    return Team(
        row.team_id,
        org_id=row.org_id,
        name=row.name,
        plan_id=row.plan_id,
        models=None if row.models is None else decode_globs(row.models),
        limits=decode_limits(row.limits),
        metadata=decode_mapping(row.metadata),
        owned_by=row.owned_by,
        created_at_ns=row.created_at_ns,
        blocked_at_ns=row.blocked_at_ns,
    )


def _membership(row: Row[Any]) -> Membership:
    return Membership(row.team_id, row.user_id, role=Role(row.role), created_at_ns=row.created_at_ns)
