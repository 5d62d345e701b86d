"""Requests of chat completions: what of them is read, edited and refused."""

from typing import Any

import msgspec
import openai
import pytest

from tollhouse.dialects.openai_chat import OPENAI_CHAT
from tollhouse.terms.ask import Ask, ServerTool
from tollhouse.terms.errors import Refusal


def write(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "gpt-4o", **fields})


def ask(**fields: Any) -> Ask:
    return OPENAI_CHAT.read(write(**fields))


def test_a_small_request() -> None:
    body = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":true}'
    assert OPENAI_CHAT.read(body) == Ask(
        model="gpt-4o", stream=True, cap_field="max_completion_tokens", body_bytes=len(body)
    )


@pytest.mark.parametrize(
    ("caps", "field", "cap"),
    [
        ({}, "max_completion_tokens", None),
        ({"max_tokens": None}, "max_completion_tokens", None),
        ({"max_tokens": 5}, "max_tokens", 5),
        ({"max_completion_tokens": 6}, "max_completion_tokens", 6),
        ({"max_tokens": 5, "max_completion_tokens": 3}, "max_completion_tokens", 5),
        ({"max_tokens": 5, "n_predict": 9}, "max_tokens", 9),
        ({"n_predict": 9}, "n_predict", 9),
        ({"max_tokens": 5, "n_predict": -1}, "n_predict", None),
    ],
)
def test_the_cap_and_where_it_stands(caps: dict[str, Any], field: str, cap: int | None) -> None:
    read = ask(**caps)
    assert (read.cap_field, read.max_output_tokens) == (field, cap)


@pytest.mark.parametrize(
    ("caps", "edited"),
    [
        ({}, {"max_completion_tokens": 4}),
        ({"max_tokens": None}, {"max_completion_tokens": 4, "max_tokens": 4}),
        ({"max_tokens": 5}, {"max_tokens": 4}),
        ({"max_tokens": 5, "max_completion_tokens": 3}, {"max_tokens": 4, "max_completion_tokens": 3}),
        ({"max_completion_tokens": 5, "max_tokens": 3}, {"max_tokens": 3, "max_completion_tokens": 4}),
        ({"max_tokens": 5, "n_predict": -1}, {"max_tokens": 4, "n_predict": 4}),
        ({"max_tokens": 2, "n_predict": 9}, {"max_tokens": 2, "n_predict": 4}),
    ],
)
def test_every_cap_is_lowered_and_none_raised(caps: dict[str, Any], edited: dict[str, int]) -> None:
    body = write(**caps)
    after = msgspec.json.decode(OPENAI_CHAT.edit(body, OPENAI_CHAT.read(body), max_output_tokens=4))
    assert after == {"model": "gpt-4o", **edited}


@pytest.mark.parametrize("choices", [0, -1, 129, 1.5, "2", True])
def test_choices_are_bounded(choices: Any) -> None:
    assert ask(n=128).choices == 128
    assert ask(n=None).choices == 1
    with pytest.raises(Refusal, match=r"^n: "):
        ask(n=choices)


@pytest.mark.parametrize(
    ("options", "wants"),
    [
        (None, False),
        ({}, False),
        ({"include_usage": False}, False),
        ({"include_usage": None}, False),
        ({"include_usage": True}, True),
    ],
)
def test_usage_is_asked_for_once(options: Any, wants: bool) -> None:
    body = write(stream=True, stream_options=options)
    read = OPENAI_CHAT.read(body)
    assert read.include_usage is wants
    edited = OPENAI_CHAT.edit(body, read, include_usage=True)
    assert msgspec.json.decode(edited)["stream_options"] == {"include_usage": True}
    assert (edited is body) == wants


def test_other_stream_options_stay_as_they_were() -> None:
    body = b'{"model":"m","stream":true,"stream_options": {"include_obfuscation" : false}}'
    assert (
        OPENAI_CHAT.edit(body, OPENAI_CHAT.read(body), include_usage=True)
        == b'{"model":"m","stream":true,"stream_options": {"include_usage":true,"include_obfuscation" : false}}'
    )


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "image_url"),
        ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, "input_audio"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "file"),
        ({"type": "video_url", "video_url": {"url": "x"}}, "video_url"),
        ({"text": "x"}, "content part without a type"),
        ({"type": "text", "text": '{"type":"image_url"}'}, ""),
        ({"type": "refusal", "refusal": "no"}, ""),
    ],
)
def test_media_may_be_as_large_as_the_window(part: Any, why: str) -> None:
    read = ask(messages=[{"role": "user", "content": [{"type": "text", "text": "look"}, part]}])
    assert read.whole_window == why


def test_other_content_of_messages() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"type":"image_url"}'}}
    assert ask(messages=[{"role": "assistant", "content": None, "tool_calls": [call]}]).whole_window == ""
    assert (
        ask(messages=[{"role": "assistant", "audio": {"id": "audio_1"}}]).whole_window == "audio of an earlier answer"
    )
    assert ask(messages=[{"role": "user", "content": 5}]).whole_window == "messages of an undocumented shape"


def test_what_costs_more_than_its_output() -> None:
    assert ask(prediction={"type": "content", "content": "x"}).unbounded == "prediction"
    assert ask(tools=[[1]]).unbounded == "tools of an undocumented shape"
    assert ask(web_search_options={}).server_tools == (ServerTool("web_search"),)
    assert ask(tools=[{"type": "function"}, {"type": "custom"}, {"type": "new"}]).server_tools == (ServerTool("new"),)


def test_who_asks() -> None:
    read = ask(user="alice", prompt_cache_key="s1")
    assert (read.session, read.end_user) == ("s1", "alice")
    assert ask(user="alice", safety_identifier="h4sh").end_user == "h4sh"


def test_a_refusal_in_the_envelope_of_the_api() -> None:
    refusal = Refusal(402, "budget_exhausted", "No.", scope="user alice", details={"field": "max_tokens"})
    status, body = OPENAI_CHAT.refusal(refusal, "req_1")
    assert status == 402
    assert msgspec.json.decode(body) == {
        "error": {
            "message": "No.",
            "type": "insufficient_quota",
            "param": "max_tokens",
            "code": "budget_exhausted",
            "scope": "user alice",
            "details": {"field": "max_tokens"},
            "request_id": "req_1",
        }
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (502, "server_error"),
        (503, "server_error"),
        (504, "timeout_error"),
    ],
)
def test_the_type_of_an_error_follows_its_status(status: int, kind: str) -> None:
    _, body = OPENAI_CHAT.refusal(Refusal(status, "x", "y"), "req_1")
    assert msgspec.json.decode(body)["error"]["type"] == kind


def test_the_model_list_is_what_the_sdk_reads() -> None:
    listed = msgspec.json.decode(OPENAI_CHAT.model_list(["gpt-4o"], 1_763_790_000))
    assert listed["object"] == "list"
    model = openai.types.Model.model_validate(listed["data"][0])
    assert (model.id, model.created) == ("gpt-4o", 1_763_790_000)
