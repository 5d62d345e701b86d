"""The API's description of itself (OpenAPI): what FastAPI knows of the routes, and what only we know: who may, by which
ways one shows who one is, and every way in which a request can be refused.
"""

from typing import Any

from fastapi import FastAPI

from tollhouse.controlplane.permissions import PERMISSIONS, Permission
from tollhouse.controlplane.problems import LITELLM_PATHS
from tollhouse.rules.roles import Action
from tollhouse.terms.sessions import SESSION_COOKIE

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The master key, or a virtual key."},
    "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE, "description": "Whoever signed in."},
}
_WAYS: dict[Permission | Action, tuple[str, ...]] = {
    Permission.PUBLIC: (),
    Permission.ANYBODY: (),
    Permission.SESSION: ("session",),
    Permission.METRICS: ("bearer",),
    Permission.OWNER_BEARER: ("bearer",),
}
"""By what a caller may show who they are, where it is not either."""

_PROBLEM = {
    "title": "Problem",
    "description": "Why not (RFC 9457). `code` is stable; `field` and `errors` name what is wrong in the request.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "field": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
_LITELLM_ERROR = {
    "title": "LiteLLMError",
    "description": "Why not, in LiteLLM's words; our own stable code is `reason`.",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code", "reason"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
                "reason": {"type": "string"},
            },
        }
    },
}

_REFUSALS = {
    400: "The request is not understood, or a field is wrong.",
    401: "No credential, or one that is not good.",
    403: "Known, and not allowed.",
    404: "There is no such thing, or none that the caller may know of.",
    409: "It stands against what is there already.",
    412: "Changed since it was read (`If-Match`).",
    413: "The body is too large.",
    422: "This `Idempotency-Key` was used with another body.",
    429: "Too often; `retry-after` says when again.",
    503: "The gateway or its database cannot answer now.",
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "If-Match": {"description": "Change only the version with this entity tag, else 412."},
    "If-None-Match": {"description": "Answer 304 to who has the version with this entity tag."},
    "Idempotency-Key": {
        "description": "Do it once: asked again with the same key and body within a day, the first answer comes again."
    },
}


def described(api: FastAPI) -> dict[str, Any]:
    """The description as it is served."""
    description = dict(api.openapi())
    components = dict(description.get("components", {}))
    schemas = {name: schema for name, schema in components.get("schemas", {}).items() if name not in _FASTAPIS_OWN}
    schemas |= {"Problem": _PROBLEM, "LiteLLMError": _LITELLM_ERROR}
    description["components"] = {**components, "schemas": schemas, "securitySchemes": _SCHEMES}
    description["paths"] = {
        path: {verb: _complete(path, verb, route) for verb, route in verbs.items()}
        for path, verbs in description["paths"].items()
    }
    return description


_FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")
"""How FastAPI would say that a field is wrong; here it is a Problem like any other."""


def _complete(path: str, verb: str, route: dict[str, Any]) -> dict[str, Any]:
    permission = PERMISSIONS[verb.upper(), _template(path)]
    ways = _WAYS.get(permission, ("bearer", "session"))
    answers = {status: answer for status, answer in route["responses"].items() if status != "422"}
    schema = "LiteLLMError" if path.startswith(LITELLM_PATHS) else "Problem"
    media = "application/json" if path.startswith(LITELLM_PATHS) else "application/problem+json"
    content = {media: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    headers = _conditions(path, verb, permission)
    for status in _refused_with(path, verb, permission, headers):
        answers[f"{status}"] = {"description": _REFUSALS[status], "content": content}
    if "If-None-Match" in headers:
        answers["304"] = {"description": "The caller has it already."}
    parameters = [*route.get("parameters", ())]
    for name in headers:
        parameters.append({"name": name, "in": "header", "required": False, "schema": {"type": "string"}})
        parameters[-1] |= _PARAMETERS[name]
    more = {"parameters": parameters} if parameters else {}
    security: list[dict[str, list[str]]] = [{way: []} for way in ways]
    return {**route, **more, "responses": answers, "x-permission": permission.value, "security": security}


def _conditions(path: str, verb: str, permission: Permission | Action) -> tuple[str, ...]:
    """The headers by which a request to this route can be made conditional."""
    found = []
    thing = any(
        path.startswith(f"/api/v1/{noun}/{{") for noun in ("users", "keys", "teams", "plans", "budgets", "webhooks")
    )
    if thing and "/members" not in path and not path.endswith(("/deliveries", "/test")):
        found.append("If-None-Match" if verb == "get" else "If-Match")
    if verb == "post" and permission is not Permission.ANYBODY:
        found.append("Idempotency-Key")
    return tuple(found)


def _refused_with(path: str, verb: str, permission: Permission | Action, headers: tuple[str, ...]) -> list[int]:
    found = {400, 503}
    if permission is not Permission.PUBLIC:
        found |= {401, 403, 429}
    if "{" in path or path.startswith(LITELLM_PATHS):
        found.add(404)
    if verb != "get":
        found |= {404, 409, 413}  # 404 of a thing that the body names
    if "If-Match" in headers:
        found.add(412)
    if "Idempotency-Key" in headers:
        found.add(422)
    return sorted(found)


def _template(path: str) -> str:
    """OpenAPI writes a parameter without its converter."""
    return path.replace("{user_id}", "{user_id:path}")
