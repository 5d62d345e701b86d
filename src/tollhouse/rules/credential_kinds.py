"""What kind of credential a text is, by its form; never by asking anybody. The forms stand in `credential_table`.

Logins of a person's subscription (OAuth tokens and web sessions) are not API keys: they are refused in both directions,
as the credential of a client and as the credential for a provider. OpenAI permits what Anthropic forbids; we relay
neither. Where a table's mark stands in a text (behind `Bearer`, in quotes, in a pasted `Cookie`), the text counts as
one. No message built here repeats the text.
"""

import base64
import binascii
import json
import re
from typing import Any, Final

from tollhouse.rules.credential_rows import CredentialKind, CredentialRow, TokenSigns, Use
from tollhouse.rules.credential_table import ROWS, TABLE
from tollhouse.terms.errors import Refusal

__all__ = ["CredentialKind", "classify", "client_refusal", "row_of", "upstream_problem"]

MAX_TOKEN_CHARS: Final = 16_384
"""Of a JWT's claims; longer ones are not opened."""
MAX_TOKENS: Final = 4
"""JWTs in one text that are opened."""
_WRAPPING: Final = " \t\r\n\v\f\0\u00a0\u200b\ufeff'\"`"


def _by_length(pairs: list[tuple[str, CredentialKind]]) -> tuple["re.Pattern[str]", dict[str, CredentialKind]]:
    """One expression for all of them, the longest first, and what each says."""
    kinds = {text.lower(): kind for text, kind in pairs}
    return re.compile("|".join(map(re.escape, sorted(kinds, key=len, reverse=True)))), kinds


_MARK, _MARKS = _by_length([(mark, row.kind) for row in TABLE for mark in row.marks])
_PREFIX, _PREFIXES = _by_length([(prefix, row.kind) for row in TABLE for prefix in row.prefixes])
_PATTERNS: Final = tuple((re.compile(row.pattern, re.DOTALL), row.kind) for row in TABLE if row.pattern)
_TOKENS: Final = tuple((signs, row.kind) for row in TABLE for signs in row.token)
_CLAIMS: Final = re.compile(rf"\.(eyJ[\w-]{{1,{MAX_TOKEN_CHARS}}})")
"""The middle of a JWT. It begins at a dot and holds none, so that no text takes longer than its length."""


def classify(text: str) -> CredentialKind:
    """The kind by form; surrounding space, quotes, `Bearer` and letter case make no difference."""
    plain = text.strip(_WRAPPING)
    bare = plain.lower()
    if found := _MARK.search(bare):
        return _MARKS[found[0]]
    while bare.startswith("bearer") and bare[6:7] in _WRAPPING:
        shorter = bare[6:].strip(_WRAPPING)
        if shorter == bare:
            break
        bare = shorter
    if found := _PREFIX.match(bare):
        return _PREFIXES[found[0]]
    for pattern, kind in _PATTERNS:
        if pattern.fullmatch(bare):
            return kind
    return _kind_of_token(plain) if "eyJ" in plain else CredentialKind.UNKNOWN


def _kind_of_token(text: str) -> CredentialKind:
    """By the claims of a JWT that stands in the text."""
    for count, found in enumerate(_CLAIMS.finditer(text)):
        if count == MAX_TOKENS:
            break
        claims = _claims(found[1])
        for signs, kind in _TOKENS:
            if _shows(claims, signs):
                return kind
    return CredentialKind.UNKNOWN


def _claims(part: str) -> dict[str, Any]:
    """What the middle of a JWT says; nothing when it cannot be read."""
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _shows(claims: dict[str, Any], signs: TokenSigns) -> bool:
    issuer = claims.get("iss")
    granted = [*_words(claims.get("scope")), *_words(claims.get("scp"))]
    return (
        (not signs.issuers or (isinstance(issuer, str) and any(_is_of(issuer, name) for name in signs.issuers)))
        and (not signs.claims or any(name in claims for name in signs.claims))
        and (not signs.scopes or any(scope in granted for scope in signs.scopes))
    )


def _words(scope: Any) -> list[Any]:
    """Scopes come as words of one text, or as a list."""
    if isinstance(scope, str):
        return scope.split()
    return scope if isinstance(scope, list) else []


def _is_of(issuer: str, name: str) -> bool:
    return issuer.startswith(name[:-1]) if name.endswith("*") else issuer == name


def row_of(text: str) -> CredentialRow | None:
    """What the table says of it; None where it is not known."""
    return ROWS.get(classify(text))


def client_refusal(text: str) -> Refusal | None:
    """The answer to a client that sends a subscription login instead of a key; None for everything else."""
    row = row_of(text)
    if row is None or row.use is not Use.REFUSED:
        return None
    why = row.reason if row.reason.startswith(".") else ""
    return Refusal(
        401,
        "subscription_token",
        f"This request carries {row.what}, which is not accepted here and was not stored{why}. "
        f"Use a key of this gateway (it begins with sk-th-): {row.instead}",
        should_retry=False,
    )


def upstream_problem(text: str) -> str | None:
    """Why this text cannot be a provider's credential, for the operator to read; None if nothing speaks against it."""
    if not text.strip(_WRAPPING):
        return "The credential is empty. Put in the provider's API key."
    row = row_of(text)
    if row is None or row.use is Use.UPSTREAM:
        return None
    return f"This is {row.what}{row.reason}. {row.way_out}"
