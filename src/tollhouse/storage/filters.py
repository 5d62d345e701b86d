"""Whose rows: conditions on the tables of people, on the ledger and on the request log, so put that an index answers
them where there is one.
"""

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, false, func, or_, select

from tollhouse.rules.tenants import EVERYBODY, Tenants
from tollhouse.storage.tables import budgets, memberships, teams, users, virtual_keys
from tollhouse.terms.names import ScopeKind


def whose(
    connection: Connection,
    table: Table,
    *,
    user_id: str | None = None,
    key_id: str | None = None,
    team_id: str | None = None,
    tenants: Tenants = EVERYBODY,
) -> list[ColumnElement[bool]]:
    """Rows of the ledger or the request log: of this user, this key, this team, and only of these tenants.

    A key has one user for life, so a key's rows are found among those of its user; only an unknown key's are sought
    everywhere. A team's rows are those that counted toward it then, whoever is in it now.
    """
    conditions = []
    if key_id is not None:
        conditions.append(table.c.key_id == key_id)
        if user_id is None:
            owner = select(virtual_keys.c.user_id).where(virtual_keys.c.key_id == key_id)
            user_id = connection.execute(owner).scalar()
    if user_id is not None:
        conditions.append(table.c.user_id == user_id)
    if team_id is not None:
        conditions.append(table.c.team_id == team_id)
    if not tenants.everybody:
        conditions.append(
            _any(
                table.c.user_id == tenants.user_id if tenants.user_id else None,
                table.c.team_id.in_(sorted(tenants.team_ids)) if tenants.team_ids else None,
            )
        )
    return conditions


def users_of(tenants: Tenants) -> list[ColumnElement[bool]]:
    """Users: oneself, and members of teams."""
    if tenants.everybody:
        return []
    members = select(memberships.c.user_id).where(memberships.c.team_id.in_(sorted(tenants.team_ids)))
    return [
        _any(
            users.c.user_id == tenants.user_id if tenants.user_id else None,
            users.c.user_id.in_(members) if tenants.team_ids else None,
        )
    ]


def members_of(team_id: str) -> Select[str]:
    """The ids of those who are in a team."""
    return select(memberships.c.user_id).where(memberships.c.team_id == team_id)


def keys_of(tenants: Tenants) -> list[ColumnElement[bool]]:
    """Keys: one's own, and those that count toward teams."""
    if tenants.everybody:
        return []
    column = virtual_keys.c
    return [
        _any(
            column.user_id == tenants.user_id if tenants.user_id else None,
            counts_toward(tenants.team_ids) if tenants.team_ids else None,
        )
    ]


def key_ids(*where: ColumnElement[bool]) -> Select[str]:
    """The ids of the keys that meet all conditions."""
    return select(virtual_keys.c.key_id).where(*where).order_by(virtual_keys.c.key_id)


def teams_of(tenants: Tenants) -> list[ColumnElement[bool]]:
    return [] if tenants.everybody else [teams.c.team_id.in_(sorted(tenants.team_ids))]


def counts_toward(team_ids: frozenset[str]) -> ColumnElement[bool]:
    """Keys whose calls count toward one of these teams: the key's own team, else its user's."""
    of_user = select(users.c.team_id).where(users.c.user_id == virtual_keys.c.user_id).scalar_subquery()
    return func.coalesce(virtual_keys.c.team_id, of_user).in_(sorted(team_ids))


def budgets_of(tenants: Tenants) -> list[ColumnElement[bool]]:
    """Budgets over such users, keys and teams; the organisation's are everybody's alone."""
    if tenants.everybody:
        return []
    scope, scope_id = budgets.c.scope, budgets.c.scope_id
    people, keys = select(users.c.user_id).where(*users_of(tenants)), select(virtual_keys.c.key_id)
    return [
        or_(
            and_(scope == ScopeKind.USER.value, scope_id.in_(people)),
            and_(scope == ScopeKind.KEY.value, scope_id.in_(keys.where(*keys_of(tenants)))),
            and_(scope == ScopeKind.TEAM.value, scope_id.in_(sorted(tenants.team_ids))),
        )
    ]


def _any(*conditions: ColumnElement[bool] | None) -> ColumnElement[bool]:
    """Any of those that are there; false when none is."""
    return or_(false(), *(condition for condition in conditions if condition is not None))
