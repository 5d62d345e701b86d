"""Server-sent events, cut out of a byte stream (WHATWG HTML, "Server-sent events").

Two rules. First, relaying never waits for metering: a chunk goes on as it came, whatever is in it; only a copy of the
unfinished last event is kept. Second, nothing is unbounded: an event longer than MAX_EVENT_BYTES is handed out in torn
pieces that no parser accepts, so its usage is not seen and the call is settled by a bound.

Lines end in LF, CRLF or CR, and an event ends at a blank line. A CR at the very end of what has come may be half a
CRLF, so it ends nothing yet.
"""

import json
import re
from typing import TypeVar

import msgspec

from tollhouse.dialects.surrogates import without_lone

MAX_EVENT_BYTES = 1 << 20
"""Longest event that is metered. The longest known are some 100 KB: whole search results or audio in one event."""

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?=[^\n]))")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_OVERLAP = 4
"""A blank line is at most this long: so far back must be looked when bytes are added."""

Shape = TypeVar("Shape")


class EventCutter:
    """Cuts chunks into events. The pieces it hands out, with `pending` after them, are the bytes it took, in order."""

    __slots__ = ("_limit_bytes", "pending")

    def __init__(self, limit_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self.pending = bytearray()
        """The unfinished event at the end."""

    def add(self, chunk: bytes) -> list[bytes]:
        """The events this chunk ends, each with its blank line (or pieces of one that is too long)."""
        search_from = max(0, len(self.pending) - _OVERLAP)
        self.pending += chunk
        pieces: list[bytes] = []
        done = 0
        for blank in _BLANK_LINE.finditer(self.pending, search_from):
            pieces.append(bytes(self.pending[done : blank.end()]))
            done = blank.end()
        del self.pending[:done]
        if len(self.pending) > self._limit_bytes:
            pieces.append(self.flush())
        return pieces

    def flush(self) -> bytes:
        """Hand out what is pending."""
        rest = bytes(self.pending)
        self.pending.clear()
        return rest


def is_whole(cutter: EventCutter, chunk: bytes) -> bool:
    """The common case: this chunk is whole events with plain LF, so a split at LF LF cuts it as the cutter would."""
    return not cutter.pending and chunk.endswith(b"\n\n") and chunk[-3:] != b"\n\n\n" and b"\r" not in chunk


def event_data(event: bytes) -> bytes:
    """The `data` of one event: its data lines joined by LF. Empty when it has none, as comments have."""
    lines = _LINE_END.split(event.removeprefix(_BOM))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def carries_nothing(piece: bytes) -> bool:
    """Comments, names and blank lines alone; not so a piece torn out of an event that was too long."""
    lines = _LINE_END.split(piece.removeprefix(_BOM))
    return all(not line or line.startswith((b":", b"event", b"id", b"retry")) for line in lines)


def blank_lines_before(event: bytes) -> bytes:
    """Blank lines that stand before an event are no part of it, though they are cut off with it."""
    return event[: len(event) - len(event.lstrip(b"\r\n"))]


def decode_leniently(data: bytes, decoder: "msgspec.json.Decoder[Shape]") -> Shape | None:
    """Decode what a provider sent; None if it is not of that shape. Lone surrogates, which models do emit, pass, and so
    do NaN and Infinity, which some servers write.
    """
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError):
        pass
    data = without_lone(data)
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError):
        pass
    try:
        return msgspec.convert(json.loads(data), decoder.type)
    except (ValueError, RecursionError):
        return None


def text_bytes(text: str) -> int:
    """UTF-8 length: at least the number of tokens it was made of."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
