"""OpenAI's chat completions, as OpenAI and the many servers that imitate it speak them: requests, answers, refusals.

Source: the types of the `openai` SDK 3.54 (November 2026) and the llama.cpp server. As with Anthropic, what cannot be
bounded errs on the dear side.

The output cap has several names. `max_completion_tokens` is OpenAI's, and the one to add where there is none: reasoning
models refuse `max_tokens`, which older and imitating servers read. `n_predict` is llama.cpp's and overrides both there.
Which of several a server obeys cannot be told, so the largest counts, and an edit lowers every one that is there.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import msgspec

from tollhouse.dialects.body import ODD, BodyReader
from tollhouse.dialects.dialect import StreamMeter, label, read_count, read_flag, read_model, refusal_facts
from tollhouse.dialects.openai_chat_answer import OpenAIChatMeter, read_completion
from tollhouse.dialects.splice import find_places, splice
from tollhouse.terms.ask import Ask, ServerTool
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import DialectName
from tollhouse.terms.seen import Seen


class Part(msgspec.Struct, gc=False):
    """Any object of a request as far as it is read: a message, a content part, a tool, or a setting."""

    type: str | None = None
    content: "str | list[str | Part] | None" = None
    audio: "Part | None" = None
    id: str | None = None
    include_usage: bool | None = None


_CAPS = ("max_completion_tokens", "max_tokens")
_LLAMA_CAP = "n_predict"
_ALL_CAPS = frozenset({*_CAPS, _LLAMA_CAP})
_Scalar = bool | int | float | str | None
_RARE = frozenset(
    {
        "n",
        "prediction",
        "prompt_cache_key",
        "safety_identifier",
        "stream_options",
        "tools",
        "user",
        "web_search_options",
    }
)
_READER = BodyReader(
    _Scalar | Part | list[_Scalar | Part],
    _RARE | _ALL_CAPS | {"messages", "model", "stream"},
)

_BOUNDED_BY_BYTES = frozenset({"text", "refusal", "thinking"})
_CLIENT_TOOLS = frozenset({"function", "custom"})
_MAX_CHOICES = 128
"""OpenAI's own limit of `n`."""

ERROR_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class OpenAIChatDialect:
    """Chat completions. See `Dialect`."""

    name = DialectName.OPENAI_CHAT
    ping = b": ping\n\n"

    def read(self, body: bytes) -> Ask:
        fields = _READER.read(body)
        model = read_model(fields)
        stream = read_flag(fields, "stream")
        cap_field, cap = _cap(fields)
        media = _whole_window(fields.get("messages"))
        if _RARE.isdisjoint(fields):
            return Ask(
                model=model,
                stream=stream,
                max_output_tokens=cap,
                cap_field=cap_field,
                body_bytes=len(body),
                whole_window=media,
            )
        get = fields.get
        return Ask(
            model=model,
            stream=stream,
            max_output_tokens=cap,
            cap_field=cap_field,
            choices=_choices(fields),
            body_bytes=len(body),
            whole_window=media,
            unbounded=_unbounded(fields),
            server_tools=_server_tools(fields),
            include_usage=_wants_usage(get("stream_options")),
            session=label(get("prompt_cache_key")),
            end_user=label(get("safety_identifier") or get("user")),
        )

    def edit(
        self,
        body: bytes,
        ask: Ask,
        *,
        model: str | None = None,
        max_output_tokens: int | None = None,
        include_usage: bool = False,
    ) -> bytes:
        edits: dict[str, bytes] = {}
        if model is not None:
            edits["model"] = msgspec.json.encode(model)
        if max_output_tokens is not None:
            edits |= lowered_caps(body, _ALL_CAPS, ask.cap_field, max_output_tokens)
        if include_usage and not ask.include_usage:
            edits["stream_options"] = _with_usage(body)
        return splice(body, edits) if edits else body

    def stream_meter(self, *, swallow_usage: bool) -> StreamMeter:
        return OpenAIChatMeter(swallow_usage=swallow_usage)

    def read_answer(self, body: bytes) -> Seen:
        return read_completion(body)

    def refusal(self, refusal: Refusal, request_id: str) -> tuple[int, bytes]:
        kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
        error = {
            "message": refusal.message,
            "type": ERROR_TYPES.get(refusal.status, kind),
            "param": refusal.details.get("field"),
            **refusal_facts(refusal),
            "request_id": request_id,
        }
        return refusal.status, msgspec.json.encode({"error": error})

    def model_list(self, models: Sequence[str], created_s: int) -> bytes:
        rows = [{"id": name, "object": "model", "created": created_s, "owned_by": "tollhouse"} for name in models]
        return msgspec.json.encode({"object": "list", "data": rows})


