"""A JSON object taken apart by hand, one byte at a time: where each member's value stands, and nothing cleverer.

It is what edited bodies are compared with, so it shares no code with what edits them. It is given valid JSON alone.
"""

import json
from typing import NamedTuple

_SPACES = b" \t\r\n"


class Member(NamedTuple):
    """`body[start:end]` is the value of `name`."""

    name: str
    start: int
    end: int


def members(body: bytes, at: int = 0) -> list[Member]:
    """Every member of the object that begins at or behind `at`, in order."""
    at = _skip(body, at)
    assert body[at : at + 1] == b"{", body[at : at + 20]
    at = _skip(body, at + 1)
    found: list[Member] = []
    while body[at : at + 1] != b"}":
        name_end = _string(body, at)
        name = json.loads(body[at:name_end])
        at = _skip(body, name_end)
        assert body[at : at + 1] == b":"
        start = _skip(body, at + 1)
        end = _value(body, start)
        found.append(Member(name, start, end))
        at = _skip(body, end)
        if body[at : at + 1] == b",":
            at = _skip(body, at + 1)
    return found


def replaced(body: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """The body with these spans (start, end) replaced; where both are the same, something is put in."""
    for start, end, value in sorted(edits, reverse=True):
        body = body[:start] + value + body[end:]
    return body


def first_place(body: bytes, at: int = 0) -> int:
    """Right behind the brace that opens the object."""
    return body.index(b"{", at) + 1


def _skip(body: bytes, at: int) -> int:
    while body[at : at + 1] and body[at] in _SPACES:
        at += 1
    return at


def _string(body: bytes, at: int) -> int:
    """Where the string that begins here ends."""
    assert body[at : at + 1] == b'"', body[at : at + 20]
    at += 1
    while body[at : at + 1] != b'"':
        at += 2 if body[at : at + 1] == b"\\" else 1
    return at + 1


def _value(body: bytes, at: int) -> int:
    """Where the value that begins here ends."""
    depth = 0
    while True:
        byte = body[at : at + 1]
        if byte == b'"':
            at = _string(body, at)
        elif byte in (b"{", b"["):
            depth += 1
            at += 1
        elif byte in (b"}", b"]") and depth:
            depth -= 1
            at += 1
        elif not depth:
            while body[at : at + 1] not in (b",", b"}", b"]", b"", b" ", b"\t", b"\r", b"\n"):
                at += 1
            return at
        else:
            at += 1
            continue
        if not depth:
            return at
