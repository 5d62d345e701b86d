"""Edits of a JSON body that touch nothing but the value they mean.

Prompt caches are keyed by the prefix and recent models sign what came before, so an edited body must equal the old one
in every byte that was not asked to change: no re-serialising, no reordering. msgspec tells no offsets, but it hands out
each top-level value as the very bytes it stood in, in order, no name twice (see `body`). So the places can be computed:
walk from `{` over each name and value in turn. The walk is its own proof: it compares every value with the bytes at the
place it assumes and must end exactly at the closing `}`. What looks alike deeper inside is never touched.

Bodies with repeated names or that only `json` can read (lone surrogates) are walked by `json`'s own scanner instead.
"""

import json
import re
from typing import NamedTuple, NoReturn

import msgspec

from tollhouse.dialects.body import Name

_MEMBERS = msgspec.json.Decoder(dict[Name, msgspec.Raw], dec_hook=type.__call__)
_NAME = re.compile(rb'[ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_OPEN = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*")
_NEXT = re.compile(rb"[ \t\r\n]*([,}])")
_END = re.compile(rb"[ \t\r\n]*")
_SPACES = " \t\r\n"


class Place(NamedTuple):
    """Where the value of a top-level field stands: `body[start:end]`."""

    name: str
    start: int
    end: int


class SpliceError(ValueError):
    """The body is not a JSON object; cannot happen to one that was read before."""


def splice(body: bytes, edits: dict[str, bytes]) -> bytes:
    """The body with each field of `edits` set to that JSON value: replaced where it stands, else added at the front.

    Of a repeated field every occurrence is replaced. Raises SpliceError.
    """
    places = find_places(body)
    parts: list[bytes] = []
    done = body.index(b"{") + 1
    parts.append(body[:done])
    missing = [name for name in edits if all(place.name != name for place in places)]
    added = b",".join(msgspec.json.encode(name) + b":" + edits[name] for name in missing)
    if added:
        parts.append(added + b"," if places else added)
    for place in places:
        if place.name in edits:
            parts += (body[done : place.start], edits[place.name])
            done = place.end
    parts.append(body[done:])
    return b"".join(parts)


def find_places(body: bytes) -> list[Place]:
    """Every top-level field in order, repeated ones included. Raises SpliceError."""
    try:
        members = _MEMBERS.decode(body)
    except (ValueError, RecursionError):
        return _scan(body)
    return _walk(body, members)


def _walk(body: bytes, members: dict[Name, msgspec.Raw]) -> list[Place]:
    places: list[Place] = []
    opening = _OPEN.match(body)
    if opening is None:
        _lost()
    at = opening.end()
    for name, raw in members.items():
        head = _NAME.match(body, at)
        if head is None:
            _lost()
        start = head.end()
        end = start + len(memoryview(raw))
        after = _NEXT.match(body, end)
        if after is None or not body.startswith(raw, start):
            _lost()
        places.append(Place(str(name), start, end))
        at = after.end() if after[1] == b"," else after.start(1)
    if body[at : at + 1] != b"}" or _END.fullmatch(body, at + 1) is None:
        _lost()
    return places


def _scan(body: bytes) -> list[Place]:
    """Like `_walk`, by `json`'s scanner; offsets count characters until the end."""
    try:
        text = body.decode()
        places = _scan_text(text)
    except (ValueError, IndexError, RecursionError) as error:
        raise SpliceError("the body is not a JSON object") from error
    return [Place(name, len(text[:start].encode()), len(text[:end].encode())) for name, start, end in places]


def _scan_text(text: str) -> list[Place]:
    decoder = json.JSONDecoder()
    places: list[Place] = []
    at = _skip(text, 0)
    if text[at] != "{":
        _lost()
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        if not isinstance(name, str) or text[at] != ":":
            _lost()
        start = _skip(text, at + 1)
        _, end = decoder.raw_decode(text, start)
        places.append(Place(name, start, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
        elif text[at] != "}":
            _lost()
    if _skip(text, at + 1) != len(text):
        _lost()
    return places


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACES:
        at += 1
    return at


def _lost() -> NoReturn:
    raise SpliceError("the body is not the JSON object it was read as")
