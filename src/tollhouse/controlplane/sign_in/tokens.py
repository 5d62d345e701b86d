"""Opaque tokens: 256 random bits as text, known to the server by their keyed hash only."""

import base64
import hmac
import re

TOKEN_BYTES = 32
_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}")


class Tokens:
    """`purpose` keeps the tokens of one use from being taken in another."""

    def __init__(self, server_secret: bytes, purpose: str) -> None:
        self._secret = hmac.digest(server_secret, f"tollhouse {purpose}".encode(), "sha256")

    @staticmethod
    def mint(random_32_bytes: bytes) -> str:
        return _text(random_32_bytes)

    def digest(self, token: str) -> bytes | None:
        """What is stored; None for what cannot be a token."""
        if not _SHAPE.fullmatch(token):
            return None
        return hmac.digest(self._secret, token.encode(), "sha256")

    def derived(self, digest: bytes, use: str) -> str:
        """Another secret that belongs to a token, which only this server can make."""
        return _text(hmac.digest(self._secret, use.encode() + b"\0" + digest, "sha256"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
