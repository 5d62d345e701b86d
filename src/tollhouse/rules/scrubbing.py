"""Text without the secrets that can be told by their looks: for the log, whoever wrote into it.

What is masked: every form of `credential_table`; JWTs; what follows `Bearer` and `Basic`; the values of headers,
cookies, fields and query parameters with a telling name; the user part of a URL; links that open a door; private keys.
A secret without form or name is not seen: nothing but care keeps such a one out of the log.

1. Encodings make no difference. A text with percent-encoding or with the escapes of JSON or Python is also looked at as
   it reads with one, two and three layers of them taken off; each character remembers the place it came from, and what
   is masked is that place of the text as it was. So nothing that was encoded ever gets out decoded.
2. A credential that was broken into lines goes on behind the white space.
3. A text costs time in proportion to its length: no expression looks at one place more than a few times, and what is
   beyond `MAX_CHARS` is cut off.
"""

import re
from collections.abc import Iterator
from typing import Final

from tollhouse.rules.credential_table import TABLE

MAX_CHARS: Final = 16_384
"""Of one text; a message or a traceback that is longer says no more."""
LAYERS: Final = 3
"""Of encoding that are taken off."""
MASK: Final = "***"
_LONG: Final = 5
"""A prefix this long is no word's beginning: fewer characters behind it make a credential."""
_WORDS: Final = frozenset(("sk-or-",))
"""Prefixes that are parts of words all the same (`risk-or-reward`)."""

_START: Final = "(?<![A-Za-z0-9])"
_BODY: Final = "[A-Za-z0-9_.~+/=-]"
_WRAPPED: Final = rf"(?:\s{{1,8}}(?=[A-Za-z_-]{{0,64}}[0-9]){_BODY}{{16,}}){{0,4}}"
"""The rest of a credential that was broken into lines: a word with a figure in it that is longer than words are."""
_BARE: Final = r"[^\s&,;\"'<>(){}\[\]\\]"
"""A character of a value without quotes."""
_VALUE: Final = (
    r"""(?!["']?(?:env|file|cmd|vault|stored):)(?:"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|\\{1,4}"[^"\\]*(?:\\{1,4}")?"""
)
"""One in quotes, even in escaped ones; more ways may follow, and a parenthesis. Where a secret lies is none."""
_NAMES: Final = (
    r"(?:x-)?(?:goog-)?api[_-]?key|x-(?:auth|vault)-token|password|passwd|pwd|(?:client_|shared_)?secret|secret_key|"
    r"(?:access_|refresh_|id_|session_|auth_|csrf_)?token|master_key|private_key|session_?key|credential"
)


def _credentials() -> str:
    """All forms of the table, the longest prefix first."""
    prefixes = sorted({text for row in TABLE for text in (*row.prefixes, *row.marks)}, key=len, reverse=True)
    long = "|".join(re.escape(text) for text in prefixes if len(text) >= _LONG and text not in _WORDS)
    short = "|".join(re.escape(text) for text in prefixes if len(text) < _LONG or text in _WORDS)
    forms = "|".join(row.mask for row in TABLE if row.mask)
    return rf"(?P<keep>{long}){_BODY}{{8,}}{_WRAPPED}|{_START}(?:(?P<also>{short}){_BODY}{{12,}}|(?:{forms})){_WRAPPED}"


_PATTERNS: Final = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        _credentials(),
        rf"eyJ[A-Za-z0-9_.-]{{16,}}{_WRAPPED}",
        rf"(?P<keep>\bbearer[\s:+]{{1,8}})[^\s\"',;<>()\[\]{{}}\\]{{8,}}{_WRAPPED}",
        rf"(?P<keep>\bbasic[\s:+]{{1,8}})(?=[a-z]{{0,64}}(?-i:[A-Z0-9]))[a-z0-9+/]{{8,}}={{0,2}}{_WRAPPED}",
        # Headers whose whole line is a secret.
        rf"(?P<keep>{_START}(?:proxy-authorization|authorization|set-cookie|cookie)[\"']?\s{{0,4}}"
        rf"(?:[:=]|,\s{{0,4}}b?(?=[\"']))\s{{0,4}})" + _VALUE + r"|[^\r\n]+)",
        # `name=value`, `"name": "value"`, `(b'name', b'value')`; behind a colon without quotes what no sentence says.
        rf"(?P<keep>{_START}(?:{_NAMES})\\{{0,4}}[\"']?\s{{0,4}}(?:=|:|,\s{{0,4}}b?(?=[\"']))\s{{0,4}}b?)"
        + _VALUE
        + rf"|(?<==){_BARE}+|(?=[^\s\"']{{0,64}}[0-9]){_BARE}{{8,}})",
        r"(?P<keep>[?&;](?:key|code|sig|signature|auth|state|x-amz-[a-z-]{1,32})=)[^\s&#\"'<>]+",
        r"(?P<keep>://)[^\s/\"'<>]{1,512}(?=@)",
        # Whoever has such a link may do what it is for: our own, and where others take messages.
        r"(?P<keep>(?:/setup/|/invitation/|hooks\.slack\.com/services/|/api/webhooks/)[0-9]{0,20}/?)[a-z0-9_/-]{16,}",
        r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----(?:[^-]|-(?!----))*(?:-----END[A-Z -]{0,48})?",
    )
)
_ENCODED: Final = re.compile(r"""%[0-9A-Fa-f]{2}|\\u00[0-9A-Fa-f]{2}|\\x[0-9A-Fa-f]{2}|\\[nrtbf"'/\\]""", re.ASCII)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def scrub(text: str) -> str:
    """The text without what looks like a secret, at most `MAX_CHARS` of it and a word on what was cut."""
    cut = len(text) - MAX_CHARS
    if cut > 0:
        text = text[:MAX_CHARS]
    spans = sorted(_spans(text))
    if spans:
        text = _masked(text, spans)
    return f"{text}… ({cut:,} characters more)" if cut > 0 else text


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where secrets stand, as the text is and with layers of encoding taken off."""
    yield from _secrets(text)
    starts: list[int] = []
    layered = text
    for _ in range(LAYERS):
        if "%" not in layered and "\\" not in layered:
            return
        shorter, layer = _decoded(layered)
        if shorter == layered:
            return
        starts = [starts[start] for start in layer] if starts else layer
        layered = shorter
        for start, end in _secrets(layered):
            yield starts[start], starts[end]


def _secrets(text: str) -> Iterator[tuple[int, int]]:
    for pattern in _PATTERNS:
        for found in pattern.finditer(text):
            kept = found.end(found.lastgroup) if found.lastgroup else found.start()
            yield kept, found.end()


def _decoded(text: str) -> tuple[str, list[int]]:
    """The text with one layer of encoding taken off; and where in it each character began, and where it ends."""
    pieces: list[str] = []
    starts: list[int] = []
    done = 0
    for found in _ENCODED.finditer(text):
        pieces.append(text[done : found.start()])
        starts += range(done, found.start())
        pieces.append(_meant(found[0]))
        starts.append(found.start())
        done = found.end()
    pieces.append(text[done:])
    starts += range(done, len(text) + 1)
    return "".join(pieces), starts


def _meant(coded: str) -> str:
    if len(coded) == 2:
        return _ESCAPES.get(coded[1], coded[1])
    return chr(int(coded[-2:], 16))


def _masked(text: str, spans: list[tuple[int, int]]) -> str:
    """What overlaps or touches is one."""
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        if end > done:
            if start > done or not pieces:
                pieces += [text[done:start], MASK]
            done = end
    return "".join([*pieces, text[done:]])
