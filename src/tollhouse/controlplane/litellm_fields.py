"""LiteLLM's fields: which are honoured, which are refused, and how the honoured ones are read.

Nothing that restricts or grants is dropped in silence: a field of LiteLLM's that has no counterpart here is refused by
name as soon as it says anything, and so is one that nobody knows. Empty values (null, false, "", [], {}) say nothing;
clients send them for every field they have.

    honoured   user_id team_id key_alias models max_budget budget_duration rpm_limit tpm_limit max_parallel_requests
               duration metadata tags (a label: kept as `tags` in the metadata, where LiteLLM keeps it)
    ignored    IGNORED: what LiteLLM fills in itself
    refused    REFUSED, with the reason and what to do instead
"""

import re
from calendar import monthrange
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema
from starlette.requests import ClientDisconnect

from tollhouse.controlplane.problems import Problem, invalid
from tollhouse.controlplane.shapes import (
    MAX_LIMIT,
    MAX_MODELS,
    Input,
    LimitsIn,
    Metadata,
    ModelGlob,
    NameText,
    UserIdText,
    small,
)
from tollhouse.controlplane.times import NS_PER_S, parse_duration_s
from tollhouse.terms.money import decimal_usd, parse_usd
from tollhouse.terms.people import BudgetWindow

MAX_KEYS = 100
"""Keys and names of keys that one request deletes at most; each name is sought among all keys."""
MAX_TAGS = 50
_MAX_AMOUNT_CHARS: Final = 40
_MAX_MONTHS: Final = 1_200

IGNORED: Final = frozenset({"key_name", "created_at", "created_by", "updated_at", "updated_by"})

_NO_GROUPS: Final = (
    "there are users and teams here, no other groups; put the key into a team, or give it its own limits"
)
_PER_MODEL: Final = "a key's limits and budget hold over all its models; give each model a key of its own"
_NO_ROUTES: Final = "a key may call every model route and only those; leave it out"
_NO_CONTENT_RULES: Final = "what a call contains is not checked or changed here"
_NO_ROTATION: Final = "keys do not rotate by themselves; POST /api/v1/keys/{key_id}/rotate does it, with a grace period"

REFUSED: Final = {
    "access_group_ids": _NO_GROUPS,
    "agent_id": _NO_GROUPS,
    "budget_id": "budgets are not shared between keys; give max_budget and budget_duration",
    "end_user_budget_id": _NO_GROUPS,
    "organization_id": _NO_GROUPS,
    "project_id": _NO_GROUPS,
    "aliases": "a model keeps its name here; have the client ask for the model itself",
    "config": "a key has no configuration of its own here",
    "permissions": _NO_CONTENT_RULES,
    "router_settings": "a key has no routes of its own here",
    "budget_fallbacks": "a key has no routes of its own here",
    "budget_limits": "give one max_budget here, and more of them at /api/v1/budgets",
    "mcp_rpm_limit": _PER_MODEL,
    "model_max_budget": _PER_MODEL,
    "model_rpm_limit": _PER_MODEL,
    "model_tpm_limit": _PER_MODEL,
    "tag_rpm_limit": _PER_MODEL,
    "tpd_limit": "set a budget of tokens a day at /api/v1/budgets, such as `1M tokens/day`",
    "rpm_limit_type": "a limit here is a limit, never shared out or exceeded; leave it out",
    "tpm_limit_type": "a limit here is a limit, never shared out or exceeded; leave it out",
    "throttle_on_budget_exceeded": "a budget here is hard; leave it out",
    "default_estimated_output_tokens": "a call is held at its worst case, which it states itself by max_tokens",
    "default_estimated_output_tokens_per_model": "a call is held at its worst case, which it states by max_tokens",
    "soft_budget": "nobody is warned of a budget here; what is left is at /key/info",
    "temp_budget_expiry": "raise max_budget, and lower it again",
    "temp_budget_increase": "raise max_budget, and lower it again",
    "spend": "what was spent is what the ledger says; it cannot be set",
    "allowed_passthrough_routes": _NO_ROUTES,
    "allowed_routes": _NO_ROUTES,
    "denied_passthrough_routes": _NO_ROUTES,
    "allowed_vector_store_indexes": _NO_ROUTES,
    "key_type": _NO_ROUTES,
    "object_permission": _NO_ROUTES,
    "allowed_cache_controls": _NO_CONTENT_RULES,
    "disable_global_guardrails": _NO_CONTENT_RULES,
    "enable_prompt_caching": _NO_CONTENT_RULES,
    "enforced_params": _NO_CONTENT_RULES,
    "guardrails": _NO_CONTENT_RULES,
    "policies": _NO_CONTENT_RULES,
    "prompts": _NO_CONTENT_RULES,
    "auto_rotate": _NO_ROTATION,
    "rotation_interval": _NO_ROTATION,
    "blocked": "a key cannot be blocked for a while here; block its user, or delete the key for good",
    "send_invite_email": "no mail is sent from here",
}
_ALSO_NOTHING: Final[dict[str, tuple[Any, ...]]] = {
    "key_type": ("default", "llm_api"),
    "rpm_limit_type": ("best_effort_throughput",),
    "tpm_limit_type": ("best_effort_throughput",),
    "spend": (0,),
}
"""What else says no more than what holds here anyway."""

