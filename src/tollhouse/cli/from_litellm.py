"""LiteLLM's proxy YAML in our words: a declared file, and in sentences everything that could not be taken over.

Nothing that restricts is dropped in silence, and no key is ever copied: where one stands in the file, the variable is
named into which it belongs.

    model_list         providers, one for each vendor, address and credential; their models by the vendor's names
    litellm_settings   max_budget, budget_duration: a budget over everybody; default_internal_user_params: a plan
    all else           a note, unless it has no meaning here
"""

import itertools
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from tollhouse.rules.budgets import parse_budget
from tollhouse.terms.money import parse_usd

DEFAULT_PLAN: Final = "litellm-default"

_WINDOWS: Final = {
    **dict.fromkeys(("1h", "60m", "3600s"), "hour"),
    **dict.fromkeys(("24h", "1d", "86400s"), "day"),
    **dict.fromkeys(("7d", "1w"), "week"),
    **dict.fromkeys(("30d", "1mo", "31d"), "month"),
}
_OPENAI_LIKE: Final = {
    "openai": ("", "OPENAI_API_KEY"),
    "text-completion-openai": ("", "OPENAI_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "together_ai": ("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
    "fireworks_ai": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "hosted_vllm": (None, ""),
    "openai_like": (None, ""),
    "litellm_proxy": (None, ""),
    "lm_studio": (None, ""),
    "custom_openai": (None, ""),
}
"""Vendors whose address speaks OpenAI's dialect: base URL (None: it must be written), variable of the key."""
_WHOLE_VENDOR: Final = {
    "anthropic": ["claude-*"],
    "openai": ["gpt-*", "o1*", "o3*", "o4*", "chatgpt-*", "codex-*", "text-embedding-*"],
}
_SILENT_WORDS = """
    drop_params set_verbose json_logs num_retries request_timeout modify_params telemetry store_model_in_db
    database_connection_pool_limit proxy_batch_write_at disable_spend_logs background_health_checks
    health_check_interval enable_pre_call_checks allowed_fails cooldown_time timeout stream_timeout max_retries
    model_info mode use_in_pass_through supports_vision supports_function_calling
"""
_SILENT: Final = frozenset(_SILENT_WORDS.split())
"""What has no counterpart, and whose absence neither gives nor takes anything."""
_REASONS: Final = {
    "fallbacks": "a call goes to one provider; there are no fallbacks yet",
    "context_window_fallbacks": "a call goes to one provider; there are no fallbacks yet",
    "content_policy_fallbacks": "a call goes to one provider; there are no fallbacks yet",
    "default_fallbacks": "a call goes to one provider; there are no fallbacks yet",
    "success_callback": "calls stand in the ledger and the request log; nothing is sent elsewhere",
    "failure_callback": "calls stand in the ledger and the request log; nothing is sent elsewhere",
    "callbacks": "calls stand in the ledger and the request log; nothing is sent elsewhere",
    "cache": "answers are not cached",
    "cache_params": "answers are not cached",
    "guardrails": "what a call contains is not checked or changed",
    "database_url": "keys, users and teams in LiteLLM's database are not read; make them anew",
    "litellm_jwtauth": "write `jwt:` into the settings",
    "enable_jwt_auth": "write `jwt:` into the settings",
    "alerting": "nobody is alerted from here",
    "max_parallel_requests": "limit users, teams, keys or a plan",
    "global_max_parallel_requests": "limit users, teams, keys or a plan",
    "default_team_params": "give each team its limits, or a plan",
    "default_team_settings": "give each team its limits, or a plan",
    "default_key_generate_params": "give each key its limits, or a plan",
    "upperbound_key_generate_params": "limits above a key's own are its user's, its team's and their plans'",
    "max_user_budget": "give each user a budget, or a plan that has one",
    "pass_through_endpoints": "only models are called here",
    "redis_host": "limits are counted in this process",
    "redis_password": "limits are counted in this process",
    "redis_port": "limits are counted in this process",
    "routing_strategy": "the first provider whose patterns admit a model serves it",
    "mcp_servers": "only models are called here",
}


class Converted(msgspec.Struct):
    """`declared` is a declared file's content; `notes` say what else to do, and why."""

    declared: dict[str, Any]
    notes: list[str]


def convert(config: Mapping[str, Any]) -> Converted:
    """Raises ValueError when this is no configuration of LiteLLM's."""
    if not isinstance(config.get("model_list", []), list):
        raise ValueError("model_list is no list; is this LiteLLM's config.yaml?")
    if not config.keys() & {"model_list", "litellm_settings", "general_settings", "router_settings"}:
        raise ValueError("there is no model_list, litellm_settings or general_settings; is this LiteLLM's config.yaml?")
    reading = _Reading()
    for place, entry in enumerate(config.get("model_list") or ()):
        reading.model(entry, f"model_list[{place}]")
    declared: dict[str, Any] = {}
    settings = _section(config, "litellm_settings")
    plan = reading.default_plan(settings)
    if plan:
        declared["plans"] = [plan]
    budget = reading.budget(settings, "litellm_settings")
    if budget:
        declared["budgets"] = [{"scope": "organisation", "amount": budget}]
    if reading.providers:
        declared["providers"] = list(reading.providers.values())
    reading.aliases(_section(config, "router_settings"))
    reading.general(_section(config, "general_settings"))
    for name in ("litellm_settings", "router_settings", "general_settings"):
        reading.rest(_section(config, name), name)
    for name in sorted(map(str, config.keys() - _SECTIONS)):
        reading.note(name, _REASONS.get(name, "has no counterpart"))
    if config.get("environment_variables"):
        names = ", ".join(map(str, config["environment_variables"]))
        reading.note("environment_variables", f"set them where the server runs ({names}); their values are not copied")
    return Converted(declared, reading.notes)


_SECTIONS: Final = frozenset(
    ("model_list", "litellm_settings", "router_settings", "general_settings", "environment_variables")
)
_TAKEN_WORDS = """
    max_budget budget_duration default_internal_user_params max_internal_user_budget
    internal_user_budget_duration model_group_alias master_key
"""
_TAKEN: Final = frozenset(_TAKEN_WORDS.split())
_PARAMS_TAKEN: Final = frozenset(("model", "api_key", "api_base", "base_url", "custom_llm_provider"))
_NO_KEYS: Final = ("", "none", "None", "EMPTY", "dummy", "fake", "fake-key", "not-needed", "no-key")
"""What people write where a server of their own asks for no key."""
_PRICES: Final = {"input_cost_per_token": "input_usd_per_mtok", "output_cost_per_token": "output_usd_per_mtok"}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


class _Reading:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.providers: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._served: dict[str, str] = {}

    def note(self, place: str, text: str) -> None:
        self.notes.append(f"{place}: {text}")

    # --- models

    def model(self, entry: Any, place: str) -> None:
        params = entry.get("litellm_params") if isinstance(entry, Mapping) else None
        asked = entry.get("model_name") if isinstance(entry, Mapping) else None
        if not isinstance(params, Mapping) or not isinstance(params.get("model"), str) or not isinstance(asked, str):
            self.note(place, "has no model_name, or no litellm_params with a model")
            return
        place = f"{place} ({asked})"
        vendor, model = _vendor(params)
        row = self._row(vendor, params, place)
        if row is None:
            return
        models = _WHOLE_VENDOR.get(vendor, [f"{row['name']}/*"]) if model == "*" else [model]
        row["models"] += [name for name in models if name not in row["models"]]
        self._names(asked, model, row["name"], place)
        self._beside(params, model, place)

    def _row(self, vendor: str, params: Mapping[str, Any], place: str) -> dict[str, Any] | None:
        base = params.get("api_base") or params.get("base_url") or ""
        if vendor == "anthropic":
            kind, known, variable = "anthropic", "", "ANTHROPIC_API_KEY"
        elif vendor in _OPENAI_LIKE:
            kind = "openai"
            address, variable = _OPENAI_LIKE[vendor]
            known = address or ""
            if address is None and not base:
                self.note(place, f"a {vendor} model needs an api_base")
                return None
        else:
            self.note(place, f"there is no kind of provider for {vendor}: Anthropic's and OpenAI's are spoken")
            return None
        base = str(base or known)
        if base.startswith("os.environ/"):
            self.note(place, f"write the address that {base.removeprefix('os.environ/')} holds into base_url")
            return None
        if urlsplit(base).username or urlsplit(base).password:
            self.note(place, "its address holds a password, which is not copied: write the row yourself")
            return None
        key = self._reference(params.get("api_key"), vendor, variable if not params.get("api_base") else "", place)
        found = self.providers.get((kind, base, key))
        if found is None:
            taken = {row["name"] for row in self.providers.values()}
            found = {"name": _free(_plain(vendor), taken), "kind": kind}
            found |= {"base_url": base} if base else {}
            found |= {"api_key": key} if key else {}
            found["models"] = []
            self.providers[kind, base, key] = found
        return found

    def _reference(self, key: Any, vendor: str, variable: str, place: str) -> str:
        """Where the credential is read from; never what it is."""
        if key is None or key in _NO_KEYS:
            return f"env:{variable}" if variable else ""
        if isinstance(key, str) and key.startswith("os.environ/"):
            return f"env:{key.removeprefix('os.environ/')}"
        name = variable or f"{_plain(vendor).upper().replace('-', '_')}_API_KEY"
        self.note(
            place, f"its api_key stands in the file: put it into the environment variable {name}; it is not copied"
        )
        return f"env:{name}"

    def _names(self, asked: str, model: str, row: str, place: str) -> None:
        """Clients ask for the vendor's own names, with or without the provider's in front."""
        served = self._served.setdefault(asked, row)
        if served != row:
            self.note(place, f"{asked} is served by {served} already: the first provider serves it")
        if asked not in (model, f"{row}/{model}", "*") and not (model == "*" and asked.endswith("*")):
            self.note(place, f"a model keeps its name: have clients ask for {model} instead of {asked}")

    def _beside(self, params: Mapping[str, Any], model: str, place: str) -> None:
        prices = {ours: params[name] for name, ours in _PRICES.items() if isinstance(params.get(name), int | float)}
        if prices:
            told = ", ".join(f'{name}: "{round(cost * 1e6, 9):g}"' for name, cost in prices.items())
            self.note(place, f'write its prices into the settings: prices: {{"{model}": {{{told}}}}}')
        for name in sorted(params.keys() - _PARAMS_TAKEN - _SILENT - _PRICES.keys()):
            if name in ("rpm", "tpm", "max_parallel_requests", "max_budget", "budget_duration"):
                self.note(place, f"{name} limits a deployment; here users, teams, keys and plans are limited")
            else:
                self.note(
                    place, f"{name} {_REASONS.get(name, 'is not set on the way: clients send what they want sent')}"
                )

    # --- people and money

    def budget(self, settings: Mapping[str, Any], place: str, prefix: str = "") -> str | None:
        """`20/month`; None when nothing is limited."""
        limit = settings.get(f"{prefix}max_budget")
        if not isinstance(limit, int | float) or isinstance(limit, bool) or limit <= 0:
            return None
        duration = settings.get(f"{prefix}budget_duration")
        window = "total" if duration is None else _WINDOWS.get(str(duration).lower())
        if window is None:
            self.note(
                place, f"a budget starts anew every hour, day, week or month, not every {duration}: set it yourself"
            )
            return None
        text = f"{_decimal(limit)}/{window}"
        try:
            parse_usd(_decimal(limit))
            parse_budget(text)
        except ValueError as error:
            self.note(place, str(error))
            return None
        return text

    def default_plan(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """What LiteLLM gives each new user, as a plan."""
        params = _section(settings, "default_internal_user_params")
        place = "litellm_settings.default_internal_user_params"
        amount = self.budget(params, place)
        if amount is None and settings.get("max_internal_user_budget"):
            mapped = {
                "max_budget": settings["max_internal_user_budget"],
                "budget_duration": settings.get("internal_user_budget_duration"),
            }
            amount = self.budget(mapped, "litellm_settings.max_internal_user_budget")
        models = params.get("models")
        limits = {"rpm_limit": "requests_per_minute", "tpm_limit": "tokens_per_minute"}
        found: dict[str, Any] = {
            ours: params[name] for name, ours in limits.items() if isinstance(params.get(name), int)
        }
        plan: dict[str, Any] = {"plan_id": DEFAULT_PLAN, "description": "What LiteLLM gave each new user"}
        plan |= {"budgets": [amount]} if amount else {}
        plan |= {"limits": found} if found else {}
        plan |= {"models": models} if isinstance(models, list) and models else {}
        for name in sorted(params.keys() - {"max_budget", "budget_duration", "models", *limits}):
            self.note(place, f"{name} is not a plan's; give it to each user")
        if len(plan) == 2:
            return None
        self.note(place, f"became the plan {DEFAULT_PLAN}: give it to users, or set it as sign_in.default_plan")
        return plan

    def aliases(self, settings: Mapping[str, Any]) -> None:
        for asked, meant in _section(settings, "model_group_alias").items():
            name = meant.get("model", "another model") if isinstance(meant, Mapping) else meant
            place = "router_settings.model_group_alias"
            self.note(place, f"a model keeps its name: have clients ask for {name} instead of {asked}")

    def general(self, settings: Mapping[str, Any]) -> None:
        key = settings.get("master_key")
        if key is None:
            return
        if isinstance(key, str) and key.startswith("os.environ/"):
            name = key.removeprefix("os.environ/")
            read = name in ("LITELLM_MASTER_KEY", "TOLLHOUSE_MASTER_KEY")
            say = "is read as it is" if read else f"is not looked at: set TOLLHOUSE_MASTER_KEY to what {name} holds"
            self.note("general_settings.master_key", f"{name} {say}")
        else:
            text = "stands in the file: put it into the environment variable TOLLHOUSE_MASTER_KEY; it is not copied"
            self.note("general_settings.master_key", text)

    def rest(self, settings: Mapping[str, Any], section: str) -> None:
        for name, value in settings.items():
            if name in _TAKEN or name in _SILENT or value in (None, False, "", [], {}):
                continue
            self.note(f"{section}.{name}", _REASONS.get(name, "has no counterpart"))


def _vendor(params: Mapping[str, Any]) -> tuple[str, str]:
    """LiteLLM's word for the vendor, and the model's name there."""
    model = str(params["model"])
    stated = params.get("custom_llm_provider")
    prefix, slash, rest = model.partition("/")
    if stated:
        return str(stated), model.removeprefix(f"{stated}/")
    if slash and (prefix in _OPENAI_LIKE or prefix == "anthropic" or re.fullmatch(r"[a-z_]+", prefix)):
        return prefix, rest
    return ("anthropic" if model.startswith("claude") else "openai"), model


def _plain(vendor: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "-", vendor.lower()).strip("-_") or "provider"


def _free(name: str, taken: set[str]) -> str:
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(found for found in itertools.chain((name,), numbered) if found not in taken)


def _decimal(amount: float) -> str:
    return f"{Decimal(str(amount)):f}"
