"""Who may do what: one table, from which the checks, the documentation and the tests are made. Default deny.

An *action* is a verb on a noun. A *role* reaches some of the nouns with it: none, what is their own, what is their
team's, or all. Somebody has one role in the organisation and may have another in each team; what they reach is the
larger of both, a team's role reaching within that team only.

    owner     everything, also who else is owner
    admin     everything but owners and what is declared for the whole installation
    member    themselves: their keys, budgets, use and sessions
    viewer    sees what an admin sees, changes nothing but their own password and sessions
    service   a program: its keys call models; it never signs in and changes nothing

    admin of a team     its members, their keys in it and its use; never the team's own budget, plan or limits
    viewer of a team    sees what its admin sees
    member of a team    sees the team's name and what is left of its budgets
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final

from tollhouse.terms.people import Role


class Reach(IntEnum):
    """How far an action goes; a larger one contains the smaller."""

    NONE = 0
    OWN = 1
    TEAM = 2
    ALL = 3


class Action(StrEnum):
    """What can be done with the management API."""

    READ_SYSTEM = "system:read"
    READ_MODELS = "models:read"
    READ_USERS = "users:read"
    WRITE_USERS = "users:write"
    ERASE_USERS = "users:erase"
    READ_TEAMS = "teams:read"
    WRITE_TEAMS = "teams:write"
    WRITE_MEMBERS = "members:write"
    INVITE = "invitations:write"
    READ_PLANS = "plans:read"
    WRITE_PLANS = "plans:write"
    READ_KEYS = "keys:read"
    WRITE_KEYS = "keys:write"
    READ_BUDGETS = "budgets:read"
    WRITE_BUDGETS = "budgets:write"
    READ_USAGE = "usage:read"
    READ_REQUESTS = "requests:read"
    READ_CONTENT = "content:read"
    """What was asked and answered, where a key has it kept."""
    READ_SESSIONS = "sessions:read"
    WRITE_SESSIONS = "sessions:write"
    READ_NOTICES = "notices:read"
    READ_WEBHOOKS = "webhooks:read"
    WRITE_WEBHOOKS = "webhooks:write"
    READ_CREDENTIALS = "credentials:read"
    WRITE_CREDENTIALS = "credentials:write"
    ROTATE_VAULT = "vault:rotate"
    READ_AUDIT = "audit:read"
    REFRESH_PROVIDERS = "providers:refresh"
    """Have a provider's credential read from where it stands."""
    DECLARE = "declarations:write"
    """Apply a file: what it names becomes read-only elsewhere."""


_NONE, _OWN, _TEAM, _ALL = Reach

_COLUMNS: Final = (Role.OWNER, Role.ADMIN, Role.MEMBER, Role.VIEWER, Role.SERVICE)
_TABLE: Final[dict[Action, tuple[Reach, ...]]] = {
    #                       owner admin member viewer service
    Action.READ_SYSTEM: (_ALL, _ALL, _NONE, _ALL, _NONE),
    Action.READ_MODELS: (_ALL, _ALL, _ALL, _ALL, _NONE),
    Action.READ_USERS: (_ALL, _ALL, _OWN, _ALL, _NONE),
    Action.WRITE_USERS: (_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.ERASE_USERS: (_ALL, _NONE, _NONE, _NONE, _NONE),
    Action.READ_TEAMS: (_ALL, _ALL, _OWN, _ALL, _NONE),
    Action.WRITE_TEAMS: (_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.WRITE_MEMBERS: (_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.INVITE: (_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.READ_PLANS: (_ALL, _ALL, _OWN, _ALL, _NONE),
    Action.WRITE_PLANS: (_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.READ_KEYS: (_ALL, _ALL, _OWN, _ALL, _NONE),
    Action.WRITE_KEYS: (_ALL, _ALL, _OWN, _NONE, _NONE),
    Action.READ_BUDGETS: (_ALL, _ALL, _OWN, _ALL, _NONE),
    Action.WRITE_BUDGETS: (_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.READ_USAGE: (_ALL, _ALL, _OWN, _ALL, _NONE),
    Action.READ_REQUESTS: (_ALL, _ALL, _OWN, _ALL, _NONE),
    Action.READ_CONTENT: (_ALL, _OWN, _OWN, _OWN, _NONE),
    Action.READ_SESSIONS: (_ALL, _ALL, _OWN, _OWN, _NONE),
    Action.WRITE_SESSIONS: (_ALL, _ALL, _OWN, _OWN, _NONE),
    Action.READ_NOTICES: (_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.READ_WEBHOOKS: (_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.WRITE_WEBHOOKS: (_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.READ_CREDENTIALS: (_ALL, _ALL, _OWN, _ALL, _NONE),
    Action.WRITE_CREDENTIALS: (_ALL, _ALL, _OWN, _NONE, _NONE),
    Action.ROTATE_VAULT: (_ALL, _NONE, _NONE, _NONE, _NONE),
    Action.READ_AUDIT: (_ALL, _ALL, _NONE, _NONE, _NONE),
    Action.REFRESH_PROVIDERS: (_ALL, _NONE, _NONE, _NONE, _NONE),
    Action.DECLARE: (_ALL, _NONE, _NONE, _NONE, _NONE),
}
MATRIX: Final[Mapping[Role, Mapping[Action, Reach]]] = MappingProxyType(
    {
        role: MappingProxyType({action: reaches[column] for action, reaches in _TABLE.items()})
        for column, role in enumerate(_COLUMNS)
    }
)
"""What a role of the organisation reaches."""

IN_TEAM: Final[Mapping[Role, frozenset[Action]]] = MappingProxyType(
    {
        Role.ADMIN: frozenset(
            (
                Action.READ_USERS,
                Action.READ_TEAMS,
                Action.WRITE_MEMBERS,
                Action.INVITE,
                Action.READ_KEYS,
                Action.WRITE_KEYS,
                Action.READ_BUDGETS,
                Action.WRITE_BUDGETS,
                Action.READ_USAGE,
                Action.READ_REQUESTS,
            )
        ),
        Role.VIEWER: frozenset(
            (
                Action.READ_USERS,
                Action.READ_TEAMS,
                Action.READ_KEYS,
                Action.READ_BUDGETS,
                Action.READ_USAGE,
                Action.READ_REQUESTS,
            )
        ),
        Role.MEMBER: frozenset((Action.READ_TEAMS,)),
    }
)
"""What a role in a team reaches, within that team."""

TEAM_ROLES: Final = tuple(IN_TEAM)


def reach(role: Role | None, team_roles: Mapping[str, Role], action: Action) -> Reach:
    """How far somebody goes with an action; NONE for nobody."""
    if role is None:
        return Reach.NONE
    own = MATRIX[role][action]
    if own < Reach.TEAM and role is not Role.SERVICE and teams_within(team_roles, action):
        return Reach.TEAM
    return own


def teams_within(team_roles: Mapping[str, Role], action: Action) -> frozenset[str]:
    """The teams in which somebody may do this, by their roles there."""
    return frozenset(team_id for team_id, role in team_roles.items() if action in IN_TEAM.get(role, ()))


def may_give(giver: Role | None, role: Role) -> bool:
    """Whether somebody of this role may make another person one of that role, or change one: only owners touch owners
    and admins.
    """
    if giver is Role.OWNER:
        return True
    return giver is Role.ADMIN and role not in (Role.OWNER, Role.ADMIN)


def lowers(before: Role, after: Role) -> bool:
    """Whether somebody reaches less than they did, with any action."""
    return any(MATRIX[after][action] < MATRIX[before][action] for action in Action)
