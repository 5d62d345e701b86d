"""The data plane's image of people, read from the database in one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Table, and_, case, func, or_, select

from tollhouse.rules.plans import budgets_of, plan_in_force
from tollhouse.storage import directory
from tollhouse.storage.credentials import assignments, credentials_for
from tollhouse.storage.plans import all_plans
from tollhouse.storage.tables import budget_windows, budgets, key_secrets, users, virtual_keys
from tollhouse.storage.teams import all_teams
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget, DirectoryImage, Plan, Team, User, VirtualKey

_AT_ONCE: Final = 5_000
"""Budgets of one query: a statement of PostgreSQL takes 65,535 values, and each team may have some by its plan."""


def load_image(
    connection: Connection, user_id: str | None = None, *, now_s: int, timezone: str = "UTC"
) -> DirectoryImage:
    """Everything, or one user's part: their row, keys, secrets and budgets. The budgets of the organisation and of
    teams, and all teams and plans, are in both. `timezone` is that of budgets which a plan gives.

    An unknown user gives an image without users and keys. Revoked keys and ended secrets are included: they are
    refused by name.
    """
    if user_id is None:
        whose_users = whose_keys = whose_budgets = None
    else:
        whose_users = users.c.user_id == user_id
        whose_keys = virtual_keys.c.user_id == user_id
        keys_of_user = select(virtual_keys.c.key_id).where(whose_keys)
        whose_budgets = or_(
            budgets.c.scope.in_((ScopeKind.ORGANISATION.value, ScopeKind.TEAM.value)),
            and_(budgets.c.scope == ScopeKind.USER.value, budgets.c.scope_id == user_id),
            and_(budgets.c.scope == ScopeKind.KEY.value, budgets.c.scope_id.in_(keys_of_user)),
        )
    secrets = select(key_secrets)
    if whose_keys is not None:
        secrets = secrets.join(virtual_keys, virtual_keys.c.key_id == key_secrets.c.key_id).where(whose_keys)
    people = tuple(map(directory.user_of, _all(connection, users, whose_users)))
    keys = tuple(map(directory.key_of, _all(connection, virtual_keys, whose_keys)))
    teams, plans = all_teams(connection), all_plans(connection)
    stated = map(directory.budget_of, _all(connection, budgets, whose_budgets))
    given = given_budgets(plans, teams, people, keys, timezone)
    chosen = tuple(_named((*stated, *given), teams, keys))
    return DirectoryImage(
        users=people,
        keys=keys,
        secrets=tuple(map(directory.secret_of, connection.execute(secrets))),
        budgets=chosen,
        posted=_latest_windows(connection, None if user_id is None else [budget.budget_id for budget in chosen], now_s),
        read_at_s=now_s,
        teams=teams,
        plans=plans,
        credentials=credentials_for(connection, user_id),
        assigned=assignments(connection, user_id),
    )


def given_budgets(
    plans: Iterable[Plan], teams: Iterable[Team], people: Iterable[User], keys: Iterable[VirtualKey], timezone: str
) -> Iterator[Budget]:
    """The budgets that these have by their plans: while the shared key pays for their calls, and while their own do."""
    by_name = {plan.plan_id: plan for plan in plans}
    holders = chain(
        ((ScopeKind.TEAM, team.team_id, team.plan_id) for team in teams),
        ((ScopeKind.USER, user.user_id, user.plan_id) for user in people),
        ((ScopeKind.KEY, key.key_id, key.plan_id) for key in keys),
    )
    for scope, scope_id, plan_id in holders:
        shared = plan_in_force(by_name, plan_id)
        yield from budgets_of(shared, scope, scope_id, timezone)
        own = plan_in_force(by_name, plan_id, has_own_key=True)
        if own is not shared:
            yield from budgets_of(own, scope, scope_id, timezone)


def _named(chosen: Iterable[Budget], teams: Iterable[Team], keys: Iterable[VirtualKey]) -> Iterator[Budget]:
    """With what people call their scopes."""
    names = {
        ScopeKind.KEY: {key.key_id: key.name for key in keys},
        ScopeKind.TEAM: {team.team_id: team.name for team in teams},
    }
    for budget in chosen:
        name = names.get(budget.scope, {}).get(budget.scope_id)
        yield msgspec.structs.replace(budget, scope_name=name) if name else budget


def _latest_windows(connection: Connection, budget_ids: list[str] | None, now_s: int) -> dict[tuple[str, int], int]:
    windows = budget_windows.c
    begun = case((windows.window_start_s <= now_s, windows.window_start_s), else_=0)
    newest = select(windows.budget_id, func.max(begun).label("start")).group_by(windows.budget_id)
    if budget_ids is None:
        asked = [newest]
    else:
        parts = (budget_ids[at : at + _AT_ONCE] for at in range(0, len(budget_ids), _AT_ONCE))
        asked = [newest.where(windows.budget_id.in_(some)) for some in parts]
    found = {}
    for query in asked:
        last = query.subquery()
        latest = select(windows.budget_id, windows.window_start_s, windows.posted).join(
            last, and_(windows.budget_id == last.c.budget_id, windows.window_start_s >= last.c.start)
        )
        found.update({(row.budget_id, row.window_start_s): row.posted for row in connection.execute(latest)})
    return found


def _all(connection: Connection, table: Table, where: ColumnElement[bool] | None) -> Sequence[Row[Any]]:
    """In the order of the primary key, which an engine that updates rows in place elsewhere does not keep by itself."""
    query = select(table).order_by(*table.primary_key.columns)
    return connection.execute(query if where is None else query.where(where)).all()
