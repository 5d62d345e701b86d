"""Edited bodies equal the old ones in every byte that was not to change."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollhouse.dialects.splice import SpliceError, find_places, splice

SPACES = ["", "", "", " ", "\n", "\t", "\r\n  "]
NAMES = ["model", "max_tokens", "stream", "messages", "système", 'a"b', "mod\\el", "", "😀", "MODEL"]
LEAVES = [
    "0",
    "-1.5e3",
    "true",
    "null",
    '"x"',
    '"\\"model\\": 1"',
    '"{\\"model\\":\\"y\\"}"',
    '"é\\u00e9\\n\\\\"',
    '"世界"',
]
SURROGATE = '"\\ud800"'


def write_name(name: str, chance: random.Random) -> str:
    """The name as a JSON string, at times with a character escaped that need not be."""
    text = json.dumps(name, ensure_ascii=chance.random() < 0.3)
    if name.isascii() and name.isalpha() and chance.random() < 0.2:
        at = chance.randrange(len(name))
        text = f'"{name[:at]}\\u{ord(name[at]):04x}{name[at + 1 :]}"'
    return text


def write_value(chance: random.Random, depth: int, leaves: list[str]) -> str:
    kind = chance.random()
    if depth == 0 or kind < 0.5:
        return chance.choice(leaves)
    if kind < 0.7:
        inner = [write_value(chance, depth - 1, leaves) for _ in range(chance.randrange(3))]
        return "[" + chance.choice(SPACES) + ",".join(inner) + chance.choice(SPACES) + "]"
    return "".join(write_object(chance, depth - 1, leaves)[0]).strip()


def write_object(chance: random.Random, depth: int, leaves: list[str]) -> tuple[list[str], list[tuple[str, int]]]:
    """Pieces of an object's text, and the (name, index of the piece that is its value) of its members."""

    def space() -> str:
        return chance.choice(SPACES)

    pieces = [space(), "{", space()]
    members: list[tuple[str, int]] = []
    for number in range(chance.randrange(6)):
        name = chance.choice(NAMES)
        pieces += [("," + space()) if number else "", write_name(name, chance), space(), ":", space()]
        members.append((name, len(pieces)))
        pieces += [write_value(chance, depth, leaves), space()]
    return [*pieces, "}", space()], members


@settings(max_examples=2_000, deadline=None)
@given(st.integers(0, 2**64))
def test_only_the_meant_values_change(seed: int) -> None:
    chance = random.Random(seed)
    leaves = [*LEAVES, SURROGATE] if chance.random() < 0.3 else LEAVES
    pieces, members = write_object(chance, 3, leaves)
    edits = dict.fromkeys(chance.sample(NAMES, chance.randrange(4)), b'{"new":[1]}')
    body = "".join(pieces).encode()

    places = find_places(body)
    assert [place.name for place in places] == [name for name, _ in members]
    assert [body[place.start : place.end].decode() for place in places] == [pieces[at] for _, at in members]

    for name, at in members:
        if name in edits:
            pieces[at] = edits[name].decode()
    there = {name for name, _ in members}
    added = ",".join(f'{json.dumps(name, ensure_ascii=False)}:{{"new":[1]}}' for name in edits if name not in there)
    pieces.insert(2, added + "," if added and members else added)
    assert splice(body, edits).decode() == "".join(pieces)


def test_a_nested_look_alike_is_not_touched() -> None:
    body = b'{"messages":[{"model":"a"}],"text":"\\"model\\":\\"a\\"","model" : "a" ,"x":{"model":"a"}}'
    assert splice(body, {"model": b'"b"'}) == body.replace(b'"model" : "a"', b'"model" : "b"')


def test_an_escaped_name_is_the_name() -> None:
    assert splice(b'{"mod\\u0065l":"a"}', {"model": b'"b"'}) == b'{"mod\\u0065l":"b"}'


def test_every_repetition_is_replaced() -> None:
    assert splice(b'{"n":1,"x":2,"n":3}', {"n": b"9"}) == b'{"n":9,"x":2,"n":9}'


def test_a_missing_field_is_added_in_front() -> None:
    assert splice(b" { } ", {"a": b"1", "b": b"2"}) == b' {"a":1,"b":2 } '
    assert splice(b'{"c":3}', {"a": b"1"}) == b'{"a":1,"c":3}'


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"a":1} x', b'{"a":}', b'{"a" 1}', b"{1:2}", b'"x"', b"\xff", b"{,}"]
)
def test_what_is_no_object_is_not_edited(body: bytes) -> None:
    with pytest.raises(SpliceError):
        splice(body, {"a": b"1"})


@given(st.binary(max_size=60))
def test_other_bytes_raise_nothing_else(body: bytes) -> None:
    try:
        find_places(body)
    except SpliceError:
        return
    assert isinstance(json.loads(body), dict)
