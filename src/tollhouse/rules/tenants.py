"""Whose a thing is, and whose things somebody reaches: what keeps tenants apart.

A thing belongs to a user, to teams, to both, or, as the organisation's budgets do, to the installation as a whole. Who
reaches *everybody's* things (an admin) reaches it in any case; else it takes that the user is they themselves and their
role goes as far as their own, or that one of the teams is one in which they may do this by their role there.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.rules.roles import MATRIX, Action, Reach, reach, teams_within
from tollhouse.terms.people import Role

NO_TEAM: Final[frozenset[str]] = frozenset()


class Tenant(msgspec.Struct, frozen=True):
    """Whose one thing is; neither a user nor a team: the whole installation's."""

    user_id: str = ""
    team_ids: frozenset[str] = NO_TEAM


class Tenants(msgspec.Struct, frozen=True):
    """Whose things somebody reaches with one action; empty: nobody's."""

    everybody: bool = False
    user_id: str = ""
    team_ids: frozenset[str] = NO_TEAM

    def __contains__(self, tenant: Tenant) -> bool:
        if self.everybody:
            return True
        own = bool(tenant.user_id) and tenant.user_id == self.user_id
        return own or not self.team_ids.isdisjoint(tenant.team_ids)


EVERYBODY: Final = Tenants(everybody=True)


def tenants_of(role: Role | None, user_id: str, team_roles: Mapping[str, Role], action: Action) -> Tenants:
    """Whose things this action reaches, for a user of this role in the organisation and these in teams."""
    far = reach(role, team_roles, action)
    if role is None or far is Reach.NONE:
        return Tenants()
    if far is Reach.ALL:
        return EVERYBODY
    teams = teams_within(team_roles, action) if far is Reach.TEAM else NO_TEAM
    return Tenants(user_id=user_id if MATRIX[role][action] >= Reach.OWN else "", team_ids=teams)
