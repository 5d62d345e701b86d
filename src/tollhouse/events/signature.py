"""Signatures of what webhooks are sent, as Standard Webhooks 1.0.0 has them (standardwebhooks.com: "Signature scheme").

    webhook-signature: v1,BASE64(HMAC-SHA256(secret, id + "." + timestamp + "." + body))

The secret is written `whsec_` and base64; what signs are the bytes.
"""

import base64
import binascii
import hmac
import secrets
from typing import Final

PREFIX: Final = "whsec_"
MIN_BYTES: Final = 24
MAX_BYTES: Final = 64
"""Both of the standard."""


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def secret_bytes(text: str) -> bytes:
    """Raises ValueError that says what a secret looks like, never this one."""
    form = f"a webhook's secret is {PREFIX} and {MIN_BYTES} to {MAX_BYTES} bytes in base64"
    if not text.startswith(PREFIX):
        raise ValueError(form)
    try:
        found = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(form) from None
    if not MIN_BYTES <= len(found) <= MAX_BYTES:
        raise ValueError(form)
    return found


def signed_headers(secret: bytes, message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The three headers of a message. Raises ValueError without a secret: nothing goes out unsigned."""
    if not secret:
        raise ValueError("without a secret nothing is signed, and so nothing is sent")
    signed = hmac.digest(secret, b"%b.%d.%b" % (message_id.encode(), at_s, body), "sha256")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
