"""Events that are alike but for their text.

Nearly every event of a stream is the one before it with another piece of text in the same place. Once one such event
has been decoded, the next is known by its bytes: the same bytes before the text, then a string in which nothing is
escaped, so that its bytes are the text, then the same bytes after it. Decoding it could tell nothing new.

The place is certain, not guessed: in an event without a backslash every string stands as it is meant, so a text that
stands there once, quotes included, stands at its own place.
"""

import re
from typing import Final, NamedTuple

PLAIN_TEXT: Final = re.compile(rb'[^"\\\x00-\x1f]*')
"""The inside of a JSON string in which nothing is escaped."""
MAX_LEARNED: Final = 16
"""Likenesses made per stream. Each new content block needs one; where every event differs more, they are in vain."""


class Likeness(NamedTuple):
    """What stands before and after the text, its quotes included."""

    before: bytes
    after: bytes


UNLIKE: Final = Likeness(b"\xff", b"\xff")
"""No event begins so: this byte is not UTF-8."""


def likeness(event: bytes, text: str) -> Likeness:
    """The likeness of an event, blank line included, in which this text was found; UNLIKE if the place is in doubt."""
    if not text or not event.endswith(b"\n\n") or b"\\" in event:
        return UNLIKE
    inside = text.encode(errors="replace")
    if event.count(b'"%b"' % inside) != 1:
        return UNLIKE
    start = event.index(b'"%b"' % inside) + 1
    return Likeness(event[:start], event[start + len(inside) :])
