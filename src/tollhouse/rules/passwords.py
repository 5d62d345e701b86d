"""Which passwords are taken: long ones that nobody guesses (NIST SP 800-63B, 5.1.1: no rules of composition).

A password is what its characters mean, not how a keyboard made them: it is normalised (NFKC) before anything else, and
nothing of it is cut off or trimmed.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

MAX_CHARS: Final = 1024
LOOKED_AT_CHARS: Final = 72
"""Of a password, when its guessability is estimated: the estimate takes longer than linear time."""

MIN_PART_CHARS: Final = 3
"""Of a name or an address: shorter parts are in many words."""
_WORDS: Final = re.compile(r"[^\w]+")


def normal_password(text: str) -> str:
    """Raises ValueError for what is no password: empty, too long, or holding what no keyboard makes."""
    if len(text) > MAX_CHARS:
        raise ValueError(f"has more than {MAX_CHARS} characters")
    password = unicodedata.normalize("NFKC", text)
    if not password:
        raise ValueError("is empty")
    if "\x00" in password or any("\ud800" <= character <= "\udfff" for character in password):
        raise ValueError("holds a character that no keyboard makes")
    return password


def weakness(password: str, about: Sequence[str], *, min_chars: int, min_score: int) -> str | None:
    """Why a normalised password is not taken, for who chose it; None for a good one.

    about       what is known of its user (e-mail, name): a password made of it is easily guessed
    min_score   of zxcvbn's 0 (ten guesses) to 4; 3 withstands 10^8 guesses
    """
    if len(password) < min_chars:
        return f"has {len(password)} characters; take at least {min_chars}, several words for example"
    parts = [part for text in about for part in (text, *_WORDS.split(text)) if len(part) >= MIN_PART_CHARS]
    rest = password.casefold()
    for part in sorted(parts, key=len, reverse=True):
        rest = rest.replace(part.casefold(), "")
    if len(rest) < min_chars // 2:
        return "is made of your own name or e-mail address. Take several words that have nothing to do with you"
    from zxcvbn import zxcvbn  # noqa: PLC0415  its word lists stay out of serving until somebody chooses a password

    found = zxcvbn(password[:LOOKED_AT_CHARS], user_inputs=parts)
    if found["score"] >= min_score:
        return None
    advice = found["feedback"]["warning"] or "It is easily guessed."
    return f"is too easy to guess. {advice.rstrip('.')}. Take several words that have nothing to do with each other"
