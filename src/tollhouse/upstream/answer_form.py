"""A whole answer that came in one piece, read without the parser when its head has a form that the parser has read.

The heads of a provider's answers are alike: the same lines in the same order, of which an id, a date, a count differ.
Once the parser has read one, its *form* is remembered: the status line, the names and the framing as bytes, a gap for
every other value. What then fits the form byte for byte, with nothing in its gaps that the parser would refuse or read
otherwise, and with a body exactly as long as its framing says, is a whole answer; the parser could tell nothing new.
Everything else (a piece of an answer, several chunks, a name more or less, a control character, bytes behind the end)
is the parser's, as if there were no forms.

A form holds nothing that belongs to one call. An origin keeps a few: making one costs as much as some ten answers.
"""

import re
from collections.abc import Sequence
from typing import Final

MAX_FORMS: Final = 16
"""Of one origin; an origin with more kinds of answers than that has the others parsed."""
_MAX_LINES: Final = 64
_GAP: Final = rb"([\x21-\x7e][\x20-\x7e]*)"
"""A value in plain ASCII. One with a tab, or in another alphabet, may be good as well: the parser's to say."""
_DIGITS: Final = rb"([0-9]{1,15})"
_LENGTH, _CODING = b"content-length", b"transfer-encoding"
_READ_BY_THE_PARSER: Final = frozenset((_CODING, b"connection", b"proxy-connection", b"upgrade"))
"""Besides the length: what these say decides what the answer is, or whether its connection lasts."""
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_MAX_SIZE_DIGITS: Final = 15

WholeAnswer = tuple[tuple[bytes, ...], bytes]
"""The values of its headers, and its body."""


class AnswerForm:
    """`names` are those of the head, in lower case and in their order."""

    __slots__ = ("_length_at", "_match", "names", "status")

    def __init__(self, status: int, names: tuple[bytes, ...], pattern: bytes) -> None:
        self.status = status
        self.names = names
        self._match = re.compile(pattern).match
        self._length_at = names.index(_LENGTH) if _LENGTH in names else -1

    def read(self, data: bytes) -> WholeAnswer | None:
        """None if this is not a whole answer of this form."""
        match = self._match
        found = match(data)
        if found is None:
            return None
        values = found.groups()
        end, length_at = found.end(), self._length_at
        if length_at < 0:
            body = _only_chunk(data, end)
            return None if body is None else (values, body)
        body = data[end:]
        return (values, body) if len(body) == int(values[length_at]) else None


def learn(data: bytes, status: int, names: Sequence[bytes], values: Sequence[bytes]) -> AnswerForm | None:
    """The form of a whole answer that the parser has read in one piece, without anything behind it, on a connection
    that is kept; None if it has none.
    """
    lines = data[: data.find(b"\r\n\r\n")].split(b"\r\n")
    framed = [name for name in names if name in (_LENGTH, _CODING)]
    if len(framed) != 1 or status in (204, 304) or not lines[0].startswith(b"HTTP/1.1 %d " % status):
        return None
    if len(lines) != len(names) + 1 or len(lines) > _MAX_LINES:
        return None
    pattern = [re.escape(lines[0])]
    for name, line in zip(names, lines[1:], strict=True):
        shown, _, value = line.partition(b": ")
        if shown.lower() != name or (name == _CODING and value != b"chunked"):
            return None
        if name in _READ_BY_THE_PARSER:
            gap = b"(%b)" % re.escape(value)
        else:
            gap = _DIGITS if name == _LENGTH else _GAP
        pattern.append(re.escape(shown) + b": " + gap)
    form = AnswerForm(status, tuple(names), b"\r\n".join([*pattern, b"\r\n"]))
    found = form.read(data)
    return form if found is not None and found[0] == tuple(values) else None


def _only_chunk(data: bytes, start: int) -> bytes | None:
    """The content of the one chunk that is all of the body."""
    end = data.find(b"\r\n", start, start + _MAX_SIZE_DIGITS + 2)
    size = data[start:end]
    if end < 0 or not size.isalnum() or size.startswith(b"0") or not data.endswith(_LAST_CHUNK):
        return None
    content = data[end + 2 : -len(_LAST_CHUNK)]
    try:
        return content if len(content) == int(size, 16) else None
    except ValueError:  # letters beyond f
        return None
