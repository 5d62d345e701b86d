"""One request to the management API as its handler sees it: who asks, on which condition, and what its answer is known
by afterwards.

A thing's *version* is a hash of what is stored of it. The entity tag of an answer about it is that version, a dot, and
a hash of the whole answer (which also tells what is spent, and so changes with every call). `If-None-Match` looks at
the whole tag, `If-Match` at the version alone: calls under way never spoil an edit, another edit always does. It is
looked at inside the transaction that makes the change.
"""

import hashlib
from typing import Annotated

import msgspec
from fastapi import Depends, Request, Response

from tollhouse.controlplane.access import OWNER, Caller, caller_of
from tollhouse.controlplane.problems import Problem

_VERSION_BYTES = 8


class Visit:
    """`response` is where the handler's headers go; None for a handler that another one calls."""

    __slots__ = ("_response", "_wanted", "caller")

    def __init__(self, caller: Caller, if_match: str | None = None, response: Response | None = None) -> None:
        self.caller = caller
        self._wanted = None if if_match is None else [tag.strip() for tag in if_match.split(",")]
        self._response = response

    def meets(self, thing: msgspec.Struct) -> None:
        """Raises Problem (412) when the caller wanted to change another version of the thing."""
        if self._wanted is None or "*" in self._wanted:
            return
        version = version_of(thing)
        if not any(tag.startswith('"') and tag.strip('"').partition(".")[0] == version for tag in self._wanted):
            raise Problem(
                412,
                "changed_meanwhile",
                "Somebody changed this since you read it (If-Match). Read it again, then decide.",
            )

    def tag(self, thing: msgspec.Struct) -> None:
        """The answer is about this thing as it is now."""
        if self._response is not None:
            self._response.headers["etag"] = f'"{version_of(thing)}"'


def version_of(thing: msgspec.Struct) -> str:
    return hashlib.blake2b(msgspec.json.encode(thing), digest_size=_VERSION_BYTES).hexdigest()


async def visit_of(request: Request, response: Response) -> Visit:
    """A coroutine, for FastAPI would run a plain function in a thread."""
    return Visit(caller_of(request), request.headers.get("if-match"), response)


By = Annotated[Visit, Depends(visit_of)]
AS_OWNER = Visit(OWNER)
