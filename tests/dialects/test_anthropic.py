"""Requests of the Messages API: what of them is read, edited and refused."""

from typing import Any

import anthropic
import msgspec
import pytest

from tollhouse.dialects.anthropic import ANTHROPIC
from tollhouse.terms.ask import Ask, ServerTool
from tollhouse.terms.errors import Refusal


def ask(**fields: Any) -> Ask:
    return ANTHROPIC.read(msgspec.json.encode({"model": "claude-sonnet-4-5", "max_tokens": 1024, **fields}))


def content(*blocks: Any) -> Ask:
    return ask(messages=[{"role": "user", "content": list(blocks)}])


def test_a_small_request() -> None:
    body = b'{"model":"claude-sonnet-4-5","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"hi"}]}'
    assert ANTHROPIC.read(body) == Ask(
        model="claude-sonnet-4-5", stream=True, max_output_tokens=64, cap_field="max_tokens", body_bytes=len(body)
    )


PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBOR"}}, "image"),
        ({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}, "image"),
        ({"type": "document", "source": PDF}, "document"),
        ({"type": "document", "source": {"type": "file", "file_id": "file_1"}}, "document"),
        ({"type": "document"}, "document"),
        ({"type": "container_upload", "file_id": "file_1"}, "container_upload"),
        ({"type": "text", "text": "x", "file_id": "file_1"}, "file_id"),
        ({"type": "hologram", "data": "…"}, "hologram"),
        ({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": PDF}]}, "image"),
        ({"type": "document", "source": {"type": "content", "content": [{"type": "image"}]}}, "image"),
        (
            {
                "type": "web_fetch_tool_result",
                "content": {"type": "web_fetch_result", "content": {"type": "document", "source": PDF}},
            },
            "document",
        ),
    ],
)
def test_media_may_be_as_large_as_the_window(block: Any, why: str) -> None:
    assert content({"type": "text", "text": "look"}, block, {"type": "text", "text": "well"}).whole_window == why


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": '{"type":"image","source":{"type":"url","url":"x"},"file_id":"y"}'},
        {
            "type": "tool_use",
            "id": "t",
            "name": "draw",
            "input": {"type": "image", "source": {"type": "url"}, "file_id": "f"},
        },
        {"type": "tool_result", "tool_use_id": "t", "content": 'a "document" of "type" "image"'},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": '"image"'}]},
        {"type": "tool_result", "tool_use_id": "t"},
        {"type": "thinking", "thinking": "", "signature": "Eq=="},
        {"type": "redacted_thinking", "data": "Eq=="},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
        {"type": "document", "source": {"type": "content", "content": "x"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
        {
            "type": "search_result",
            "source": "https://example.com",
            "title": "x",
            "content": [{"type": "text", "text": "x"}],
        },
        {
            "type": "bash_code_execution_tool_result",
            "content": {
                "type": "bash_code_execution_result",
                "stdout": "",
                "content": [{"type": "bash_code_execution_output", "file_id": "file_1"}],
            },
        },
        {
            "type": "tool_search_tool_result",
            "content": {"type": "tool_search_tool_search_result", "tool_references": []},
        },
    ],
)
def test_text_is_bounded_by_its_bytes(block: Any) -> None:
    assert content(block, block).whole_window == ""


def test_media_in_the_system_prompt_counts() -> None:
    assert ask(system=[{"type": "text", "text": "x"}, {"type": "image"}]).whole_window == "image"
    assert ask(system="an image").whole_window == ""


@pytest.mark.parametrize(
    "fields", [{"messages": [[{"type": "image"}]]}, {"messages": [{"role": "user", "content": 5}]}, {"system": [[]]}]
)
def test_content_of_no_known_shape_is_not_trusted(fields: Any) -> None:
    assert ask(**fields).whole_window == "content of an undocumented shape"


@pytest.mark.parametrize("field", ["container", "thread"])
def test_state_on_the_server_may_fill_the_window(field: str) -> None:
    assert ask(**{field: {"type": "continue", "id": "c"}}).whole_window == field
    assert ask(**{field: None}).whole_window == ""


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]}, "mcp_servers"),
        ({"fallbacks": [{"model": "claude-opus-4-6"}]}, "fallbacks"),
        ({"fallbacks": "default"}, "fallbacks"),
        ({"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "x", "max_uses": 2}]}, "advisor"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management compaction"),
        ({"tools": [[1]]}, "tools of an undocumented shape"),
    ],
)
def test_costs_without_a_bound_are_named(fields: Any, feature: str) -> None:
    assert ask(**fields).unbounded == feature


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": []},
        {"fallbacks": None},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "clear_thinking_20251015"}]}},
        {"cache_control": {"type": "ephemeral"}},
    ],
)
def test_costs_with_a_bound_are_not(fields: Any) -> None:
    assert ask(**fields).unbounded == ""