WINDOWS: Final = {
    "1h": BudgetWindow.HOUR,
    "60m": BudgetWindow.HOUR,
    "hourly": BudgetWindow.HOUR,
    "5h": BudgetWindow.FIVE_HOURS,
    "24h": BudgetWindow.DAY,
    "1d": BudgetWindow.DAY,
    "daily": BudgetWindow.DAY,
    "7d": BudgetWindow.WEEK,
    "1w": BudgetWindow.WEEK,
    "weekly": BudgetWindow.WEEK,
    "30d": BudgetWindow.MONTH,
    "1mo": BudgetWindow.MONTH,
    "monthly": BudgetWindow.MONTH,
}
"""LiteLLM, too, starts a day at midnight, a week on Monday, and both `30d` and `1mo` on the first of the month."""
DURATIONS: Final = {
    BudgetWindow.HOUR: "1h",
    BudgetWindow.FIVE_HOURS: "5h",
    BudgetWindow.DAY: "1d",
    BudgetWindow.WEEK: "7d",
    BudgetWindow.MONTH: "1mo",
    BudgetWindow.TOTAL: None,
}
"""How a window is told to clients of LiteLLM."""

NO_BUDGET: Final = "says when max_budget starts anew; give max_budget as well"

_ALL_MODELS: Final = "all-proxy-models"
_OTHER_MODELS: Final = ("all-team-models", "no-default-models")


def _window(text: object) -> BudgetWindow | None:
    if text is None or text == "":
        return None
    window = WINDOWS.get(text.strip().lower()) if isinstance(text, str) else None
    if window is None:
        raise ValueError(
            "a budget starts anew every 1h, 5h (from its first use), 24h or 1d, 7d or 1w, or 30d or 1mo (on the first "
            "of the month); leave it out for a budget in total"
        )
    return window


def _nusd(amount: object) -> int | None:
    if amount is None or amount == "":
        return None
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal | str):
        raise ValueError("is an amount in USD, such as 100 or 0.05")
    if len(str(amount)) > _MAX_AMOUNT_CHARS:
        raise ValueError(f"is an amount in USD of at most {_MAX_AMOUNT_CHARS} characters")
    return parse_usd(amount)


def _globs(models: object) -> object:
    """Names and globs; LiteLLM's word for all is written as its empty list."""
    if not isinstance(models, list):
        return models
    for word in _OTHER_MODELS:
        if word in models:
            raise ValueError(f"there is no {word} here; name the models, or leave the list empty for all")
    return [] if _ALL_MODELS in models else models


def _no_bool(number: object) -> object:
    if isinstance(number, bool):
        raise ValueError("is a whole number")
    return number


Count = Annotated[int | None, Field(ge=1, le=MAX_LIMIT), BeforeValidator(_no_bool)]
AmountNusd = Annotated[int | None, BeforeValidator(_nusd), WithJsonSchema({"type": "number", "minimum": 0})]
"""USD as a number, read exactly from its digits; `""` is none, as in LiteLLM."""
Window = Annotated[
    BudgetWindow | None, BeforeValidator(_window), WithJsonSchema({"type": "string", "enum": list(WINDOWS)})
]
_LIMITS: Final = {
    "rpm_limit": "requests_per_minute",
    "tpm_limit": "tokens_per_minute",
    "max_parallel_requests": "parallel_requests",
}


class HolderFields(Input):
    """What keys, users and teams have in common."""

    models: Annotated[list[ModelGlob] | None, Field(max_length=MAX_MODELS), BeforeValidator(_globs)] = None
    """Empty admits every model."""
    max_budget: AmountNusd = None
    budget_duration: Window = None
    rpm_limit: Count = None
    tpm_limit: Count = None
    max_parallel_requests: Count = None
    metadata: Metadata | None = None
    tags: Annotated[list[NameText], Field(max_length=MAX_TAGS)] | None = None

    def limits(self) -> LimitsIn:
        """The limits that are given; null removes one."""
        return LimitsIn(**{_LIMITS[name]: getattr(self, name) for name in self.model_fields_set & _LIMITS.keys()})

    def labels(self, base: dict[str, Any]) -> dict[str, Any]:
        """`base`, or the metadata given instead, with the tags given. Raises Problem (400) when that is too large."""
        metadata = base if self.metadata is None else self.metadata
        try:
            return metadata if self.tags is None else small({**metadata, "tags": self.tags})
        except ValueError as error:
            raise invalid("metadata", str(error)) from error

    def budget_text(self) -> str | None:
        """The budget given, as `controlplane.budgets` reads it. Raises Problem (400) for a window of nothing."""
        if self.max_budget is None:
            if self.budget_duration is not None:
                raise invalid("budget_duration", NO_BUDGET)
            return None
        return budget_text(self.max_budget, self.budget_duration or BudgetWindow.TOTAL)


