"""What keeps tenants apart in every handler: whose a thing is, and who may know of it.

Who may not read a thing is told that there is none (404), in the words of one that never was. Who may read it and not
do this with it is told so (403). Lists hold what the caller reaches and nothing else (`storage.filters`).
"""

from sqlalchemy import Connection

from tollhouse.controlplane.access import Caller, forbidden
from tollhouse.controlplane.problems import Problem, not_found
from tollhouse.rules.roles import Action
from tollhouse.rules.tenants import Tenant, Tenants, tenants_of
from tollhouse.storage import directory, teams
from tollhouse.terms.names import ScopeKind
from tollhouse.terms.people import Budget, Team, User, VirtualKey

READING = {
    Action.WRITE_USERS: Action.READ_USERS,
    Action.ERASE_USERS: Action.READ_USERS,
    Action.WRITE_TEAMS: Action.READ_TEAMS,
    Action.WRITE_MEMBERS: Action.READ_TEAMS,
    Action.WRITE_PLANS: Action.READ_PLANS,
    Action.WRITE_KEYS: Action.READ_KEYS,
    Action.WRITE_BUDGETS: Action.READ_BUDGETS,
    Action.WRITE_SESSIONS: Action.READ_SESSIONS,
    Action.WRITE_CREDENTIALS: Action.READ_CREDENTIALS,
}
"""Who may not do the second with a thing does not learn by the first that it is there."""


def reached(caller: Caller, action: Action) -> Tenants:
    """Whose things the caller reaches with an action."""
    return tenants_of(caller.role, caller.user_id, caller.team_roles, action)


def admit(caller: Caller, action: Action, tenant: Tenant, missing: Problem) -> None:
    """Raises `missing` where the caller may not even read such a thing, Problem (403) where they may not do this."""
    if tenant not in reached(caller, READING.get(action, action)):
        raise missing
    if tenant not in reached(caller, action):
        raise forbidden(caller, action)


# Whose a thing is


def tenant_of_user(connection: Connection, user_id: str) -> Tenant:
    """Their own, and of every team they are in."""
    return Tenant(user_id, frozenset(member.team_id for member in teams.memberships_of(connection, user_id)))


def tenant_of_key(connection: Connection, key: VirtualKey) -> Tenant:
    """Its user's, and of the team it counts toward."""
    return Tenant(key.user_id, _team_of(connection, key.user_id, key.team_id))


def _team_of(connection: Connection, user_id: str, team_id: str | None) -> frozenset[str]:
    """The team that calls count toward: the key's, else the user's."""
    if not team_id:
        user = directory.get_user(connection, user_id)
        team_id = None if user is None else user.team_id
    return frozenset((team_id,) if team_id else ())


def tenant_of_budget(connection: Connection, budget: Budget) -> Tenant:
    return tenant_of_scope(connection, budget.scope, budget.scope_id)


def tenant_of_scope(connection: Connection, scope: ScopeKind, scope_id: str) -> Tenant:
    """Whose a budget over this is; nobody's for a scope that is not there."""
    if scope is ScopeKind.TEAM:
        return Tenant(team_ids=frozenset((scope_id,)))
    if scope is ScopeKind.USER:
        return tenant_of_user(connection, scope_id)
    if scope is ScopeKind.KEY:
        key = directory.get_key(connection, scope_id)
        return Tenant() if key is None else tenant_of_key(connection, key)
    return Tenant()


# A thing that is named, for who may do this with it. Each raises Problem: 404 or 403.


def known_user(connection: Connection, caller: Caller, action: Action, user_id: str) -> User:
    missing = not_found("user", user_id, "`tollhouse users list` shows those there are.")
    user = directory.get_user(connection, user_id)
    if user is None:
        raise missing
    admit(caller, action, tenant_of_user(connection, user_id), missing)
    return user


def known_team(connection: Connection, caller: Caller, action: Action, team_id: str) -> Team:
    missing = not_found("team", team_id, "`tollhouse teams list` shows those there are.")
    team = teams.get_team(connection, team_id)
    if team is None:
        raise missing
    admit(caller, action, Tenant(team_ids=frozenset((team_id,))), missing)
    return team


def known_key(connection: Connection, caller: Caller, action: Action, key_id: str) -> VirtualKey:
    missing = not_found("key", key_id, "`tollhouse keys list` shows those there are.")
    key = directory.get_key(connection, key_id)
    if key is None:
        raise missing
    admit(caller, action, tenant_of_key(connection, key), missing)
    return key


def known_budget(connection: Connection, caller: Caller, action: Action, budget_id: str) -> Budget:
    missing = not_found("budget", budget_id, "`tollhouse budgets list` shows those there are.")
    budget = directory.get_budget(connection, budget_id)
    if budget is None:
        raise missing
    admit(caller, action, tenant_of_budget(connection, budget), missing)
    if action is Action.WRITE_BUDGETS:
        budget_is_theirs_to_set(caller, budget.scope)
    return budget


def budget_is_theirs_to_set(caller: Caller, scope: ScopeKind) -> None:
    """Who leads a team sets budgets over the keys in it; those over the team itself and over its members, who may be in
    other teams too, are set from above. Raises Problem (403).
    """
    if scope is not ScopeKind.KEY and not reached(caller, Action.WRITE_BUDGETS).everybody:
        raise Problem(403, "forbidden", f"A budget over a {scope} is set by an admin; over a key in your team, by you.")