def test_server_tools_and_their_bounds() -> None:
    tools = [
        {"name": "mine", "input_schema": {"type": "object"}},
        {"type": "custom", "name": "mine too"},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "edit"},
        {"type": "computer_20251124", "name": "computer"},
        {"type": "memory_20250818", "name": "memory"},
        {"type": "tool_search_tool_regex_20251119", "name": "search"},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        {"type": "web_fetch_20260318", "name": "web_fetch"},
        {"type": "code_execution_20260521", "name": "code_execution"},
        {"type": "brain_surgery", "name": "new"},
    ]
    assert ask(tools=tools).server_tools == (
        ServerTool("web_search", 3),
        ServerTool("web_fetch"),
        ServerTool("code_execution"),
        ServerTool("brain_surgery"),
    )


def test_a_server_tool_defined_in_a_message() -> None:
    tool = {"type": "tool_definition", "definition": {"type": "web_search_20260318", "name": "s", "max_uses": 2}}
    assert content({"type": "tool_addition", "tool": tool}).server_tools == (ServerTool("web_search", 2),)


@pytest.mark.parametrize(
    ("thinking", "budget"),
    [
        ({"type": "enabled", "budget_tokens": 10_000}, 10_000),
        ({"type": "disabled", "budget_tokens": 10_000}, 0),
        ({"type": "adaptive"}, 0),
        (None, 0),
    ],
)
def test_the_thinking_budget(thinking: Any, budget: int) -> None:
    assert ask(thinking=thinking).thinking_budget_tokens == budget


@pytest.mark.parametrize(
    ("user_id", "session", "end_user"),
    [
        ("alice", "", "alice"),
        ('{"device_id":"d1","account_uuid":"a1","session_id":"s1"}', "s1", "a1"),
        ('{"device_id":"d1","account_uuid":"","session_id":"s1"}', "s1", "d1"),
        ("{not json", "", "{not json"),
        ("user_0a1b_account_9f-8e_session_1c-2d", "1c-2d", "9f-8e"),
        ("user_0a1b_account__session_1c-2d", "1c-2d", "user_0a1b"),
        ("x" * 300, "", "x" * 256),
    ],
)
def test_who_asks(user_id: str, session: str, end_user: str) -> None:
    read = ask(metadata={"user_id": user_id})
    assert (read.session, read.end_user) == (session, end_user)


def test_edits_touch_nothing_else() -> None:
    body = b'{ "model" : "local/m", "messages":[{"model":"local/m","max_tokens":9}],\n"max_tokens": 4096 }'
    read = ANTHROPIC.read(body)
    assert ANTHROPIC.edit(body, read) is body
    assert ANTHROPIC.edit(body, read, include_usage=True) is body
    assert (
        ANTHROPIC.edit(body, read, model="m", max_output_tokens=512)
        == b'{ "model" : "m", "messages":[{"model":"local/m","max_tokens":9}],\n"max_tokens": 512 }'
    )
    assert ANTHROPIC.edit(b'{"model":"m"}', read, max_output_tokens=7) == b'{"max_tokens":7,"model":"m"}'


def test_a_refusal_in_the_envelope_of_the_api() -> None:
    refusal = Refusal(
        402, "budget_exhausted", "No.", scope="user alice", retry_after_s=5.5, details={"affordable_max_tokens": 100}
    )
    status, body = ANTHROPIC.refusal(refusal, "req_1")
    assert status == 402
    assert msgspec.json.decode(body) == {
        "type": "error",
        "error": {
            "type": "billing_error",
            "message": "No.",
            "code": "budget_exhausted",
            "scope": "user alice",
            "retry_after_s": 5.5,
            "details": {"affordable_max_tokens": 100},
        },
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_the_type_of_an_error_follows_its_status(status: int, kind: str) -> None:
    _, body = ANTHROPIC.refusal(Refusal(status, "x", "y"), "req_1")
    assert msgspec.json.decode(body)["error"]["type"] == kind


def test_the_model_list_is_what_the_sdk_reads() -> None:
    body = ANTHROPIC.model_list(["claude-sonnet-4-5", "local/m"], 1_763_790_000)
    listed = msgspec.json.decode(body)
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("claude-sonnet-4-5", "local/m", False)
    models = [anthropic.types.ModelInfo.model_validate(row) for row in listed["data"]]
    assert [model.id for model in models] == ["claude-sonnet-4-5", "local/m"]
    assert models[0].created_at.isoformat() == "2025-11-22T05:40:00+00:00"
    assert msgspec.json.decode(ANTHROPIC.model_list([], 0))["first_id"] is None
