"""OpenAI's Responses API: requests, answers, refusals.

Source: the types of the `openai` SDK 3.54 (November 2026) and the llama.cpp server. As everywhere, what cannot be
bounded errs on the dear side: an unknown item or content part counts as media, an unknown tool as one the provider
bills.

What makes this API different is how much of it lives at the provider. The conversation so far, prompt templates, files
and earlier items come in by name alone, so a body that names any of them may fill the whole window. Tools that run
there are bounded by `max_tool_calls`, which counts the calls of all of them together; a background run outlives its
call, and compaction reads the input once more: neither has a bound.

The cap is `max_output_tokens`, hidden reasoning included. llama.cpp lets `max_completion_tokens` and `n_predict`
override it, so the largest counts, and an edit lowers every one that is there.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tollhouse.dialects.body import ODD, BodyReader
from tollhouse.dialects.dialect import StreamMeter, label, read_count, read_flag, read_model, refusal_facts
from tollhouse.dialects.openai_chat import ERROR_TYPES, OpenAIChatDialect, lowered_caps
from tollhouse.dialects.openai_responses_answer import OpenAIResponsesMeter, read_response
from tollhouse.dialects.splice import splice
from tollhouse.terms.ask import Ask, ServerTool
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import DialectName
from tollhouse.terms.seen import Seen


class Part(msgspec.Struct, gc=False):
    """Any object of a request as far as it is read: an input item, a content part, a tool, or a setting."""

    type: str | None = None
    role: str | None = None
    content: "str | list[str | Part] | None" = None
    output: "str | Part | list[str | Part] | None" = None
    tools: "list[str | Part] | None" = None
    environment: "str | Part | None" = None
    execution: str | None = None


_CAP = "max_output_tokens"
_OVERRIDING = ("max_completion_tokens", "n_predict")
_ALL_CAPS = frozenset({_CAP, *_OVERRIDING})
_SERVER_STATE = ("previous_response_id", "conversation", "prompt")
_Scalar = bool | int | float | str | None
_RARE = frozenset(
    {
        *_OVERRIDING,
        *_SERVER_STATE,
        "background",
        "context_management",
        "max_tool_calls",
        "prompt_cache_key",
        "safety_identifier",
        "tools",
        "user",
    }
)
_READER = BodyReader(
    _Scalar | Part | list[_Scalar | Part],
    _RARE | {_CAP, "input", "instructions", "model", "stream"},
)

_BOUNDED_PARTS = frozenset({"input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text"})
_BOUNDED_ITEMS = frozenset(
    {
        "message",
        "reasoning",
        "compaction",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "local_shell_call",
        "local_shell_call_output",
        "shell_call",
        "shell_call_output",
        "apply_patch_call",
        "apply_patch_call_output",
        "computer_call",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "tool_search_call",
        "tool_search_output",
        "additional_tools",
        "configuration_update",
        "program",
        "program_output",
    }
)
"""Items whose tokens are never more than their bytes in the request. Reasoning comes back encrypted: even if it was
compressed before, no shorter than one byte a token. Items of tools that run at the provider are not here: they may
stand for what is kept there.
"""
_WITH_OUTPUT_PARTS = frozenset({"function_call_output", "custom_tool_call_output"})

_CLIENT_TOOLS = frozenset({"function", "custom", "namespace", "local_shell", "apply_patch"})
_VERSION = re.compile(r"_20\d\d_\d\d_\d\d$")

BILLING_STATUS = 402
BUDGET_STATUS = 429
"""Clients of this API know an exhausted budget by 429 with `insufficient_quota`, and do not repeat it."""


class OpenAIResponsesDialect(OpenAIChatDialect):
    """The Responses API; pings and the model list are those of chat completions. See `Dialect`."""

    name = DialectName.OPENAI_RESPONSES

    def read(self, body: bytes) -> Ask:
        fields = _READER.read(body)
        model = read_model(fields)
        stream = read_flag(fields, "stream")
        cap = _cap(fields)
        media, item_tools, unbounded = _look(fields.get("input"), fields.get("instructions"))
        if _RARE.isdisjoint(fields) and not item_tools:
            return Ask(
                model=model,
                stream=stream,
                max_output_tokens=cap,
                cap_field=_CAP,
                body_bytes=len(body),
                whole_window=media,
                unbounded=unbounded,
            )
        get = fields.get
        return Ask(
            model=model,
            stream=stream,
            max_output_tokens=cap,
            cap_field=_CAP,
            body_bytes=len(body),
            whole_window=media or next((name for name in _SERVER_STATE if get(name) is not None), ""),
            unbounded=unbounded or _unbounded(fields),
            server_tools=_server_tools(get("tools"), item_tools, read_count(fields, "max_tool_calls", least=0)),
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
        include_usage: bool = False,  # usage is always included here
    ) -> bytes:
        edits: dict[str, bytes] = {}
        if model is not None:
            edits["model"] = msgspec.json.encode(model)
        if max_output_tokens is not None:
            edits |= lowered_caps(body, _ALL_CAPS, _CAP, max_output_tokens)
        return splice(body, edits) if edits else body

    def stream_meter(self, *, swallow_usage: bool) -> StreamMeter:
        return OpenAIResponsesMeter()

    def read_answer(self, body: bytes) -> Seen:
        return read_response(body)

    def refusal(self, refusal: Refusal, request_id: str) -> tuple[int, bytes]:
        """The error envelope, which is an `error` event of a stream as well."""
        kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
        error = {
            "message": refusal.message,
            "type": ERROR_TYPES.get(refusal.status, kind),
            "param": refusal.details.get("field"),
            **refusal_facts(refusal),
            "request_id": request_id,
        }
        status = BUDGET_STATUS if refusal.status == BILLING_STATUS else refusal.status
        return status, msgspec.json.encode({"type": "error", "sequence_number": 0, "error": error})


OPENAI_RESPONSES = OpenAIResponsesDialect()


def _cap(fields: Mapping[str, Any]) -> int | None:
    """The output cap; None also where another field, which some servers obey instead, says there is none."""
    cap = read_count(fields, _CAP, least=0)
    for name in _OVERRIDING:
        other = read_count(fields, name, least=-2)
        if cap is not None and other is not None:
            cap = max(cap, other) if other >= 0 else None
    return cap


def _look(given: Any, instructions: Any) -> tuple[str, list[Any], str]:
    """What of the input bytes do not bound, the tools that items bring along, and what has no bound at all."""
    if given is ODD or instructions is ODD:
        return "input of an undocumented shape", [], ""
    media = unbounded = ""
    tools: list[Any] = []
    items = given if isinstance(given, list) else [given]
    for item in [*items, *instructions] if isinstance(instructions, list) else items:
        if not isinstance(item, Part):
            continue
        kind = item.type or ("message" if item.role is not None else "item_reference")
        if kind == "compaction_trigger":
            unbounded = kind
        elif kind not in _BOUNDED_ITEMS:
            media = kind
        media = _media(item.content) or (_media(item.output) if kind in _WITH_OUTPUT_PARTS else "") or media
        if item.tools and kind != "mcp_list_tools":
            tools += item.tools
    return media, tools, unbounded


def _media(content: "str | Part | list[str | Part] | None") -> str:
    """Type of a content part that its bytes do not bound; empty if there is none."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, Part) and part.type not in _BOUNDED_PARTS:
            return part.type or "content part without a type"
    return ""


def _unbounded(fields: Mapping[str, Any]) -> str:
    if fields.get("background"):
        return "background"
    if fields.get("context_management"):
        return "context_management"  # compaction: one more pass over the input, and its output on top
    return "tools of an undocumented shape" if fields.get("tools") is ODD else ""


def _server_tools(tools: Any, item_tools: Iterable[Any], max_tool_calls: int | None) -> tuple[ServerTool, ...]:
    """The tools that run at the provider, one of each kind."""
    kinds: dict[str, None] = {}
    for tool in [*(tools if isinstance(tools, list) else ()), *item_tools]:
        if isinstance(tool, Part) and not _runs_at_the_client(tool):
            kinds[_VERSION.sub("", tool.type or "tool without a type")] = None
    return tuple(ServerTool(kind, max_tool_calls) for kind in kinds)


def _runs_at_the_client(tool: Part) -> bool:
    if tool.type == "shell":
        return isinstance(tool.environment, Part) and tool.environment.type == "local"
    if tool.type == "tool_search":
        return tool.execution == "client"
    return tool.type in _CLIENT_TOOLS
