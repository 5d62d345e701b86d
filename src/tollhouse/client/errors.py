"""What can go wrong, by what to do about it.

ApiError
  Unreachable          no answer: the address, the network, a server that is not there
  InvalidRequest       400, 422: correct the request; `field` and `errors` say where
  Unauthorized         401: another key
  Forbidden            403: ask somebody whose role may
  NotFound             404
  Conflict             409: it is so already, or somebody holds it, or a file declares it
  ChangedMeanwhile     412: read it again, then decide
  RateLimited          429: wait `retry_after_s`
  ServerFailed         5xx, or an answer that is not Tollhouse's
"""

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """`code` is stable; `detail` is for people; `problem` is all that was said."""

    def __init__(
        self, detail: str, *, status: int = 0, code: str = "failed", problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.problem = dict(problem or {})
        self.retry_after_s: float | None = None

    @property
    def field(self) -> str:
        """What is to blame, where it is one field."""
        return str(self.problem.get("field", ""))

    @property
    def errors(self) -> tuple[tuple[str, str], ...]:
        """Each wrong field and what is wrong with it."""
        found = self.problem.get("errors")
        rows = found if isinstance(found, list) else []
        return tuple((str(row.get("field", "")), str(row.get("message", ""))) for row in rows if isinstance(row, dict))


class Unreachable(ApiError):
    pass


class InvalidRequest(ApiError):
    pass


class Unauthorized(ApiError):
    pass


class Forbidden(ApiError):
    pass


class NotFound(ApiError):
    pass


class Conflict(ApiError):
    pass


class ChangedMeanwhile(ApiError):
    pass


class RateLimited(ApiError):
    pass


class ServerFailed(ApiError):
    pass


BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: ChangedMeanwhile,
    422: InvalidRequest,
    429: RateLimited,
}


def of_problem(status: int, problem: Mapping[str, Any], retry_after_s: float | None) -> ApiError:
    """The error that a problem document (RFC 9457) is."""
    kind = BY_STATUS.get(status, InvalidRequest if status < 500 else ServerFailed)
    error = kind(str(problem["detail"]), status=status, code=str(problem.get("code", "failed")), problem=problem)
    error.retry_after_s = retry_after_s
    return error