OPENAI_CHAT = OpenAIChatDialect()


def _cap(fields: Mapping[str, Any]) -> tuple[str, int | None]:
    """The field the cap stands in (or should), and the cap."""
    if _ALL_CAPS.isdisjoint(fields):
        return _CAPS[0], None
    given = {name: cap for name in _CAPS if (cap := read_count(fields, name, least=0)) is not None}
    predict = read_count(fields, _LLAMA_CAP, least=-2)
    if predict is not None and predict < 0:
        return _LLAMA_CAP, None  # llama.cpp: until the end, or until the window is full
    if predict is not None:
        given[_LLAMA_CAP] = predict
    if not given:
        return _CAPS[0], None
    return next(iter(given)), max(given.values())


def lowered_caps(body: bytes, names: Container[str], cap_field: str, max_output_tokens: int) -> dict[str, bytes]:
    """Every cap of these names that is there and is larger, or is none, lowered; and `cap_field` added if missing."""
    cap = b"%d" % max_output_tokens
    edits = {cap_field: cap}
    for place in find_places(body):
        if place.name in names:
            own = msgspec.json.decode(body[place.start : place.end])
            if own is None or not 0 <= own <= max_output_tokens:
                edits[place.name] = cap
            else:
                edits.pop(place.name, None)
    return edits


def _with_usage(body: bytes) -> bytes:
    """`stream_options` of this body with `include_usage` true and all else as it was."""
    for place in reversed(find_places(body)):
        if place.name == "stream_options":
            options = body[place.start : place.end]
            if options.startswith(b"{"):
                return splice(options, {"include_usage": b"true"})
    return b'{"include_usage":true}'


def _choices(fields: Mapping[str, Any]) -> int:
    choices = read_count(fields, "n", least=1)
    if choices is not None and choices > _MAX_CHOICES:
        raise Refusal(400, "invalid_request", f"n: at most {_MAX_CHOICES} choices.", details={"field": "n"})
    return 1 if choices is None else choices


def _whole_window(messages: Any) -> str:
    if messages is ODD:
        return "messages of an undocumented shape"
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, Part):
            continue
        if message.audio is not None:
            return "audio of an earlier answer"
        content = message.content
        if content is None or isinstance(content, str):
            continue
        for part in content:
            if isinstance(part, Part) and part.type not in _BOUNDED_BY_BYTES:
                return part.type or "content part without a type"
    return ""


def _unbounded(fields: Mapping[str, Any]) -> str:
    if fields.get("prediction") is not None:
        return "prediction"  # what of it the answer rejects is billed on top of the answer
    return "tools of an undocumented shape" if fields.get("tools") is ODD else ""


def _server_tools(fields: Mapping[str, Any]) -> tuple[ServerTool, ...]:
    tools = fields.get("tools")
    kinds = [tool.type for tool in tools if isinstance(tool, Part)] if isinstance(tools, list) else []
    found = [ServerTool(kind) for kind in kinds if kind is not None and kind not in _CLIENT_TOOLS]
    if fields.get("web_search_options") is not None:
        found.append(ServerTool("web_search"))
    return tuple(found)


def _wants_usage(options: Any) -> bool:
    return isinstance(options, Part) and options.include_usage is True
