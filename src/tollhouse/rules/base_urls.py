"""Base URLs that users supply: what a text must be so that every reader sees the same host in it, and that host in one
normal form.

URLs are where readers disagree: a browser takes a backslash for a slash and drops newlines, a C library takes `0x7f.1`
for an address, one parser ends the host at the last `@`, another at the first. So nothing is repaired here. What is
accepted is plain: `https://`, a host, perhaps a port and a path of harmless characters. The exception is Unicode in a
host, which is brought into its ASCII form (UTS 46, as browsers do) before anybody else sees it; what looks like another
host's name, such as full-width letters, so becomes that name and is judged as it.

Which addresses the host may have is another question, asked at each connection (`addresses`).
"""

import ipaddress
import re
from typing import Final

import idna
import msgspec

from tollhouse.rules.consumer_sites import site_problem

MAX_CHARS: Final = 500
MAX_HOST_CHARS: Final = 253
"""Of a name in the DNS (RFC 1035, 2.3.4, as text)."""
HTTPS: Final = "https://"
HTTPS_PORT: Final = 443
MIN_PORT: Final = 1024
"""Below it only `BaseUrlRules.low_ports`: mail, shells and the like are no model's."""

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LOCAL_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
"""As containers and machines of a local network are called."""
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,:@=-]+)*/?", re.ASCII)
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]", re.ASCII)
"""A last label that begins like this makes the whole host an IPv4 address for some readers (WHATWG URL, "ends in a
number"), and is no top-level domain's (RFC 1123, 2.1).
"""


class BaseUrlRules(msgspec.Struct, frozen=True):
    """What is allowed: ports below 1024, and how long it may be."""

    low_ports: frozenset[int] = frozenset((443,))
    max_chars: int = MAX_CHARS


class BaseUrl(msgspec.Struct, frozen=True):
    """One that was accepted. `host` is ASCII in lower case, IPv6 without brackets; `path` has no slash at its end."""

    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """With its port, always: what a credential is bound to."""
        return f"{HTTPS}{self._place}:{self.port}"

    @property
    def text(self) -> str:
        port = "" if self.port == HTTPS_PORT else f":{self.port}"
        return f"{HTTPS}{self._place}{port}{self.path}"

    @property
    def _place(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


class BaseUrlError(ValueError):
    """Why a base URL is not accepted, in a sentence, with what to write instead. Nothing of the URL's user part, path
    or query is repeated: a secret may stand there.
    """


DEFAULT_RULES: Final = BaseUrlRules()


def read_base_url(text: str, rules: BaseUrlRules = DEFAULT_RULES) -> BaseUrl:
    """Raises BaseUrlError."""
    if not text:
        raise BaseUrlError("The base URL is empty; write https://host or https://host/path.")
    if len(text) > rules.max_chars:
        raise BaseUrlError(f"The base URL has {len(text):,} characters; at most {rules.max_chars:,} are read.")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise BaseUrlError("The base URL holds white space or a control character; leave it out.")
    if text[: len(HTTPS)].lower() != HTTPS:
        raise BaseUrlError("The base URL must begin with https:// : a key is never sent in the clear.")
    rest = text[len(HTTPS) :]
    for character, name in (("\\", "backslash"), ("?", "query (?)"), ("#", "fragment (#)"), ("%", "percent sign")):
        if character in rest:
            raise BaseUrlError(f"The base URL holds a {name}; write https://host or https://host/path.")
    place, slash, path = rest.partition("/")
    if "@" in place:
        raise BaseUrlError("The base URL names a user (@); the key goes into its own field.")
    host, port = _split_port(place)
    path = slash + path
    if not _PATH.fullmatch(path) or any(part in (".", "..") for part in path.split("/")):
        raise BaseUrlError("The path of the base URL is not plain; write words with single slashes between them.")
    url = BaseUrl(normal_host(host), _read_port(port, rules), path.rstrip("/"))
    problem = site_problem(url.host)
    if problem is not None:
        raise BaseUrlError(problem)
    return url


def normal_host(host: str, *, local_names: bool = False) -> str:
    """A host in the one form that all readers agree on: a name in ASCII and lower case, IPv4 as four decimals, IPv6 in
    its shortest form without brackets. Raises BaseUrlError for what some would read as another host. `local_names`
    have underscores, which the DNS's host names do not.
    """
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1])
    if ":" in host:
        return _ipv6(host)
    name = host
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True, transitional=False).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise BaseUrlError("The host of the base URL is no name that the DNS can hold.") from error
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    fits = _LOCAL_LABEL.fullmatch if local_names else _LABEL.fullmatch
    if len(name) > MAX_HOST_CHARS or not all(map(fits, labels)):
        raise BaseUrlError("The host of the base URL is no host name; write it as its provider does, without encoding.")
    if _NUMBER.match(labels[-1]):
        return _ipv4(name)
    for label in labels:
        if label.startswith("xn--"):
            _check_punycode(label)
    return name


def _check_punycode(label: str) -> None:
    """What decodes to nothing, or to what would have been written otherwise, is read differently here and there."""
    try:
        same = idna.encode(idna.decode(label), uts46=True, transitional=False).decode("ascii") == label
    except (idna.IDNAError, UnicodeError):
        same = False
    if not same:
        raise BaseUrlError("The host of the base URL has a label (xn--) that stands for no name.")


def _ipv4(text: str) -> str:
    """Only the spelling that no reader takes for another address: no octal, no hexadecimal, none left out."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise BaseUrlError("The host of the base URL is an address in an odd spelling; write 203.0.113.7.") from error


def _ipv6(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError("zone")
        return str(ipaddress.IPv6Address(text))
    except ValueError as error:
        raise BaseUrlError(
            "The host of the base URL is no IPv6 address in brackets, or one of a single link (%)."
        ) from error


def _split_port(place: str) -> tuple[str, str | None]:
    if place.startswith("["):
        address, bracket, rest = place.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BaseUrlError("The host of the base URL is no IPv6 address in brackets.")
        return address + bracket, rest[1:] if rest else None
    host, colon, port = place.partition(":")
    if not host:
        raise BaseUrlError("The base URL names no host; write https://host or https://host/path.")
    if "[" in host or "]" in host:
        raise BaseUrlError("The host of the base URL has a bracket inside.")
    return host, port if colon else None


def _read_port(port: str | None, rules: BaseUrlRules) -> int:
    if port is None:
        return HTTPS_PORT
    if not _PORT.fullmatch(port) or int(port) > 65_535:
        raise BaseUrlError("The port of the base URL is not a number from 1 to 65535, or has zeros in front.")
    number = int(port)
    if number < MIN_PORT and number not in rules.low_ports:
        raise BaseUrlError(f"The port {number} is not for models; use 443 or one from {MIN_PORT} up.")
    return number
