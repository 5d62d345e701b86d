"""What the nouns of the API share: strict inputs, limits, amounts, pages.

Inputs forbid unknown fields: a misspelt limit must not be a limit that is silently missing. Amounts in answers are
exact decimal strings in their unit (USD, tokens, requests): integers of nano-USD do not survive JavaScript's numbers.
"""

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tollhouse.controlplane.problems import invalid
from tollhouse.terms.money import decimal_usd
from tollhouse.terms.people import BudgetUnit, Limits

MAX_LIMIT = 10**12
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 32
"""Some 250 levels are more than an answer can be made of, and some 900 more than can be read back."""
MAX_PAGE = 500
DEFAULT_PAGE = 100
MAX_CURSOR_CHARS = 2_048

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, fields: Any) -> Any:
        """JSON can spell U+0000, PostgreSQL cannot store it in a text."""
        if isinstance(fields, dict):
            for name, value in fields.items():
                if isinstance(value, str) and "\0" in value:
                    raise ValueError(f"{name} holds U+0000")
        return fields


def _printable(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("holds control characters")
    return text


def _addressable(text: str) -> str:
    """Everything a path can carry: dot segments are resolved by clients and proxies on the way (RFC 3986, 5.2.4)."""
    if any(part in (".", "..") for part in text.split("/")):
        raise ValueError("holds a part that is `.` or `..`, which no URL can carry")
    return _printable(text)


def _no_facts() -> dict[str, Any]:
    return {}


def small(metadata: dict[str, Any]) -> dict[str, Any]:
    """The same metadata. Raises ValueError when it is too large or too deep."""
    level: list[Any] = [metadata]
    for _ in range(MAX_METADATA_DEPTH):
        level = [inner for one in level if isinstance(one, dict | list) for inner in _inside(one)]
    if level:
        raise ValueError(f"is nested more than {MAX_METADATA_DEPTH} levels deep")
    if len(msgspec.json.encode(metadata)) > MAX_METADATA_BYTES:
        raise ValueError(f"is larger than {MAX_METADATA_BYTES} bytes as JSON")
    return metadata


def _inside(tree: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return tree.values() if isinstance(tree, dict) else tree


def _glob(text: str) -> str:
    if not text or any(character.isspace() for character in text):
        raise ValueError("a model pattern is a name or a glob such as claude-* without spaces")
    return text


UserIdText = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_addressable)]
"""Any string the application chose."""
_NAME_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
TeamName = Annotated[str, Field(pattern=_NAME_ID)]
"""The id of a team, chosen by who makes it."""
PlanName = Annotated[str, Field(pattern=_NAME_ID)]
"""The id of a plan; it stands in the ids of the budgets it gives, and so has no `@` or `:`."""
NameText = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
Metadata = Annotated[dict[str, Any], AfterValidator(small)]
MetadataIn = Annotated[Metadata, Field(default_factory=_no_facts)]
ModelGlob = Annotated[str, Field(max_length=200), AfterValidator(_glob)]
MAX_MODELS = 200
ModelGlobs = Annotated[list[ModelGlob], Field(min_length=1, max_length=MAX_MODELS)]

CursorQuery = Annotated[str | None, Query(max_length=MAX_CURSOR_CHARS, description="`next_cursor` of the page before")]
LimitQuery = Annotated[int, Query(ge=1, le=MAX_PAGE)]

LimitNumber = Annotated[int | None, Field(ge=1, le=MAX_LIMIT)]


class LimitsIn(Input):
    """Only the fields that are given change; null removes a limit."""

    requests_per_minute: LimitNumber = None
    tokens_per_minute: LimitNumber = None
    parallel_requests: LimitNumber = None
    requests_per_day: LimitNumber = None
    requests_per_month: LimitNumber = None

    def over(self, base: Limits) -> Limits:
        """`base` with the given fields replaced."""
        return msgspec.structs.replace(base, **{name: getattr(self, name) for name in self.model_fields_set})


class LimitsOut(BaseModel):
    requests_per_minute: int | None
    tokens_per_minute: int | None
    parallel_requests: int | None
    requests_per_day: int | None
    requests_per_month: int | None


def limits_out(limits: Limits) -> LimitsOut:
    return LimitsOut(**{name: getattr(limits, name) for name in LimitsOut.model_fields})


def amount_text(amount: int, unit: BudgetUnit) -> str:
    """Exact decimal string in the unit: USD for nano-USD, else the whole number."""
    return decimal_usd(amount) if unit is BudgetUnit.USD else str(amount)


Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """`next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None


def cursor_text(position: str) -> str:
    """A position in a list as an opaque word; what it holds is between the server and itself."""
    return base64.urlsafe_b64encode(position.encode()).rstrip(b"=").decode()


def cursor_position(text: str | None) -> str:
    """Empty for the beginning. Raises Problem (400) for a cursor this list never gave."""
    if text is None:
        return ""
    try:
        position = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        position = "\0"
    if "\0" in position:
        raise invalid("cursor", "is not one this list gave; start again without it")
    return position


Found = TypeVar("Found")


def cut(rows: Sequence[Found], limit: int, position: Callable[[Found], str]) -> tuple[Sequence[Found], str | None]:
    """The page and the next cursor, of rows that were asked for one more than the page holds."""
    page = rows[:limit]
    return page, cursor_text(position(page[-1])) if len(rows) > limit else None
