"""LiteLLM's fields of users and teams, by the rules of `litellm_fields`.

a user    user_id user_email user_alias user_role teams max_budget budget_duration rpm_limit tpm_limit
          max_parallel_requests metadata tags; and of the key made with them: auto_create_key key_alias models
          duration team_id
a team    team_id team_alias members_with_roles models max_budget budget_duration rpm_limit tpm_limit
          max_parallel_requests metadata tags blocked
"""

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from tollhouse.controlplane.litellm_fields import REFUSED, HolderFields, KeyFields
from tollhouse.controlplane.shapes import Input, NameText, TeamName, UserIdText
from tollhouse.terms.people import Role

MAX_TEAMS: Final = 50
MAX_MEMBERS: Final = 500

_NO_MEMBER_BUDGETS: Final = "budgets hold over a team, a user or a key; give the user or their keys a budget"
_BY_ID: Final = "members are named by user_id in members_with_roles"

USER_REFUSED: Final = {
    **REFUSED,
    "model_max_budget": "a budget holds over all models; give each model a key of its own",
    "organizations": "there is one organisation here; leave it out",
    "sso_user_id": "who signs in by another provider is linked at their first sign-in; leave it out",
    "password": "nobody sets another's password; invite the user, and they choose their own",
}
TEAM_REFUSED: Final = {
    **{name: reason for name, reason in REFUSED.items() if name != "blocked"},
    "admins": _BY_ID,
    "members": _BY_ID,
    "model_aliases": "a model keeps its name here; have the client ask for the model itself",
    "team_member_permissions": "what the members of a team may do is the same in all teams; leave it out",
    "default_team_member_models": "a team's models hold for all its members; give a key its own",
    "team_member_budget": _NO_MEMBER_BUDGETS,
    "team_member_budget_duration": _NO_MEMBER_BUDGETS,
    "team_member_rpm_limit": _NO_MEMBER_BUDGETS,
    "team_member_tpm_limit": _NO_MEMBER_BUDGETS,
    "team_member_key_duration": "give each key its duration",
    "secret_manager_settings": "secrets are read from the environment and files, never from a team",
    "enforced_batch_output_expires_after": "what a call contains is not checked or changed here",
    "enforced_file_expires_after": "what a call contains is not checked or changed here",
}

ROLES: Final = {
    "proxy_admin": Role.ADMIN,
    "proxy_admin_viewer": Role.VIEWER,
    "internal_user": Role.MEMBER,
}
"""LiteLLM's `internal_user_viewer` has no counterpart: whoever signs in here may make keys of their own."""
ROLE_WORDS: Final = {
    Role.OWNER: "proxy_admin",
    Role.ADMIN: "proxy_admin",
    Role.VIEWER: "proxy_admin_viewer",
    Role.MEMBER: "internal_user",
    Role.SERVICE: "internal_user",
}
"""How a role is told to clients of LiteLLM."""
TEAM_ROLES: Final = {"admin": Role.ADMIN, "user": Role.MEMBER}
TEAM_ROLE_WORDS: Final = {Role.ADMIN: "admin", Role.MEMBER: "user", Role.VIEWER: "user"}


def _role(word: object) -> object:
    if word is None or word == "":
        return None
    role = ROLES.get(word) if isinstance(word, str) else None
    if role is None:
        raise ValueError(f"is one of {', '.join(ROLES)}; other roles of LiteLLM's have no counterpart here")
    return role


def _teams(teams: object) -> object:
    """Ids are written as they are, or as `{"team_id": …}`."""
    if not isinstance(teams, list):
        return teams
    return [{"team_id": team} if isinstance(team, str) else team for team in teams]


class TeamOfUser(Input):
    team_id: UserIdText
    user_role: Literal["admin", "user"] = "user"
    max_budget_in_team: Annotated[
        None, Field(description="Refused: budgets hold over a team, a user or a key, never over both")
    ] = None


class UserNewIn(KeyFields):
    user_email: NameText | None = None
    user_alias: NameText | None = None
    user_role: Annotated[
        Role | None, BeforeValidator(_role), WithJsonSchema({"type": "string", "enum": list(ROLES)})
    ] = None
    teams: Annotated[list[TeamOfUser] | None, Field(max_length=MAX_TEAMS), BeforeValidator(_teams)] = None
    auto_create_key: bool | None = None
    """Without a word, a key is made."""


class MemberIn(Input):
    role: Literal["admin", "user"]
    user_id: UserIdText
    user_email: Annotated[None, Field(description="Refused: members are named by their id")] = None


class TeamNewIn(HolderFields):
    team_id: TeamName | None = None
    team_alias: NameText | None = None
    members_with_roles: Annotated[list[MemberIn] | None, Field(max_length=MAX_MEMBERS)] = None
    blocked: bool | None = None
