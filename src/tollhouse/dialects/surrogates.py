"""Lone surrogates, halves of characters that JSON can spell (`"\\ud800"`) and that are no text.

Models emit them and clients send them back; `json` and the providers let them pass. msgspec does not, neither as a
value nor as the name of a field that nobody asks for. What is only read, never sent on, is read without them.
"""

import re

_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u[dD][89a-fA-F]..|.)", re.DOTALL)
"""A pair of surrogates, a lone one, or any other escape."""


def without_lone(text: bytes) -> bytes:
    """This JSON text with each lone surrogate replaced by U+FFFD."""
    return _ESCAPE.sub(_whole, text)


def _whole(escape: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if len(escape[0]) == 6 else escape[0]
