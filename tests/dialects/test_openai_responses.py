"""Requests of the Responses API: what of them is read, edited and refused."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.dialects.openai_responses import OPENAI_RESPONSES
from tollhouse.terms.ask import Ask, ServerTool
from tollhouse.terms.errors import Refusal

USER = {"role": "user", "content": "hi"}


def write(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "gpt-5", **fields})


def ask(**fields: Any) -> Ask:
    return OPENAI_RESPONSES.read(write(**fields))


def test_a_small_request() -> None:
    body = b'{"model":"gpt-5","input":"hi","stream":true,"max_output_tokens":50,"instructions":"Be brief."}'
    assert OPENAI_RESPONSES.read(body) == Ask(
        model="gpt-5", stream=True, max_output_tokens=50, cap_field="max_output_tokens", body_bytes=len(body)
    )


def test_what_codex_sends() -> None:
    """A turn of a coding agent: its own tools, encrypted reasoning and outputs of earlier turns. All of it is bytes."""
    read = ask(
        instructions="You are a coding agent.",
        input=[
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix it"}]},
            {"type": "reasoning", "summary": [], "content": None, "encrypted_content": "gAAAAA"},
            {"type": "function_call", "name": "shell", "arguments": '{"type":"input_image"}', "call_id": "c"},
            {"type": "function_call_output", "call_id": "c", "output": '{"output":"..."}'},
            {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin", "call_id": "d"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "ok"}]},
            {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls"]}, "call_id": "e"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]},
        ],
        tools=[
            {"type": "function", "name": "shell", "parameters": {"type": "object"}, "strict": False},
            {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}},
            {"type": "local_shell"},
        ],
        tool_choice="auto",
        reasoning={"effort": "medium", "summary": "auto"},
        include=["reasoning.encrypted_content"],
        text={"verbosity": "low"},
        store=False,
        stream=True,
        prompt_cache_key="session-1",
    )
    assert (read.whole_window, read.unbounded, read.server_tools) == ("", "", ())
    assert (read.session, read.stream, read.max_output_tokens) == ("session-1", True, None)


@pytest.mark.parametrize(
    ("caps", "cap", "edited"),
    [
        ({}, None, {"max_output_tokens": 4}),
        ({"max_output_tokens": None}, None, {"max_output_tokens": 4}),
        ({"max_output_tokens": 9}, 9, {"max_output_tokens": 4}),
        ({"max_tokens": 9}, None, {"max_output_tokens": 4, "max_tokens": 9}),
        ({"max_completion_tokens": 9}, None, {"max_output_tokens": 4, "max_completion_tokens": 4}),
        ({"max_output_tokens": 2, "n_predict": 9}, 9, {"max_output_tokens": 2, "n_predict": 4}),
        ({"max_output_tokens": 9, "n_predict": 2}, 9, {"max_output_tokens": 4, "n_predict": 2}),
        ({"max_output_tokens": 9, "n_predict": -1}, None, {"max_output_tokens": 4, "n_predict": 4}),
        (
            {"max_output_tokens": 9, "max_completion_tokens": None},
            9,
            {"max_output_tokens": 4, "max_completion_tokens": 4},
        ),
    ],
)
def test_the_cap_and_what_overrides_it(caps: dict[str, Any], cap: int | None, edited: dict[str, int]) -> None:
    body = write(**caps)
    read = OPENAI_RESPONSES.read(body)
    assert (read.cap_field, read.max_output_tokens) == ("max_output_tokens", cap)
    after = msgspec.json.decode(OPENAI_RESPONSES.edit(body, read, max_output_tokens=4))
    assert after == {"model": "gpt-5", **edited}


def test_edits_touch_nothing_else() -> None:
    body = (
        b'{ "model" : "gpt-5",\n"input":[{"role":"user","content":"caf\\u00e9"}], "new":{"model":"x"},"stream":true }'
    )
    read = OPENAI_RESPONSES.read(body)
    assert OPENAI_RESPONSES.edit(body, read, include_usage=True) is body
    assert OPENAI_RESPONSES.edit(body, read, model="y", max_output_tokens=7) == (
        b'{"max_output_tokens":7, "model" : "y",\n"input":[{"role":"user","content":"caf\\u00e9"}], '
        b'"new":{"model":"x"},"stream":true }'
    )


@pytest.mark.parametrize("field", ["model", "input", "tools", "max_output_tokens", "max_tool_calls", "background"])
def test_a_field_we_read_may_stand_once(field: str) -> None:
    body = b'{"model":"gpt-5","%b":1,"%b":2}' % (field.encode(), field.encode())
    with pytest.raises(Refusal) as caught:
        OPENAI_RESPONSES.read(body)
    assert (caught.value.status, caught.value.code) == (400, "duplicate_field")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1", "variables": {"type": 7}}}, "prompt"),
        ({"previous_response_id": None, "conversation": None, "prompt": None}, ""),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
        ({"input": [{"id": "msg_1"}]}, "item_reference"),
        ({"input": [{"type": "image_generation_call", "result": "AA=="}]}, "image_generation_call"),
        ({"input": [{"type": "computer_call_output", "output": {"type": "x"}}]}, "computer_call_output"),
        ({"input": [{"type": "file_search_call", "queries": ["x"]}]}, "file_search_call"),
        ({"input": [{"type": "item_of_tomorrow"}]}, "item_of_tomorrow"),
        ({"input": [{**USER, "content": [{"type": "input_image", "image_url": "https://x/y"}]}]}, "input_image"),
        ({"input": [{**USER, "content": [{"type": "input_file", "file_id": "file-1"}]}]}, "input_file"),
        ({"input": [{**USER, "content": [{"type": "input_file", "file_url": "https://x"}]}]}, "input_file"),
        ({"input": [{**USER, "content": [{"text": "x"}]}]}, "content part without a type"),
        ({"input": [{"type": "function_call_output", "output": [{"type": "input_image"}]}]}, "input_image"),
        ({"input": [{"type": "shell_call_output", "output": [{"stdout": "x", "stderr": ""}]}]}, ""),
        ({"input": [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "x"}]}]}, ""),
        ({"input": [{**USER, "content": [{"type": "input_text", "text": '{"type":"input_image"}'}]}]}, ""),
        ({"input": [{**USER, "content": 5}]}, "input of an undocumented shape"),
        ({"input": [USER], "instructions": [{"type": "input_image"}]}, "input_image"),
    ],
)  # fmt: skip
def test_what_does_not_stand_in_the_body_may_fill_the_window(fields: dict[str, Any], why: str) -> None:
    assert ask(**fields).whole_window == why


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"background": True}, "background"),
        ({"background": False}, ""),
        ({"context_management": [{"type": "compaction", "compact_threshold": 1000}]}, "context_management"),
        ({"context_management": []}, ""),
        ({"input": [{"type": "compaction_trigger"}]}, "compaction_trigger"),
        ({"tools": [[1]]}, "tools of an undocumented shape"),
    ],
)
def test_what_has_no_bound(fields: dict[str, Any], what: str) -> None:
    assert ask(**fields).unbounded == what


@pytest.mark.parametrize(
    ("tool", "kind"),
    [
        ({"type": "web_search"}, "web_search"),
        ({"type": "web_search_2025_08_26"}, "web_search"),
        ({"type": "web_search_preview_2025_03_11"}, "web_search_preview"),
        ({"type": "file_search", "vector_store_ids": ["vs_1"]}, "file_search"),
        ({"type": "code_interpreter", "container": {"type": "auto"}}, "code_interpreter"),
        ({"type": "mcp", "server_label": "x", "server_url": "https://x"}, "mcp"),
        ({"type": "image_generation"}, "image_generation"),
        ({"type": "computer_use_preview"}, "computer_use_preview"),
        ({"type": "shell", "environment": {"type": "container_auto"}}, "shell"),
        ({"type": "shell"}, "shell"),
        ({"type": "tool_search"}, "tool_search"),
        ({"type": "tool_of_tomorrow"}, "tool_of_tomorrow"),
        ({"name": "x"}, "tool without a type"),
    ],
)
def test_tools_that_run_at_the_provider(tool: dict[str, Any], kind: str) -> None:
    assert ask(tools=[tool]).server_tools == (ServerTool(kind),)
    assert ask(tools=[tool, tool], max_tool_calls=3).server_tools == (ServerTool(kind, 3),)
    item = {"type": "additional_tools", "role": "developer", "tools": [tool]}
    assert ask(input=[item]).server_tools == (ServerTool(kind),)
    assert ask(input=[item], max_tool_calls=3).server_tools == (ServerTool(kind, 3),)


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "name": "f", "parameters": {"type": "object"}},
        {"type": "custom", "name": "c"},
        {"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", "name": "f"}]},
        {"type": "local_shell"},
        {"type": "apply_patch"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "tool_search", "execution": "client"},
    ],
)
def test_tools_of_the_client_are_bytes(tool: dict[str, Any]) -> None:
    assert ask(tools=[tool]).server_tools == ()


@pytest.mark.parametrize("calls", [-1, 1.5, "2", True])
def test_a_bound_of_tool_calls_is_a_number(calls: Any) -> None:
    with pytest.raises(Refusal, match=r"^max_tool_calls: "):
        ask(max_tool_calls=calls)


def test_who_asks() -> None:
    read = ask(user="alice", prompt_cache_key="s1")
    assert (read.session, read.end_user) == ("s1", "alice")
    assert ask(user="alice", safety_identifier="h4sh").end_user == "h4sh"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["message", "input_image", "web_search", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "output", "tools", "execution"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(json_values, json_values, json_values)
def test_any_shape_of_input_and_tools_is_read(given_input: Any, tools: Any, instructions: Any) -> None:
    """No input is a bug of ours; and what cannot be read as documented never counts as mere bytes."""
    read = ask(input=given_input, tools=tools, instructions=instructions)
    assert read.model == "gpt-5"
    text = msgspec.json.encode([given_input, instructions])
    if b'"input_image"' in text and isinstance(given_input, list) and {"type": "input_image"} in given_input:
        assert read.whole_window


def test_an_exhausted_budget_is_429_here() -> None:
    refusal = Refusal(402, "budget_exhausted", "No.", scope="user alice", should_retry=False)
    status, body = OPENAI_RESPONSES.refusal(refusal, "req_1")
    assert status == 429
    assert msgspec.json.decode(body) == {
        "type": "error",
        "sequence_number": 0,
        "error": {
            "message": "No.",
            "type": "insufficient_quota",
            "param": None,
            "code": "budget_exhausted",
            "scope": "user alice",
            "request_id": "req_1",
        },
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (502, "server_error"),
        (503, "server_error"),
    ],
)
def test_other_refusals_keep_their_status(status: int, kind: str) -> None:
    answered, body = OPENAI_RESPONSES.refusal(Refusal(status, "x", "y", details={"field": "input"}), "req_1")
    error = msgspec.json.decode(body)["error"]
    assert (answered, error["type"], error["param"]) == (status, kind, "input")
