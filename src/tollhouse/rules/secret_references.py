"""How a secret is named where it must not stand itself: `SCHEME:REST`, such as `env:ANTHROPIC_API_KEY`.

Who may write which is decided here: a helper is a program of this machine, so it stands in the operator's own settings
and never in what comes over the network (the management API, a declared file) or out of the database.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec


class Scheme(msgspec.Struct, frozen=True):
    """One way to name a secret.

    form      how it is written, for people
    declared  whether a declared file may name one so (where `upstream.declared_secrets` lets it)
    patient   whether the gateway starts without it and reads it once it is there
    """

    form: str
    declared: bool = False
    patient: bool = False


SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "env": Scheme("env:NAME", declared=True),
        "file": Scheme("file:/path", declared=True),
        "cmd": Scheme("cmd:HELPER arguments"),
        "vault": Scheme("vault:MOUNT/PATH#FIELD", declared=True, patient=True),
        "stored": Scheme("stored:NAME", declared=True, patient=True),
    }
)


def split(reference: str) -> tuple[str, str]:
    """Scheme and rest."""
    scheme, _, rest = reference.partition(":")
    return scheme, rest


def problem(reference: str, *, declared: bool = False) -> str | None:
    """Why this cannot name a secret, without repeating it (it may be the secret itself); None when it can."""
    scheme, rest = split(reference)
    open_ones = [known for known in SCHEMES.values() if known.declared or not declared]
    forms = f"{', '.join(one.form for one in open_ones[:-1])} or {open_ones[-1].form}"
    if scheme not in SCHEMES:
        return f"write {forms}; a key itself never stands in a file"
    if declared and not SCHEMES[scheme].declared:
        return f"{SCHEMES[scheme].form} stands in the operator's own settings only; write {forms}"
    if not rest.strip():
        return f"write {SCHEMES[scheme].form}: nothing stands behind {scheme}:"
    if scheme == "vault":
        path, _, field = rest.partition("#")
        mount, _, rest = path.partition("/")
        if not (mount.strip() and rest.strip("/ ") and field.strip()):
            return f"write {SCHEMES[scheme].form}: a mount, a path and a field"
        if {"..", "."} & set(path.split("/")) or set(path) & set("?%\\"):
            return "the path of a secret has no `.`, `..`, `?`, `%` or backslash"
    return None


def shown(reference: str) -> str:
    """A reference as everybody may see it who sees providers: of a helper, its name without its arguments."""
    scheme, rest = split(reference)
    if scheme == "cmd":
        helper, _, arguments = rest.strip().partition(" ")
        return f"cmd:{helper} …" if arguments.strip() else f"cmd:{helper}"
    return reference
