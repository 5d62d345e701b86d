"""Lone surrogates hide nothing: neither in requests nor in answers, neither as values nor as names."""

import json

import pytest

from tests.dialects.recorded import meter, recording
from tollhouse.dialects.anthropic import ANTHROPIC
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.openai_chat import OPENAI_CHAT
from tollhouse.dialects.openai_responses import OPENAI_RESPONSES
from tollhouse.dialects.surrogates import without_lone

STRANGE = b'{"x_\\udfff":"\\ud800",'


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (rb'"\ud800"', rb'"\ufffd"'),
        (rb'"\uDFFF\uD800x"', rb'"\ufffd\ufffdx"'),
        (rb'"\ud83c\udf0d"', rb'"\ud83c\udf0d"'),
        (rb'"\ud83c\ud83c\udf0d"', rb'"\ufffd\ud83c\udf0d"'),
        (rb'"\\ud800 \\\ud800 \"\n"', rb'"\\ud800 \\\ufffd \"\n"'),
        (rb'"\ud7ff\ue000"', rb'"\ud7ff\ue000"'),
    ],
)
def test_only_lone_ones_are_replaced(text: bytes, whole: bytes) -> None:
    assert without_lone(text) == whole
    assert json.loads(whole).encode()


@pytest.mark.parametrize(
    ("dialect", "name"),
    [(ANTHROPIC, "anthropic_text.sse"), (OPENAI_CHAT, "openai_text.sse"), (OPENAI_RESPONSES, "responses_text.sse")],
    ids=["anthropic", "chat", "responses"],
)
def test_usage_is_seen_beside_them(dialect: Dialect, name: str) -> None:
    told = recording(name)
    assert meter(dialect, [told.replace(b"data: {", b"data: " + STRANGE)])[1] == meter(dialect, [told])[1]


def test_a_request_is_read_beside_them() -> None:
    content = b'"role":"user","content":[' + STRANGE + b'"type":"text","text":"hi"}]}'
    ask = ANTHROPIC.read(b'{"model":"m","max_tokens":5,"messages":[' + STRANGE + content + b"]}")
    assert ask.whole_window == ""
    asked = OPENAI_CHAT.read(b'{"model":"m","stream":true,"stream_options":' + STRANGE + b'"include_usage":true}}')
    assert asked.include_usage
