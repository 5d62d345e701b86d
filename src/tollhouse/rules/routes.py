"""Which provider serves a model, as long as no routes are configured.

1. A prefix that names a provider wins and is stripped: `local/smollm2` goes to `local` as `smollm2`, whatever the
   patterns of that provider's rows say.
2. Otherwise the first row, in the order of the settings, that speaks the caller's dialect and whose patterns admit
   the model.
3. A model that only rows of another dialect serve is answered `wrong_dialect` with the endpoint to use; any other
   `unknown_model` with what there is.
"""

from typing import Final

import msgspec

from tollhouse.rules.access import matches
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import DialectName

MAX_MODEL_CHARS: Final = 256
"""Longest model name looked at; the longest in public price lists has about 80 characters."""
MAX_LISTED: Final = 20
"""Entries named in the message of a refusal."""

ENDPOINT_PATHS: Final[dict[DialectName, str]] = {
    DialectName.ANTHROPIC: "/v1/messages",
    DialectName.OPENAI_CHAT: "/v1/chat/completions",
    DialectName.OPENAI_RESPONSES: "/v1/responses",
    DialectName.OPENAI_EMBEDDINGS: "/v1/embeddings",
}


class RouteRow(msgspec.Struct, frozen=True):
    """What one provider serves: globs of model names (as in rules/access) and the dialects it speaks."""

    provider: str
    models: tuple[str, ...]
    dialects: tuple[DialectName, ...]


class Resolved(msgspec.Struct, frozen=True):
    """Where a call goes and the name its model has there."""

    provider: str
    upstream_model: str


def resolve(rows: tuple[RouteRow, ...], model: str, dialect: DialectName) -> Resolved:
    """The provider of a model in this dialect. Raises Refusal 400 `unknown_model` or `wrong_dialect`."""
    if len(model) > MAX_MODEL_CHARS:
        message = f"The name of a model has at most {MAX_MODEL_CHARS} characters, this one has {len(model)}."
        raise Refusal(400, "unknown_model", message)
    prefix, _, rest = model.partition("/")
    candidates = [row for row in rows if rest and row.provider == prefix]
    upstream_model = rest
    if not candidates:
        candidates = [row for row in rows if any(matches(pattern, model) for pattern in row.models)]
        upstream_model = model
    for row in candidates:
        if dialect in row.dialects:
            return Resolved(row.provider, upstream_model)
    if candidates:
        raise _wrong_dialect(candidates[0], model, dialect)
    raise _unknown_model(rows, model)


def _wrong_dialect(row: RouteRow, model: str, dialect: DialectName) -> Refusal:
    paths = [ENDPOINT_PATHS[spoken] for spoken in row.dialects if spoken is not DialectName.OPENAI_EMBEDDINGS]
    message = f"Model {model!r} is served by {row.provider}, which is not reached by {ENDPOINT_PATHS[dialect]}; "
    message += f"send the request to {' or '.join(paths)}." if paths else "its provider row names no dialect."
    return Refusal(400, "wrong_dialect", message, details={"endpoints": paths, "provider": row.provider})


def _unknown_model(rows: tuple[RouteRow, ...], model: str) -> Refusal:
    names = list(dict.fromkeys(f"{row.provider}/{pattern}" for row in rows for pattern in row.models))
    listed, more = names[:MAX_LISTED], len(names) - MAX_LISTED
    there_is = ", ".join(listed) if listed else "none: no provider is configured"
    there_is += f" and {more} more" if more > 0 else ""
    message = f"Unknown model {model!r}. There is {there_is}. GET /v1/models lists what may be called."
    return Refusal(400, "unknown_model", message, details={"available": listed})
