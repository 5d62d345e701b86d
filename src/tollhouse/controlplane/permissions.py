"""What each route asks of its caller.

A row names an action of `rules.roles`, whose table says which roles go how far with it, or one of the few special ways
in. A route without a row does not exist.
"""

from enum import StrEnum

from starlette.routing import compile_path

from tollhouse.controlplane.problems import Problem
from tollhouse.rules.roles import Action


class Permission(StrEnum):
    """What a route asks of its caller besides the actions of `rules.roles`."""

    PUBLIC = "public"
    METRICS = "metrics"
    """Owner, or anybody when the operator opened it."""
    OWNER_BEARER = "owner_bearer"
    """Owner, by the master key in `Authorization: Bearer` and no other way: the route takes a body of any type, also of
    those that a web page can make a browser send.
    """
    OWN_CALL = "own_call"
    """The virtual key that made the call, and everybody whose role reaches it; the handler compares."""
    SELF = "self"
    """By a virtual key or a session: it asks about itself."""
    ANYBODY = "anybody"
    """A way to sign in: anybody may ask, and what they show there decides."""
    SESSION = "session"
    """Only by a session: it asks about itself."""


PERMISSIONS: dict[tuple[str, str], Permission | Action] = {
    ("GET", "/healthz"): Permission.PUBLIC,
    ("GET", "/readyz"): Permission.PUBLIC,
    ("GET", "/metrics"): Permission.METRICS,
    ("GET", "/api/docs"): Permission.PUBLIC,  # what every installation has alike; says nothing of this one
    ("GET", "/api/openapi.json"): Permission.PUBLIC,
    ("POST", "/api/v1/sign-in"): Permission.ANYBODY,
    ("POST", "/api/v1/sign-up"): Permission.ANYBODY,
    ("POST", "/api/v1/sign-out"): Permission.SESSION,
    ("GET", "/api/v1/session"): Permission.SESSION,
    ("POST", "/api/v1/password"): Permission.SESSION,
    ("POST", "/api/v1/invitations"): Action.INVITE,
    ("GET", "/api/v1/invitations"): Action.INVITE,
    ("GET", "/api/v1/invitations/{invitation_id}"): Action.INVITE,
    ("DELETE", "/api/v1/invitations/{invitation_id}"): Action.INVITE,
    ("POST", "/api/v1/invitations/accept"): Permission.ANYBODY,
    ("POST", "/api/v1/setup"): Permission.ANYBODY,
    ("GET", "/api/v1/sign-in/oidc"): Permission.ANYBODY,
    ("GET", "/api/v1/sign-in/oidc/{name}"): Permission.ANYBODY,
    ("GET", "/api/v1/sign-in/oidc/{name}/callback"): Permission.ANYBODY,
    ("GET", "/sign-in"): Permission.ANYBODY,
    ("POST", "/sign-in"): Permission.ANYBODY,
    ("GET", "/sign-up"): Permission.ANYBODY,
    ("POST", "/sign-up"): Permission.ANYBODY,
    ("POST", "/sign-out"): Permission.ANYBODY,  # its handler looks at the session: it ends that one and no other
    ("GET", "/setup/{token}"): Permission.ANYBODY,
    ("POST", "/setup/{token}"): Permission.ANYBODY,
    ("GET", "/invitation/{token}"): Permission.ANYBODY,
    ("POST", "/invitation/{token}"): Permission.ANYBODY,
    ("GET", "/api/v1/sessions"): Action.READ_SESSIONS,
    ("DELETE", "/api/v1/sessions"): Action.WRITE_SESSIONS,
    ("DELETE", "/api/v1/sessions/{session_id}"): Action.WRITE_SESSIONS,
    ("GET", "/api/v1/me"): Permission.SELF,
    ("GET", "/api/v1/me/credentials"): Permission.SELF,
    ("PUT", "/api/v1/me/credentials/{provider}"): Action.WRITE_CREDENTIALS,
    ("DELETE", "/api/v1/me/credentials/{provider}"): Action.WRITE_CREDENTIALS,
    ("POST", "/api/v1/me/credentials/{provider}/test"): Action.WRITE_CREDENTIALS,
    ("POST", "/api/v1/credentials"): Action.WRITE_CREDENTIALS,
    ("GET", "/api/v1/credentials"): Action.READ_CREDENTIALS,
    ("GET", "/api/v1/credentials/{credential_id}"): Action.READ_CREDENTIALS,
    ("PATCH", "/api/v1/credentials/{credential_id}"): Action.WRITE_CREDENTIALS,
    ("PUT", "/api/v1/credentials/{credential_id}/secret"): Action.WRITE_CREDENTIALS,
    ("DELETE", "/api/v1/credentials/{credential_id}"): Action.WRITE_CREDENTIALS,
    ("POST", "/api/v1/credentials/{credential_id}/test"): Action.WRITE_CREDENTIALS,
    ("GET", "/api/v1/status"): Action.READ_SYSTEM,
    ("GET", "/api/v1/models"): Action.READ_MODELS,
    ("GET", "/api/v1/providers"): Action.READ_SYSTEM,
    ("POST", "/api/v1/providers/{name}/refresh"): Action.REFRESH_PROVIDERS,
    ("GET", "/api/v1/vault"): Action.READ_SYSTEM,
    ("POST", "/api/v1/vault/reload"): Action.ROTATE_VAULT,
    ("POST", "/api/v1/vault/rewrap"): Action.ROTATE_VAULT,
    ("POST", "/api/v1/declarations"): Action.DECLARE,
    ("GET", "/api/v1/usage"): Action.READ_USAGE,
    ("GET", "/api/v1/requests"): Action.READ_REQUESTS,
    ("GET", "/api/v1/requests/{request_id}"): Permission.OWN_CALL,
    ("GET", "/api/v1/requests/{request_id}/content"): Action.READ_CONTENT,
    ("POST", "/api/v1/keys"): Action.WRITE_KEYS,
    ("POST", "/api/v1/keys/mint"): Action.WRITE_KEYS,
    ("GET", "/api/v1/keys"): Action.READ_KEYS,
    ("GET", "/api/v1/keys/{key_id}"): Action.READ_KEYS,
    ("PATCH", "/api/v1/keys/{key_id}"): Action.WRITE_KEYS,
    ("DELETE", "/api/v1/keys/{key_id}"): Action.WRITE_KEYS,
    ("POST", "/api/v1/keys/{key_id}/rotate"): Action.WRITE_KEYS,
    ("POST", "/api/v1/keys/{key_id}/pause"): Action.WRITE_KEYS,
    ("POST", "/api/v1/keys/{key_id}/resume"): Action.WRITE_KEYS,
    ("POST", "/api/v1/budgets"): Action.WRITE_BUDGETS,
    ("GET", "/api/v1/budgets"): Action.READ_BUDGETS,
    ("GET", "/api/v1/budgets/{budget_id}"): Action.READ_BUDGETS,
    ("PATCH", "/api/v1/budgets/{budget_id}"): Action.WRITE_BUDGETS,
    ("DELETE", "/api/v1/budgets/{budget_id}"): Action.WRITE_BUDGETS,
    ("POST", "/api/v1/users"): Action.WRITE_USERS,
    ("GET", "/api/v1/users"): Action.READ_USERS,
    # A user id is any string, slashes included. Block and unblock differ from the user itself by method.
    ("POST", "/api/v1/users/{user_id:path}/block"): Action.WRITE_USERS,
    ("POST", "/api/v1/users/{user_id:path}/unblock"): Action.WRITE_USERS,
    ("PUT", "/api/v1/users/{user_id:path}/credentials/{provider}"): Action.WRITE_CREDENTIALS,
    ("DELETE", "/api/v1/users/{user_id:path}/credentials/{provider}"): Action.WRITE_CREDENTIALS,
    ("POST", "/api/v1/users/{user_id:path}/erase"): Action.ERASE_USERS,
    ("GET", "/api/v1/users/{user_id:path}"): Action.READ_USERS,
    ("PATCH", "/api/v1/users/{user_id:path}"): Action.WRITE_USERS,
    ("POST", "/api/v1/teams"): Action.WRITE_TEAMS,
    ("GET", "/api/v1/teams"): Action.READ_TEAMS,
    ("GET", "/api/v1/teams/{team_id}"): Action.READ_TEAMS,
    ("PATCH", "/api/v1/teams/{team_id}"): Action.WRITE_TEAMS,
    ("POST", "/api/v1/teams/{team_id}/block"): Action.WRITE_TEAMS,
    ("POST", "/api/v1/teams/{team_id}/unblock"): Action.WRITE_TEAMS,
    ("GET", "/api/v1/teams/{team_id}/members"): Action.READ_TEAMS,
    ("PUT", "/api/v1/teams/{team_id}/members/{user_id:path}"): Action.WRITE_MEMBERS,
    ("DELETE", "/api/v1/teams/{team_id}/members/{user_id:path}"): Action.WRITE_MEMBERS,
    ("POST", "/api/v1/plans"): Action.WRITE_PLANS,
    ("GET", "/api/v1/plans"): Action.READ_PLANS,
    ("GET", "/api/v1/plans/{plan_id}"): Action.READ_PLANS,
    ("PATCH", "/api/v1/plans/{plan_id}"): Action.WRITE_PLANS,
    ("DELETE", "/api/v1/plans/{plan_id}"): Action.WRITE_PLANS,
    ("POST", "/api/v1/webhooks"): Action.WRITE_WEBHOOKS,
    ("GET", "/api/v1/webhooks"): Action.READ_WEBHOOKS,
    ("GET", "/api/v1/webhooks/{webhook_id}"): Action.READ_WEBHOOKS,
    ("PATCH", "/api/v1/webhooks/{webhook_id}"): Action.WRITE_WEBHOOKS,
    ("DELETE", "/api/v1/webhooks/{webhook_id}"): Action.WRITE_WEBHOOKS,
    ("POST", "/api/v1/webhooks/{webhook_id}/test"): Action.WRITE_WEBHOOKS,
    ("GET", "/api/v1/webhooks/{webhook_id}/deliveries"): Action.READ_WEBHOOKS,
    ("GET", "/api/v1/notices"): Action.READ_NOTICES,
    ("GET", "/api/v1/audit"): Action.READ_AUDIT,
    ("GET", "/api/v1/audit/verification"): Action.READ_AUDIT,
    ("POST", "/key/generate"): Permission.OWNER_BEARER,
    ("GET", "/key/info"): Permission.OWNER_BEARER,
    ("POST", "/key/update"): Permission.OWNER_BEARER,
    ("POST", "/key/delete"): Permission.OWNER_BEARER,
    ("POST", "/key/block"): Permission.OWNER_BEARER,
    ("POST", "/key/unblock"): Permission.OWNER_BEARER,
    ("POST", "/user/new"): Permission.OWNER_BEARER,
    ("GET", "/user/info"): Permission.OWNER_BEARER,
    ("POST", "/team/new"): Permission.OWNER_BEARER,
    ("GET", "/team/info"): Permission.OWNER_BEARER,
}

_ROWS = tuple((method, compile_path(path)[0], permission) for (method, path), permission in PERMISSIONS.items())
_NAMES = {(method, pattern): path for (method, pattern, _), (_, path) in zip(_ROWS, PERMISSIONS, strict=True)}


def permission_of(method: str, path: str) -> Permission | Action:
    """Raises Problem: 404 for a path nobody may know, 405 for a method it has not."""
    allowed = []
    for row_method, pattern, permission in _ROWS:
        if pattern.match(path):
            if row_method == method or (method == "HEAD" and row_method == "GET"):
                return permission
            allowed.append(row_method)
    if allowed:
        methods = ", ".join(sorted(set(allowed)))
        raise Problem(405, "method_not_allowed", f"{path} answers {methods}, not {method}.", headers={"allow": methods})
    raise Problem(404, "not_found", f"There is nothing at {path}. The routes stand at /api/docs.")


def action_of(method: str, path: str) -> str:
    """What a request does, as the audit trail says it: the action its route asks for, else the route itself; never what
    stands in the path, which may be a token.
    """
    for row_method, pattern, permission in _ROWS:
        if row_method == method and pattern.match(path):
            return permission.value if isinstance(permission, Action) else f"{method} {_NAMES[method, pattern]}"
    return ""
