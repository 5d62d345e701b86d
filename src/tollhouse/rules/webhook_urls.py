"""Addresses of webhooks: by https to some other machine; to this one, by http too, only where the operator allows it.

What a name turns out to be is looked at again when the connection is made.
"""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

MAX_URL_CHARS: Final = 2_000
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


def check_webhook_url(url: str, *, allow_loopback: bool) -> str:
    """The same address. Raises ValueError with what is wrong; it never repeats the address, which may hold a secret."""
    if len(url) > MAX_URL_CHARS or any(character <= " " or character in '\\\x7f"<>' for character in url):
        raise ValueError(f"is no address: at most {MAX_URL_CHARS} characters, without spaces and backslashes")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is no address; write https://host/path") from None
    local = is_loopback(host)
    if not host or parts.scheme not in _DEFAULT_PORTS or port == 0:
        raise ValueError("is no address; write https://host/path")
    if parts.scheme == "http" and not (local and allow_loopback):
        raise ValueError("must be https: whoever is on the way could read and change what is sent")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("holds a user name, a password or a fragment; what is sent is signed, that is enough")
    if local and not allow_loopback:
        raise ValueError("is on this machine; the operator may allow that by notices.allow_loopback")
    return url


def is_loopback(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
