"""Events known by their bytes are metered as if each were decoded: the same stream, whole events against single bytes.

Fed byte by byte, no chunk is ever like an event, so that meter decodes everything.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dialects.recorded import meter
from tollhouse.dialects.anthropic import ANTHROPIC
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.likeness import UNLIKE, Likeness, likeness
from tollhouse.dialects.openai_chat import OPENAI_CHAT

TEXTS = st.one_of(
    st.sampled_from(["a", "bb", " hello", "", "text", "type", "content", '"', "\\", "\n", "\n\n", "世界", "🌍", "}}"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


def written(payload: dict[str, Any], *, spaced: bool, escaped: bool) -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    return json.dumps(payload, separators=separators, ensure_ascii=escaped).encode()


def anthropic_deltas(text: str) -> list[dict[str, Any]]:
    return [
        {"type": "text_delta", "text": text},
        {"text": text, "type": "text_delta"},
        {"type": "thinking_delta", "thinking": text},
        {"type": "thinking_delta", "thinking": "abc", "text": text},
        {"type": "input_json_delta", "partial_json": text},
        {"type": "new_delta", "text": text},
    ]


def anthropic_events(text: str) -> list[dict[str, Any]]:
    shapes: list[dict[str, Any]] = [
        {"type": "content_block_delta", "index": 0},
        {"type": "content_block_delta", "index": 1, "note": "a"},
        {"type": "message_delta"},
        {"type": "content_block_start", "content_block": {"type": "text", "text": text}},
        {"type": "ping"},
    ]
    return [{**shape, "delta": delta} for shape in shapes for delta in anthropic_deltas(text)]


def chat_chunks(text: str) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [
        {"content": text},
        {"content": text, "role": "assistant"},
        {"reasoning_content": text},
        {"content": text, "refusal": "no"},
        {"new": text},
    ]
    choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    return [
        *({"id": "c", "model": "gpt-4o", "choices": choice} for choice in choices),
        {"id": "c", "model": "o3", "choices": choices[0]},
        {"choices": [], "usage": usage},
        {"choices": choices[0] * 2, "usage": None},
        {"choices": choices[0], "usage": usage},
        {"choices": choices[0], "error": {"type": "server_error"}},
        {"choices": choices[0], "obfuscation": text},
        {"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]},
    ]


@st.composite
def streams(draw: st.DrawFn, shapes: Callable[[str], list[dict[str, Any]]], head: bytes) -> list[bytes]:
    """Runs of events of one shape with texts of their own; `head` stands before the data of each."""
    events = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.integers(0, len(shapes("")) - 1))
        spaced, escaped = draw(st.booleans()), draw(st.booleans())
        for text in draw(st.lists(TEXTS, min_size=1, max_size=6)):
            data = written(shapes(text)[shape], spaced=spaced, escaped=escaped)
            events.append(head + data[:-1] + b" " * draw(st.integers(0, 1)) + data[-1:] + b"\n\n")
    return events


def assert_metered_alike(dialect: Dialect, events: list[bytes], *, swallow_usage: bool) -> None:
    stream = b"".join(events)
    single_bytes = [stream[at : at + 1] for at in range(len(stream))]
    decoded = meter(dialect, single_bytes, swallow_usage=swallow_usage)
    assert meter(dialect, events, swallow_usage=swallow_usage) == decoded


@settings(deadline=None, max_examples=400)
@given(streams(anthropic_events, b"event: content_block_delta\ndata: "))
def test_anthropic_deltas(events: list[bytes]) -> None:
    assert_metered_alike(ANTHROPIC, events, swallow_usage=False)


@settings(deadline=None, max_examples=400)
@given(streams(chat_chunks, b"data: "), st.booleans())
def test_chat_chunks(events: list[bytes], swallow_usage: bool) -> None:
    assert_metered_alike(OPENAI_CHAT, events, swallow_usage=swallow_usage)


ANTHROPIC_EVENT = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"%b"}}\n\n'
)
CHAT_EVENT = b'data: {"choices":[{"delta":{"content":"%b"}}],"model":"gpt-4o"}\n\n'
BOTH = pytest.mark.parametrize(("dialect", "event"), [(ANTHROPIC, ANTHROPIC_EVENT), (OPENAI_CHAT, CHAT_EVENT)])


@BOTH
def test_a_chunk_that_ends_within_the_text_or_the_blank_line_waits_for_its_end(dialect: Dialect, event: bytes) -> None:
    following = event % b"second"
    for cut in range(1, len(following)):
        meter = dialect.stream_meter(swallow_usage=False)
        for chunk in (event % b"first!", event % b"first!", following[:cut]):
            meter.feed(chunk)
        before = meter.between_events
        meter.feed(following[cut:])
        assert (before, meter.between_events) == (False, True)
        assert meter.seen.output_bound_tokens == len("first!first!second")


@BOTH
def test_an_event_that_had_begun_ends_with_the_one_that_is_alike(dialect: Dialect, event: bytes) -> None:
    meter = dialect.stream_meter(swallow_usage=False)
    for chunk in (event % b"one", b": a comment\n", event % b"two"):
        meter.feed(chunk)
    assert meter.between_events
    assert meter.seen.output_bound_tokens == len("onetwo")


def test_the_place_of_the_text() -> None:
    assert likeness(b'data: {"a":"x","b":1}\n\n', "x") == Likeness(b'data: {"a":"', b'","b":1}\n\n')


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (b'data: {"a":""}\n\n', ""),
        (b'data: {"x":"x"}\n\n', "x"),
        (b'data: {"a":"\\u0078","b":"x"}\n\n', "x"),
        (b'data: {"a":"x"}', "x"),
        (b'data: {"a":"y"}\n\n', "x"),
    ],
)
def test_in_doubt_nothing_is_alike(event: bytes, text: str) -> None:
    assert likeness(event, text) == UNLIKE
