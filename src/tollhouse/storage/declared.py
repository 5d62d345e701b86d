"""What declared files name and declared before, read for a comparison, and the comparison's changes written down: plain
functions of a Connection, as in `directory`.
"""

from collections.abc import Collection, Iterator
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Row, Table, and_, insert, or_, select

from tollhouse.rules.budgets import TIMELESS
from tollhouse.rules.declarations import Act, Change, Name, Thing, key_name, name_of
from tollhouse.storage import directory, plans, providers, teams
from tollhouse.storage.tables import budget_windows, budgets, memberships, users, virtual_keys
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget, KeySecret, Membership, Plan, Role, Team, User, VirtualKey
from tollhouse.terms.providers import ProviderRow


class Named(msgspec.Struct, frozen=True):
    """Which rows a file speaks of."""

    owner: str
    users: frozenset[str] = frozenset()
    keys: frozenset[tuple[str, str]] = frozenset()
    """User and name."""
    budgets: frozenset[tuple[ScopeKind, str]] = frozenset()
    """Scopes."""
    rosters: frozenset[str] = frozenset()
    """Teams whose members it states."""
    own_teams: frozenset[tuple[str, str]] = frozenset()
    """Team and user, where it says toward which team the user's calls count."""


def stored(connection: Connection, named: Named) -> dict[Name, Thing]:
    """What the file names, all that it declared before, and all teams, plans and providers. Of keys only those that
    work: where several have one name, the file's own, else the oldest.
    """
    found: dict[Name, Thing] = {}
    for thing in _stored(connection, named):
        name = name_of(thing)
        if name not in found or (isinstance(thing, VirtualKey) and thing.owned_by == named.owner):
            found[name] = thing
    return found


def _stored(connection: Connection, named: Named) -> Iterator[Thing]:
    yield from plans.all_plans(connection)
    yield from teams.all_teams(connection)
    yield from map(directory.user_of, _rows(connection, users, users.c.user_id.in_(named.users), named.owner))
    yield from _memberships(connection, named)
    keys = [*_keys(connection, named)]
    yield from keys
    names = {key.key_id: key_name(key.name, key.user_id) for key in keys}
    column = budgets.c
    scopes = {(scope.value, scope_id) for scope, scope_id in named.budgets}
    scopes |= {(ScopeKind.KEY.value, key.key_id) for key in keys}
    for row in _rows(connection, budgets, column.scope_id.in_({scope_id for _, scope_id in scopes}), named.owner):
        if row.owned_by == named.owner or (row.scope, row.scope_id) in scopes:
            called = names.get(row.scope_id, "") if row.scope == ScopeKind.KEY.value else ""
            yield msgspec.structs.replace(directory.budget_of(row), scope_name=called)
    yield from providers.all_providers(connection)


def _memberships(connection: Connection, named: Named) -> Iterator[Membership]:
    column = memberships.c
    of_teams, of_users = {team for team, _ in named.own_teams}, {user for _, user in named.own_teams}
    wanted = or_(column.team_id.in_(named.rosters), and_(column.team_id.in_(of_teams), column.user_id.in_(of_users)))
    for row in connection.execute(select(memberships).where(wanted)):
        if row.team_id in named.rosters or (row.team_id, row.user_id) in named.own_teams:
            yield Membership(row.team_id, row.user_id, Role(row.role), row.created_at_ns)


def _keys(connection: Connection, named: Named) -> Iterator[VirtualKey]:
    column = virtual_keys.c
    wanted = and_(
        column.user_id.in_({user for user, _ in named.keys}), column.name.in_({name for _, name in named.keys})
    )
    for row in _rows(connection, virtual_keys, wanted, named.owner):
        if row.revoked_at_ns is None and (row.owned_by == named.owner or (row.user_id, row.name) in named.keys):
            yield directory.key_of(row)


def _rows(connection: Connection, table: Table, wanted: Any, owner: str) -> Collection[Row[Any]]:
    oldest_first = (table.c.created_at_ns, *table.primary_key.columns)
    return connection.execute(select(table).where(or_(wanted, table.c.owned_by == owner)).order_by(*oldest_first)).all()


def write(connection: Connection, change: Change, now_ns: int, secret: KeySecret | None = None) -> None:
    """Do what a change says. `secret` is that of a new key."""
    match change.act:
        case Act.CREATE if change.after is not None:
            _create(connection, change.after, secret)
        case Act.UPDATE if change.before is not None and change.after is not None:
            _update(connection, change.before, change.after)
        case Act.DELETE if change.before is not None:
            _end(connection, change.before, now_ns)
        case _:
            pass


def _create(connection: Connection, thing: Thing, secret: KeySecret | None) -> None:
    match thing:
        case Plan():
            plans.create_plan(connection, thing)
        case Team():
            teams.create_team(connection, thing)
        case User():
            directory.create_user(connection, thing)
        case Membership():
            teams.put_member(connection, thing)
        case VirtualKey():
            assert secret is not None  # a key is nothing without
            directory.create_key(connection, thing, secret)
        case Budget():
            directory.create_budget(connection, thing)
        case ProviderRow():
            providers.create_provider(connection, thing)


def _update(connection: Connection, before: Thing, after: Thing) -> None:
    match after:
        case Plan():
            plans.update_plan(connection, after)
        case Team():
            teams.update_team(connection, after)
        case User():
            directory.update_user(connection, after)
        case Membership():
            teams.put_member(connection, after)
        case VirtualKey():
            directory.update_key(connection, after)
        case Budget():
            if isinstance(before, Budget) and before.timezone != after.timezone:
                _rezone(connection, after)
            else:
                directory.update_budget(connection, msgspec.structs.replace(after, scope_name=""))
        case ProviderRow():
            providers.update_provider(connection, after)


def _rezone(connection: Connection, budget: Budget) -> None:
    """Windows that begin at a midnight begin anew, at another; what is spent of one without stays."""
    posted = directory.posted_windows(connection, budget.budget_id) if budget.window in TIMELESS else {}
    directory.delete_budget(connection, budget.budget_id)
    directory.create_budget(connection, budget)
    for start_s, amount in posted.items():
        row = {"budget_id": budget.budget_id, "window_start_s": start_s, "posted": amount}
        connection.execute(insert(budget_windows).values(row))


def _end(connection: Connection, thing: Thing, now_ns: int) -> None:
    """Access ends at once; what the ledger names stays, blocked or revoked, and is nobody's file's any more."""
    match thing:
        case Plan():
            plans.delete_plan(connection, thing.plan_id)
        case Team():
            teams.update_team(connection, _ended(thing, now_ns))
        case User():
            directory.update_user(connection, _ended(thing, now_ns))
        case Membership():
            directory.revoke_in_team(connection, thing.team_id, thing.user_id, now_ns)
            teams.remove_member(connection, thing.team_id, thing.user_id)
        case VirtualKey():
            revoked_at_ns = thing.revoked_at_ns or now_ns
            ended = msgspec.structs.replace(thing, revoked_at_ns=revoked_at_ns, plan_id=None, owned_by="")
            directory.update_key(connection, ended)
        case Budget():
            directory.delete_budget(connection, thing.budget_id)
        case ProviderRow():
            providers.delete_provider(connection, thing.name)


Blockable = TypeVar("Blockable", User, Team)


def _ended(thing: Blockable, now_ns: int) -> Blockable:
    blocked_at_ns = thing.blocked_at_ns or now_ns
    return msgspec.structs.replace(thing, blocked_at_ns=blocked_at_ns, plan_id=None, owned_by="")
