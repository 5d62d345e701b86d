"""Byte identity in short form; `make soak` runs ten thousand. And that the reference would see a difference."""

import random

import pytest

from tests.wire.asks import edited, generate, same_but
from tests.wire.identity import case, figures
from tests.wire.lanes import CHAT, LANES, MESSAGES, RESPONSES, Lane
from tests.wire.scanner import members

COUNT = 1_500


def test_bodies_and_streams_are_the_same_on_both_sides() -> None:
    found = figures(COUNT, seed=1)
    assert found.pop("breaches") == []
    assert found.pop("bodies") + found.pop("streams") == COUNT
    assert not any(found.values()), found


def test_what_is_generated_is_no_monotony() -> None:
    """Every lane, and in each every edit it knows, streams of every line end, and both ways to frame a body."""
    cases = [case(number) for number in range(500)]
    for lane in LANES:
        own = [one for one in cases if one.ask.lane is lane]
        caps = {one.ask.cap.partition("; ")[2] for one in own}
        assert caps == ({"", "clamped", "injected"} if lane.caps else {""})
        assert {one.ask.body == one.ask.expected() for one in own} == {True, False}
        assert {one.ask.chunked for one in own} == {True, False}
        assert {one.ask.stream for one in own} == ({True, False} if lane.streams else {False})
    streams = [one for one in cases if one.ask.stream and one.answer.told]
    assert {one.ask.usage_asked for one in streams if one.ask.lane is CHAT} == {True, False}
    bodies = [one.answer.body for one in streams]
    for end in (b"\n\n", b"\r\n\r\n", b"\r\r"):
        assert any(end in body for body in bodies)
    assert any(body.startswith(b"\xef\xbb\xbf") for body in bodies)
    assert any(max(map(len, one.answer.pieces)) == 1 for one in streams)


@pytest.mark.parametrize(
    ("lane", "body", "cap", "include_usage", "wanted"),
    [
        (MESSAGES, b'{"model":"a/b"}', None, False, b'{"model":"b"}'),
        (MESSAGES, b'{ "mod\\u0065l" : "b"}', 7, False, b'{"max_tokens":7, "mod\\u0065l" : "b"}'),
        (MESSAGES, b'{"x":{"max_tokens":9},"max_tokens": 9,"model":"b"}', 7, False,
         b'{"x":{"max_tokens":9},"max_tokens": 7,"model":"b"}'),
        (CHAT, b'{"max_completion_tokens":3,"max_tokens":9,"n_predict":-1,"model":"b"}', 7, False,
         b'{"max_completion_tokens":3,"max_tokens":7,"n_predict":7,"model":"b"}'),
        (CHAT, b'{"stream_options": {},"model":"b"}', None, True,
         b'{"stream_options": {"include_usage":true},"model":"b"}'),
        (CHAT, b'{"stream_options":{"a":1,"include_usage" :null},"model":"b"}', 7, True,
         b'{"max_completion_tokens":7,"stream_options":{"a":1,"include_usage" :true},"model":"b"}'),
        (RESPONSES, b'{"n_predict":3,"model":"b"}', 7, False, b'{"max_output_tokens":7,"n_predict":3,"model":"b"}'),
    ],
)  # fmt: skip
def test_the_reference(lane: Lane, body: bytes, cap: int | None, include_usage: bool, wanted: bytes) -> None:
    assert edited(lane, body, cap, include_usage=include_usage) == wanted
    assert same_but(body, wanted, lane)


def test_the_scanner_finds_every_value_where_it_stands() -> None:
    for number in range(200):
        ask = generate(LANES[number % len(LANES)], random.Random(number))
        found = members(ask.body)
        assert {"model"} <= {member.name for member in found}
        assert all(ask.body[end : end + 1] in b",} \t\r\n" for _, _, end in found)
    assert not same_but(b'{"model":"a","x":[1,2]}', b'{"model":"b","x":[1, 3]}', MESSAGES)
