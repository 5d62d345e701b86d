"""How the management API says no: problem details (RFC 9457) with a stable `code` and the `field` that is to blame.

Clients of LiteLLM's routes read LiteLLM's envelope instead: `error` with `message`, `type`, `param`, and the status as
`code`. Ours is beside them as `reason`.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from tollhouse.terms.errors import Refusal, StorageError

MAX_FIELD_ERRORS = 20

LITELLM_PATHS = ("/key/", "/user/", "/team/")
"""What LiteLLM's routes begin with."""
_LITELLM_TYPES = {401: "auth_error", 403: "auth_error", 404: "not_found_error"}

NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Problem(Exception):
    """One answer of refusal: what happened, which field or limit, what to do next."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str = "",
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def not_found(noun: str, name: str, hint: str) -> Problem:
    return Problem(404, "not_found", f"There is no {noun} {name!r}. {hint}")


def invalid(field: str, message: str) -> Problem:
    return Problem(400, "invalid_request", f"{field}: {message}", field=field)


def problem_response(path: str, problem: Problem, errors: Sequence[Mapping[str, str]] = ()) -> Response:
    """The answer in the envelope that callers of this path read."""
    if path.startswith(LITELLM_PATHS):
        return _litellm_response(problem)
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        **problem.extra,
    }
    if problem.field:
        body["field"] = problem.field
    if errors:
        body["errors"] = list(errors)
    headers = {**NO_STORE, **problem.headers}
    return Response(msgspec.json.encode(body), problem.status, headers, "application/problem+json")


def _litellm_response(problem: Problem) -> Response:
    kind = "internal_server_error" if problem.status >= 500 else "bad_request_error"
    error = {
        "message": problem.detail,
        "type": _LITELLM_TYPES.get(problem.status, kind),
        "param": problem.field or None,
        "code": str(problem.status),
        "reason": problem.code,
    }
    headers = {**NO_STORE, **problem.headers}
    return Response(msgspec.json.encode({"error": error}), problem.status, headers, "application/json")


def install(api: FastAPI) -> None:
    """Every way a handler can fail on purpose becomes a problem document; the rest is the server's plain 500."""
    api.add_exception_handler(Problem, _on_problem)
    api.add_exception_handler(RequestValidationError, _on_invalid)
    api.add_exception_handler(HTTPException, _on_http)
    api.add_exception_handler(StorageError, _on_storage)
    api.add_exception_handler(DataError, _on_data)
    api.add_exception_handler(Refusal, _on_refusal)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # Starlette leaves the type open
    return problem_response(request.url.path, error)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    headers = {} if error.retry_after_s is None else {"retry-after": str(max(1, round(error.retry_after_s)))}
    return problem_response(request.url.path, Problem(error.status, error.code, error.message, headers=headers))


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Names each wrong field; never repeats the value, which may be a secret."""
    assert isinstance(error, RequestValidationError)
    found = list(error.errors())
    if found and found[0]["type"] == "json_invalid":
        why = found[0].get("ctx", {}).get("error", "")
        return problem_response(
            request.url.path, Problem(400, "invalid_json", f"The body is not JSON: {why}".rstrip(": ") + ".")
        )
    errors = [{"field": _field(item["loc"]), "message": _sentence(item)} for item in found[:MAX_FIELD_ERRORS]]
    first = errors[0] if errors else {"field": "", "message": "invalid request"}
    where = f"{first['field']}: " if first["field"] else ""
    return problem_response(
        request.url.path, Problem(400, "invalid_request", f"{where}{first['message']}", field=first["field"]), errors
    )


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}.get(error.status_code, "refused")
    return problem_response(
        request.url.path, Problem(error.status_code, code, str(error.detail), headers=error.headers)
    )


async def _on_storage(request: Request, error: Exception) -> Response:
    assert isinstance(error, StorageError)
    return problem_response(request.url.path, storage_problem(error))


def storage_problem(error: StorageError) -> Problem:
    detail = f"The database did not answer as it should: {error}. Try again; `tollhouse doctor` looks closer."
    return Problem(503, "store_unavailable", detail, headers={"retry-after": "1"})


async def _on_data(request: Request, error: Exception) -> Response:
    """What the database cannot hold, such as a text with U+0000 on PostgreSQL, where no check before it said so."""
    detail = "A value in this request does not fit into the database; nothing was changed."
    return problem_response(request.url.path, Problem(400, "invalid_request", detail))


def _field(location: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in location if part not in ("body", "query", "path"))


def _sentence(item: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "no such field"
    if item["type"] == "missing":
        return "is missing"
    return str(item["msg"]).removeprefix("Value error, ")
