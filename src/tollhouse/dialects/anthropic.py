"""Anthropic's Messages API: requests, answers, refusals.

Sources: the types of the `anthropic` SDK 2.12 and the Claude platform's documentation (November 2026). Anything not
named here passes untouched; only what bounds or reports a cost is read. Where the cost of something cannot be told, the
reading errs on the dear side: an unknown content block counts as media, an unknown tool type as one the provider bills.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from tollhouse.dialects.anthropic_answer import AnthropicMeter, read_message
from tollhouse.dialects.body import ODD, Asked, BodyReader
from tollhouse.dialects.dialect import (
    MAX_TOKENS,
    MESSAGES,
    STREAM,
    StreamMeter,
    label,
    read_count,
    read_flag,
    read_model,
    refusal_facts,
)
from tollhouse.dialects.splice import splice
from tollhouse.terms.ask import Ask, ServerTool
from tollhouse.terms.errors import Refusal
from tollhouse.terms.names import DialectName


class Block(msgspec.Struct, gc=False):
    """Any object of a request as far as it is read: a message, content block, source, tool, or a setting."""

    type: str | None = None
    content: "str | Block | list[str | Block] | None" = None
    source: "str | Block | None" = None
    file_id: str | None = None
    tool: "str | Block | None" = None
    definition: "Block | None" = None
    max_uses: int | None = None
    budget_tokens: int | None = None
    user_id: str | None = None
    edits: "list[Block] | None" = None


_Scalar = bool | int | float | str | None
_Value = _Scalar | Block | list[_Scalar | Block]
_RARE = frozenset(
    {
        "container",
        "context_management",
        "fallbacks",
        "mcp_servers",
        "metadata",
        "thinking",
        "thread",
        "tools",
    }
)
_SYSTEM = Asked("system")
_READER = BodyReader(_Value, _RARE | {"max_tokens", "messages", "model", "stream", "system"})

_BOUNDED_BY_BYTES = frozenset(
    {
        "text",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "server_tool_use",
        "search_result",
        "compaction",
        "fallback",
        "mcp_tool_use",
        "mcp_tool_result",
        "mcp_tool_listing",
        "tool_search_tool_result",
        "tool_search_tool_search_result",
        "tool_search_tool_result_error",
        "tool_reference",
        "mcp_tool_reference",
        "tool_addition",
        "tool_removal",
        "tool_definition",
        "web_search_tool_result",
        "web_search_result",
        "web_search_tool_result_error",
        "web_fetch_tool_result",
        "web_fetch_result",
        "web_fetch_tool_result_error",
        "code_execution_tool_result",
        "code_execution_result",
        "code_execution_tool_result_error",
        "encrypted_code_execution_result",
        "bash_code_execution_tool_result",
        "bash_code_execution_result",
        "bash_code_execution_tool_result_error",
        "text_editor_code_execution_tool_result",
        "text_editor_code_execution_view_result",
        "text_editor_code_execution_create_result",
        "text_editor_code_execution_str_replace_result",
        "text_editor_code_execution_tool_result_error",
        "advisor_tool_result",
        "advisor_result",
        "advisor_redacted_result",
        "browser_state",
    }
)
"""Content whose tokens are never more than its bytes in the request. Encrypted content is no shorter than its text."""

_PRODUCED_FILES = frozenset({"code_execution_output", "bash_code_execution_output"})
"""They name a file a tool left behind; the file itself is not read again."""

_CLIENT_TOOLS = frozenset(
    {
        "custom",
        "bash",
        "text_editor",
        "computer",
        "memory",
        "computer_toolset",
        "browser_toolset",
        "tool_search_tool_regex",
        "tool_search_tool_bm25",
    }
)
"""Run by the client, or by the provider without a fee or input of its own."""

_VERSION = re.compile(r"_20\d{6}$")
_CLAUDE_CODE_USER = re.compile(r"^(user_[0-9A-Za-z]+)_account_([0-9a-f-]*)_session_([0-9a-f-]+)$")

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class AnthropicDialect:
    """The Messages API. See `Dialect`."""

    name = DialectName.ANTHROPIC
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'

    def read(self, body: bytes) -> Ask:
        fields = _READER.read(body)
        model = read_model(fields)
        stream = read_flag(fields, STREAM)
        cap = read_count(fields, MAX_TOKENS, least=0)
        media, defined_tools = _look(fields.get(MESSAGES), fields.get(_SYSTEM))
        if _RARE.isdisjoint(fields) and not defined_tools:
            return Ask(model=model, stream=stream, max_output_tokens=cap, body_bytes=len(body), whole_window=media)
        tools = fields.get("tools")
        server_tools = _server_tools([*tools, *defined_tools] if isinstance(tools, list) else defined_tools)
        session, end_user = _who(fields.get("metadata"))
        return Ask(
            model=model,
            stream=stream,
            max_output_tokens=cap,
            body_bytes=len(body),
            whole_window=media or _server_state(fields),
            unbounded=_unbounded(fields, server_tools),
            server_tools=server_tools,
            thinking_budget_tokens=_thinking_budget(fields.get("thinking")),
            session=session,
            end_user=end_user,
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
            edits[ask.cap_field] = b"%d" % max_output_tokens
        return splice(body, edits) if edits else body

    def stream_meter(self, *, swallow_usage: bool) -> StreamMeter:
        return AnthropicMeter()

    read_answer = staticmethod(read_message)

    def refusal(self, refusal: Refusal, request_id: str) -> tuple[int, bytes]:
        kind = "api_error" if refusal.status >= 500 else "invalid_request_error"
        error = {"type": ERROR_TYPES.get(refusal.status, kind), "message": refusal.message, **refusal_facts(refusal)}
        return refusal.status, msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})

    def model_list(self, models: Sequence[str], created_s: int) -> bytes:
        created_at = datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        common = {"type": "model", "created_at": created_at, "lifecycle": "active"}
        rows = [{**common, "id": name, "display_name": name} for name in models]
        first, last = (models[0], models[-1]) if models else (None, None)
        return msgspec.json.encode({"data": rows, "has_more": False, "first_id": first, "last_id": last})


ANTHROPIC = AnthropicDialect()


def _look(messages: Any, system: Any) -> tuple[str, list[Any]]:
    """What in the content bytes do not bound (empty if nothing), and the tools that messages define.

    Goes through nested content too, which is added to the list of messages: nobody reads it after this. What a tool
    was called with is text, not content, and is never looked at.
    """
    if messages is ODD or system is ODD:
        return "content of an undocumented shape", []
    media = ""
    defined: list[Any] = []
    waiting: list[Any] = messages if messages.__class__ is list else []
    if system.__class__ is list:
        waiting += system
    for block in waiting:  # which grows by what is inside
        if block.__class__ is not Block:
            continue
        content, kind = block.content, block.type
        if content.__class__ is not str and content is not None:
            waiting += content if content.__class__ is list else (content,)
        if kind is not None and kind not in _BOUNDED_BY_BYTES:
            media = _media(block, waiting) or media
        elif block.file_id is not None:
            media = "file_id"
        if block.tool.__class__ is Block:
            defined.append(block.tool.definition)
    return media, defined


def _media(block: Block, waiting: list[Any]) -> str:
    """Name of content that its bytes do not bound; the content of a document made of blocks waits to be looked at."""
    source = block.source
    if block.type == "document" and isinstance(source, Block):
        if source.type == "content":
            waiting.append(Block(content=source.content))
            return ""
        return "" if source.type == "text" else "document"
    return "" if block.type in _PRODUCED_FILES else str(block.type)


def _server_state(fields: Mapping[str, Any]) -> str:
    return next((name for name in ("container", "thread") if fields.get(name) is not None), "")


def _unbounded(fields: Mapping[str, Any], server_tools: Iterable[ServerTool]) -> str:
    for name in ("mcp_servers", "fallbacks"):
        if fields.get(name):
            return name
    for name in ("tools", "context_management"):
        if fields.get(name) is ODD:
            return f"{name} of an undocumented shape"
    if any(tool.kind == "advisor" for tool in server_tools):
        return "advisor"  # another model answers, at its own price
    management = fields.get("context_management")
    for edit in (management.edits or ()) if isinstance(management, Block) else ():
        if edit.type is not None and edit.type.startswith("compact"):
            return "context_management compaction"  # one more pass over the input, and its output on top
    return ""


def _server_tools(offered: Iterable[Any]) -> tuple[ServerTool, ...]:
    found: list[ServerTool] = []
    for tool in offered:
        if tool.__class__ is not Block or tool.type is None or tool.type == "custom":
            continue
        kind = _VERSION.sub("", tool.type)
        if kind not in _CLIENT_TOOLS:
            found.append(ServerTool(kind, None if tool.max_uses is None else max(0, tool.max_uses)))
    return tuple(found)


def _thinking_budget(thinking: Any) -> int:
    if not isinstance(thinking, Block) or thinking.type == "disabled":
        return 0
    return max(0, thinking.budget_tokens or 0)


def _who(metadata: Any) -> tuple[str, str]:
    """Session and end user from `metadata.user_id`.

    Claude Code writes a JSON object there, older ones `user_…_account_…_session_…`; others a name of their own.
    """
    user_id = metadata.user_id if isinstance(metadata, Block) else None
    if not user_id:
        return "", ""
    if user_id.startswith("{"):
        try:
            claims = _CLAIMS.decode(user_id)
        except (ValueError, RecursionError):
            return "", label(user_id)
        return label(claims.session_id), label(claims.account_uuid or claims.device_id or "")
    if match := _CLAUDE_CODE_USER.match(user_id):
        return label(match[3]), label(match[2] or match[1])
    return "", label(user_id)


class _Claims(msgspec.Struct):
    session_id: str | None = None
    account_uuid: str | None = None
    device_id: str | None = None


_CLAIMS = msgspec.json.Decoder(_Claims)