class KeyFields(HolderFields):
    """What making and changing a key have in common."""

    user_id: UserIdText | None = None
    team_id: UserIdText | None = None
    key_alias: NameText | None = None
    duration: Annotated[str, Field(max_length=20)] | None = None

    def expires_at_ns(self, now_ns: int) -> int | None:
        """When a key ends that is to last `duration` from now; None is never. Raises Problem (400)."""
        text = (self.duration or "-1").lower()
        if text == "-1":
            return None
        now_s = now_ns // NS_PER_S
        months = re.fullmatch(r"(\d{1,4})mo", text, re.ASCII)
        if months is not None:
            at_s = _months_on(now_s, min(int(months[1]), _MAX_MONTHS))
        else:
            try:
                at_s = now_s + parse_duration_s(text)
            except ValueError as error:
                raise invalid("duration", str(error)) from error
        if at_s <= now_s:
            raise invalid("duration", "is over at once; say how long the key shall work, or delete it")
        return at_s * NS_PER_S


class GenerateIn(KeyFields):
    pass


class UpdateIn(KeyFields):
    key: NameText = ""


class BlockIn(Input):
    key: NameText = Field(min_length=1)


class DeleteIn(Input):
    keys: Annotated[list[NameText], Field(max_length=MAX_KEYS)] | None = None
    key_aliases: Annotated[list[NameText], Field(max_length=MAX_KEYS)] | None = None


def budget_text(limit_nusd: int, window: BudgetWindow) -> str:
    return f"{decimal_usd(limit_nusd)}/{window.value}"


def _months_on(now_s: int, months: int) -> int:
    """The same day and time so many months later, in UTC; the month's last day where it has no such day."""
    now = datetime.fromtimestamp(now_s, UTC)
    years, month = divmod(now.month - 1 + months, 12)
    year, month = now.year + years, month + 1
    return int(now.replace(year=year, month=month, day=min(now.day, monthrange(year, month)[1])).timestamp())


_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_plain = msgspec.json.Decoder().decode
_exact = msgspec.json.Decoder(float_hook=Decimal).decode

InputT = TypeVar("InputT", bound=Input)


async def read_fields(
    request: Request, shape: type[InputT], *, refused: Mapping[str, str] = REFUSED, minted: bool = False
) -> InputT:
    """The body as JSON, whatever its Content-Type says: curl calls it a form unless told otherwise.

    refused  fields that have no counterpart here, with the reason
    minted   the answer will hold a new secret: `key` is refused

    Raises Problem (400) and RequestValidationError, which becomes one.
    """
    try:
        body = await request.body()
    except ClientDisconnect:
        raise Problem(400, "incomplete_body", "The body broke off.") from None
    given = _said(_decoded(body), refused)
    if minted and "key" in given and given.pop("key") not in (None, ""):
        raise invalid("key", "keys are minted here, none is brought along; leave it out and use the one in the answer")
    return checked(shape, given)


def checked(shape: type[InputT], fields: dict[str, Any]) -> InputT:
    """Raises RequestValidationError, which names each wrong field in the answer."""
    try:
        return shape.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        fields = _split(body)
        return {name: (_exact if name == "max_budget" else _plain)(value) for name, value in fields.items()}
    except ArithmeticError:
        raise invalid("max_budget", "is an amount in USD, such as 100 or 0.05") from None
    except RecursionError:
        raise Problem(400, "invalid_json", "The body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid_json", f"The body is not a JSON object: {error}.") from error


def _said(fields: dict[str, Any], refused: Mapping[str, str]) -> dict[str, Any]:
    """The fields that count. Raises Problem (400) for one that cannot be honoured."""
    counted = {}
    for name, value in fields.items():
        reason = refused.get(name)
        if reason is None:
            if name not in IGNORED:
                counted[name] = value
        elif not (value is None or value is False or value in ("", [], {}, *_ALSO_NOTHING.get(name, ()))):
            raise invalid(name, reason)
    return counted
