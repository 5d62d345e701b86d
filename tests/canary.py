"""Marked secrets, and looking for them: as they are, and in the ways in which text is written down.

Also the net around every gateway that tests start (`serving.Gateway.close`): what it was given in confidence must stand
neither in what it wrote to its log and standard output nor in a file of its home.
"""

import base64
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

_PLAIN = re.compile(rb"[A-Za-z0-9_-]+")
LEAST = 12
"""Characters of a secret that is looked for: a shorter one may stand somewhere by chance."""
CONFIDENTIAL = ("KEY", "SECRET", "TOKEN", "PASSWORD")
"""Parts of the names of variables whose values are secrets."""
KEYRINGS = ("master-keys",)
"""Files of a home that hold secrets because that is what they are for; only their owner may read them."""


def canary(name: str, tail: str = "") -> str:
    """A secret that stands nowhere by chance. `tail` may hold what has to be escaped somewhere."""
    return f"canary-{name}-{secrets.token_hex(8)}{tail}"


def forms(secret: str | bytes) -> dict[str, bytes]:
    """The ways in which a secret may be written, by name; and its longest part of letters, figures and dashes, whatever
    became of the rest, encoded twice or in a way that nobody thought of.
    """
    raw = secret.encode() if isinstance(secret, str) else secret
    found = _bytewise("", raw) | _bytewise("its plain part ", max(_PLAIN.findall(raw), key=len, default=b""))
    if isinstance(secret, str):
        found["percent"] = quote(secret, safe="").encode()
        found["json"] = json.dumps(secret)[1:-1].encode()
        found["json, plain"] = json.dumps(secret, ensure_ascii=False)[1:-1].encode()
    return {name: form for name, form in found.items() if len(form) >= LEAST}


def _bytewise(part: str, raw: bytes) -> dict[str, bytes]:
    found = {"as it is": raw, "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode()}
    for skip in range(3):  # where it may begin within the groups of base64
        inside = base64.b64encode(b"\0" * skip + raw)
        first, last = -(-skip * 4 // 3), (skip + len(raw)) // 3 * 4
        found[f"base64+{skip}"] = inside[first:last]
        found[f"base64url+{skip}"] = inside[first:last].translate(bytes.maketrans(b"+/", b"-_"))
    return {f"{part}{how}": form for how, form in found.items() if len(raw) >= LEAST}


def sightings(planted: Mapping[str, str | bytes], seen: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    """Where which secret stands, never the secret itself. `seen` are places with what was found there."""
    wanted = [(name, how, form) for name, secret in planted.items() for how, form in forms(secret).items()]
    for place, data in seen:
        for name, how, form in wanted:
            if form in data:
                yield f"{name} ({how}) in {place}"


def files(directory: Path) -> Iterator[tuple[str, bytes]]:
    """All files below a directory but those that hold secrets by trade."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name not in KEYRINGS:
            try:
                yield str(path.relative_to(directory)), path.read_bytes()
            except FileNotFoundError:  # a segment of the journal that was shipped meanwhile
                continue


def confidential(variables: Mapping[str, str]) -> dict[str, str]:
    """The secrets among environment variables."""
    return {
        name: value
        for name, value in variables.items()
        if any(part in name.upper() for part in CONFIDENTIAL)
        and not name.endswith("_FILE")
        and len(value) >= LEAST
        and not Path(value).exists()
    }
