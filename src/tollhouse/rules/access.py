"""Which models a key may call.

An entry is a glob over the whole name: `*` is any run of characters, `?` any one, everything else itself; upper and
lower case differ.

Snapshots. Providers serve one model under an alias and under dated names, so an entry that matches a name also admits
    name-YYYYMMDD       claude-sonnet-4-5-20250929     (Anthropic)
    name@YYYYMMDD       claude-sonnet-4-5@20250929     (Anthropic on Vertex AI)
    name-YYYY-MM-DD     gpt-5-2025-08-07               (OpenAI)
    name-latest         claude-3-5-sonnet-latest       (a pointer at the newest of those snapshots)
and an entry `name-latest` admits name's dated snapshots, for these are what it points at (`latest` never leaves the
family). Nothing else may follow a name: `claude-sonnet-4-5` does not admit `claude-sonnet-4-5-fast`, `claude-sonnet-4`
does not admit `claude-sonnet-4-5`. A dated entry admits that one snapshot only; the alias may move on. Four digits
(`gpt-4-0613`, `llama3-8b-8192`) are a date with some providers and a size with others: they need an entry of their own.

Provider prefix. `anthropic/claude-opus-5` is looked at as written and without its first segment. An entry with a prefix
(`anthropic/*`) matches only names that carry it: hand in the resolved name, `provider/upstream_model`, and it does not
matter how the client wrote it.
"""

import re
from functools import lru_cache
from typing import Final

_SNAPSHOT: Final = re.compile(
    r"(?:[-@]20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|-20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))\Z",
    re.ASCII,
)
_LATEST: Final = "-latest"
_COMPILED_PATTERNS: Final = 4096


def admits(patterns: tuple[str, ...] | None, model: str) -> bool:
    """Whether any entry admits the model, with or without its provider prefix. None admits every model, () none."""
    if patterns is None:
        return True
    if any(matches(pattern, model) for pattern in patterns):
        return True
    _, slash, bare = model.partition("/")
    return bool(slash and bare) and any(matches(pattern, bare) for pattern in patterns)


def matches(pattern: str, model: str) -> bool:
    """Whether one entry admits this name or the one it is a snapshot of; a provider prefix is part of the name here."""
    if pattern == model:
        return True
    glob = _compiled(pattern)
    if glob.fullmatch(model):
        return True
    dated = _SNAPSHOT.search(model)
    if dated:
        alias = model[: dated.start()]
        return bool(alias) and (glob.fullmatch(alias) or glob.fullmatch(alias + _LATEST)) is not None
    alias = model.removesuffix(_LATEST)
    return alias not in ("", model) and glob.fullmatch(alias) is not None


@lru_cache(maxsize=_COMPILED_PATTERNS)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The glob as a regular expression without bad backtracking: each piece but the last is sought once, leftmost."""
    first, *rest = (
        "".join("." if char == "?" else re.escape(char) for char in piece)
        for piece in re.sub(r"\*+", "*", pattern).split("*")
    )
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in middle) + ".*" + last, re.DOTALL)
