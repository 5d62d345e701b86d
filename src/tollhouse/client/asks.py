"""What is asked: a request to the management API and the type of its answer."""

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import UNSET, UnsetType

T = TypeVar("T")
ROOT: Final = "/api/v1"
PAGE: Final = 200
"""Items of one page, where nobody says."""

Unset = UnsetType
__all__ = ["UNSET", "Ask", "PageAsk", "Unset", "ask", "page", "segment"]


class Page(msgspec.Struct, Generic[T]):
    """A part of a list; `next_cursor` is None on the last."""

    items: list[T]
    next_cursor: str | None = None


class Ask(msgspec.Struct, Generic[T], frozen=True):
    """One request. `answer` is the type its body is read as."""

    method: str
    path: str
    answer: Any
    body: Mapping[str, Any] | None = None
    query: Mapping[str, Any] = {}
    if_match: str | None = None

    def __repr__(self) -> str:
        """Without the body, which may hold a secret: what is printed ends up in logs."""
        return f"Ask({self.method!r}, {self.path!r})"


class PageAsk(msgspec.Struct, Generic[T], frozen=True):
    """A list, asked for page by page."""

    path: str
    item: Any
    query: Mapping[str, Any] = {}

    def page(self, cursor: str | None, limit: int) -> Ask[Page[T]]:
        query = {**self.query, "limit": limit} | ({} if cursor is None else {"cursor": cursor})
        return Ask("GET", self.path, Page[self.item], query=query)  # type: ignore[name-defined]  # a type at run time


def ask(
    method: str,
    path: str,
    answer: type[T],
    body: Mapping[str, Any] | None = None,
    *,
    if_match: str | None = None,
    **query: Any,
) -> Ask[T]:
    """`body` without the fields that are UNSET, `query` without those that are None."""
    given = None if body is None else {name: value for name, value in body.items() if value is not UNSET}
    return Ask(method, ROOT + path, answer, given, _asked(query), if_match)


def page(path: str, item: type[T], **query: Any) -> PageAsk[T]:
    return PageAsk(ROOT + path, item, _asked(query))


def segment(text: str) -> str:
    """One segment of a path, whatever it holds."""
    return quote(text, safe="")


def _asked(query: Mapping[str, Any]) -> dict[str, Any]:
    words = {True: "true", False: "false"}
    return {
        name: words[value] if isinstance(value, bool) else value for name, value in query.items() if value is not None
    }
