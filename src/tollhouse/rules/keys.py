"""The form of a virtual key: `sk-th-`, 43 base62 characters of 256 random bits, 6 of checksum; 55 in all.

The checksum (CRC-32 of everything before it) is no secret and no protection: it lets a mistyped or truncated key be
refused without a look-up. CRC-32 finds every change within 32 neighbouring bits, so every single wrong character and
every swap of neighbours inside the random part. Base62 keeps a key free of `sk-ant-`, which some clients take for a
login of Claude.
"""

import hmac
import zlib
from typing import Final

PREFIX: Final = "sk-th-"
RANDOM_BYTES: Final = 32
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_CHARS: Final = 43  # 62**43 > 2**256 > 62**42
_CHECK_CHARS: Final = 6  # 62**6 > 2**32 > 62**5
_BODY_CHARS: Final = len(PREFIX) + _RANDOM_CHARS
KEY_CHARS: Final = _BODY_CHARS + _CHECK_CHARS
_PREFIX_BYTES: Final = PREFIX.encode()
_PAIRS: Final = tuple((a + b).encode() for a in _ALPHABET for b in _ALPHABET)
"""All two-digit base62 numbers: a checksum is three of them."""


def mint(random_32_bytes: bytes) -> str:
    """A key of 32 bytes from the operating system's generator. Raises ValueError for any other number of bytes."""
    if len(random_32_bytes) != RANDOM_BYTES:
        raise ValueError(f"a key is made of {RANDOM_BYTES} random bytes, not {len(random_32_bytes)}")
    body = PREFIX + _base62(int.from_bytes(random_32_bytes, "big"), _RANDOM_CHARS)
    return body + _checksum(body.encode()).decode()


def is_well_formed(text: str | bytes) -> bool:
    """Whether this can be a key at all: length, prefix, alphabet and checksum. Never raises, knows no secret."""
    if len(text) != KEY_CHARS or not text.isascii():
        return False
    key = text.encode() if isinstance(text, str) else bytes(text)
    return (
        key.startswith(_PREFIX_BYTES)
        and key[len(PREFIX) :].isalnum()
        and key[_BODY_CHARS:] == _checksum(key[:_BODY_CHARS])
    )


def digest(server_secret: bytes, key: bytes) -> bytes:
    """What is stored instead of the key: HMAC-SHA-256 under the server's secret, 32 bytes."""
    return hmac.digest(server_secret, key, "sha256")


def hint(key: str) -> str:
    """The last four characters of the random part, by which a person recognises a key in a list."""
    return key[_BODY_CHARS - 4 : _BODY_CHARS]


def _checksum(body: bytes) -> bytes:
    high, low = divmod(zlib.crc32(body), 3844)
    high, middle = divmod(high, 3844)
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
