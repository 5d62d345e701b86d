"""One frozen tree from file and environment, read once at start and handed down as narrow values.

Order, the later wins: defaults, the YAML file (`--config`, `TOLLHOUSE_CONFIG`, or `tollhouse.yaml` in the home),
environment variables `TOLLHOUSE_<SECTION>__<NAME>`. Secrets are written as `env:NAME` or `file:/path`, or come from
`<NAME>_FILE`.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tollhouse.rules.budgets import parse_budget
from tollhouse.terms.errors import SettingsError

MIB = 1024 * 1024


def _names(value: Any) -> Any:
    """Lists may be written as one comma-separated string, as environment variables need."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Section(BaseModel):
    """A part of the tree: frozen, and a misspelt name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Listen(Section):
    """Where clients come in."""

    host: str = "127.0.0.1"
    port: int = Field(4000, ge=0, le=65535)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    allow_plain_http: bool = False
    """Off loopback, `serve` refuses plain HTTP unless this is true (a TLS proxy stands in front)."""
    cors_origins: Names = ()
    """Origins whose browsers may call the data plane, such as `https://app.example`. Never `*`."""
    head_timeout_s: float = Field(10.0, gt=0)
    body_timeout_s: float = Field(60.0, gt=0)
    keep_alive_s: float = Field(75.0, gt=0)
    stall_timeout_s: float = Field(120.0, gt=0)
    """How long a client may leave its answer unread before it counts as gone."""
    drain_s: float = Field(30.0, ge=0)
    """How long a shutdown lets answers under way finish."""
    max_head_bytes: int = Field(65_536, ge=1024)
    max_body_bytes: int = Field(32 * MIB, ge=1024)
    max_buffered_bytes: int = Field(1024 * MIB, ge=1024)
    """All request bodies being received at once."""
    max_connections: int = Field(20_000, ge=1)

    @field_validator("cors_origins")
    @classmethod
    def _listed_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if "*" in origin or "://" not in origin or origin.endswith("/") or "/" in origin.split("://", 1)[1]:
                raise ValueError(f"{origin!r} is not an origin; write scheme://host[:port], and never a wildcard")
        return origins

    @model_validator(mode="after")
    def _tls_pair(self) -> "Listen":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        return self


class Upstream(Section):
    """How providers are called."""

    allow_plain_http: bool = False
    ca_file: Path | None = None
    connect_timeout_s: float = Field(10.0, gt=0)
    first_byte_timeout_s: float = Field(300.0, gt=0)
    idle_timeout_s: float = Field(300.0, gt=0)
    total_timeout_s: float = Field(3600.0, gt=0)
    keep_alive_s: float = Field(30.0, gt=0)
    stale_retry_s: float = Field(1.0, ge=0)
    max_connections_per_origin: int = Field(512, ge=1)
    max_waiting_per_origin: int = Field(1024, ge=0)
    max_head_bytes: int = Field(65_536, ge=1024)
    ping_after_s: float = Field(15.0, gt=0)
    """A stream whose provider is silent this long gets the dialect's ping."""
    drain_s: float = Field(120.0, ge=0)
    """How long a call whose client left is still read when the provider bills it anyway."""
    answer_buffer_bytes: int = Field(8 * MIB, ge=0)
    """Whole answers up to this size are held until their cost is known and can stand in a header."""


class ProviderSettings(Section):
    """One provider row."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    kind: Literal["anthropic", "openai"]
    base_url: str = ""
    api_key: str = Field("", repr=False)
    """`env:NAME` or `file:/path`; never the key itself."""
    models: Names
    """Patterns of the models this provider serves, such as `claude-*`."""
    list_models: Names = ()
    """Names to show in `/v1/models`; by default names among the patterns, and known models they admit."""
    price_provider: str | None = None
    cancel_stops_billing: bool | None = None

    @field_validator("api_key")
    @classmethod
    def _only_references(cls, value: str) -> str:
        if value and not value.startswith(("env:", "file:")):
            raise ValueError("write env:NAME or file:/path; a key itself never stands in a settings file")
        return value


class Local(Section):
    """The embedded model."""

    enabled: bool | None = None
    """None: on when no provider is configured and the extra `local` is installed."""
    gguf: Path | None = None
    alias: str = ""
    context_tokens: int = Field(4096, ge=512)
    """Per call."""
    parallel: int = Field(2, ge=1, le=32)
    threads: int = Field(0, ge=0, le=256)
    """0: one less than the machine's cores, at most 8."""
    start_timeout_s: float = Field(60.0, gt=0)


class Money(Section):
    """Budgets of the whole house and numbers of the edge of a budget."""

    organisation_budgets: Names = ()
    """Such as `100/month`; held over all users."""
    min_output_tokens: int = Field(4096, ge=1)
    """A clamp never lowers an output cap below this (or the client's own, if smaller)."""
    default_max_tokens: int = Field(32_000, ge=1)
    default_window_tokens: int = Field(200_000, ge=1)
    """Input bound of a model whose window is unknown, when the body's size cannot bound it."""
    timezone: str = "UTC"

    @field_validator("organisation_budgets")
    @classmethod
    def _readable(cls, budgets: tuple[str, ...]) -> tuple[str, ...]:
        for budget in budgets:
            parse_budget(budget)
        return budgets


class Storage(Section):
    """Journal and database."""

    durability: Literal["process", "group", "strict"] = "group"
    segment_bytes: int = Field(8 * MIB, ge=65_536)
    min_free_bytes: int = Field(64 * MIB, ge=0)
    max_backlog: int = Field(200_000, ge=100)
    """Settled calls waiting for the database; when full, nothing is admitted."""
    max_refused_backlog: int = Field(5_000, ge=0)
    """Refused calls waiting for the request log; more are counted, not kept."""
    max_stranger_rows_per_s: int = Field(20, ge=0)
    """Refused calls without a good key that reach the request log each second; more are counted, not kept."""
    keep_requests_days: int = Field(90, ge=1)
    keep_requests_rows: int = Field(5_000_000, ge=1000)
    """Both bound the rows of requests that cost nothing (refused, free, voided); the ledger keeps every other call."""


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix="TOLLHOUSE_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".tollhouse")
    listen: Listen = Listen()
    upstream: Upstream = Upstream()
    providers: tuple[ProviderSettings, ...] = ()
    only_local: bool = False
    """No provider from the environment either: nothing leaves this machine."""
    local: Local = Local()
    prices: dict[str, dict[str, str | int | float]] = {}
    """Prices and sizes of your own, by model name or glob: `input_usd_per_mtok`, `output_usd_per_mtok`,
    `cache_read_usd_per_mtok`, `cache_write_5m_usd_per_mtok`, `cache_write_1h_usd_per_mtok`, `context_tokens`,
    `max_output_tokens`, … (see rules.catalog.PriceOverride).
    """
    money: Money = Money()
    storage: Storage = Storage()
    master_key: str = Field("", repr=False)
    metrics_open: bool = False
    """Whether /metrics answers without the master key."""
    count_tokens_per_minute: int = Field(1_000, ge=1)
    """Free calls (counting tokens, listing models) per key and minute."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment stands above the file (which comes in as init arguments)."""
        return env_settings, init_settings


NOT_SETTINGS = ("TOLLHOUSE_CONFIG", "TOLLHOUSE_URL", "TOLLHOUSE_MASTER_KEY_FILE", "TOLLHOUSE_API_KEY")
"""Variables of our prefix that commands read, not the tree."""


def load(config: Path | None = None) -> Settings:
    """Read the settings. Raises SettingsError that names file, place and remedy."""
    path = config or (Path(named) if (named := os.environ.get("TOLLHOUSE_CONFIG")) else None)
    home = Path(os.environ.get("TOLLHOUSE_HOME", "~/.tollhouse")).expanduser()
    if path is None and (home / "tollhouse.yaml").is_file():
        path = home / "tollhouse.yaml"
    values = _read_yaml(path) if path is not None else {}
    if "master_key" in values:
        raise SettingsError(
            f"{path}: master_key does not stand in a file; set TOLLHOUSE_MASTER_KEY or TOLLHOUSE_MASTER_KEY_FILE"
        )
    values["master_key"] = master_key()
    _refuse_unknown_variables()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from error
    settings = settings.model_copy(update={"home": settings.home.expanduser().absolute()})
    names = [row.name for row in settings.providers]
    for name in names:
        if names.count(name) > 1 or name == "local":
            raise SettingsError(
                f"{path}: providers: the name {name!r} is taken; names are unique and `local` is the embedded model"
            )
    return settings


def master_key() -> str:
    """TOLLHOUSE_MASTER_KEY or LITELLM_MASTER_KEY, each also as `*_FILE`; empty when unset: then no such key exists."""
    for name in ("TOLLHOUSE_MASTER_KEY", "LITELLM_MASTER_KEY"):
        value = os.environ.get(name, "")
        if not value and (path := os.environ.get(f"{name}_FILE")):
            value = read_secret_file(Path(path), where=f"{name}_FILE")
        if value.strip():
            return value.strip()
    return ""


def read_secret(reference: str, *, where: str) -> str:
    """The secret behind `env:NAME` or `file:/path`. Raises SettingsError when it is missing or empty."""
    source, _, name = reference.partition(":")
    if source == "file":
        return read_secret_file(Path(name).expanduser(), where=where)
    value = os.environ.get(name, "").strip()
    if not value:
        raise SettingsError(f"{where}: the environment variable {name} is not set")
    return value


def read_secret_file(path: Path, *, where: str) -> str:
    """First line of a secret file, at most 64 KiB. Raises SettingsError when unreadable or empty."""
    try:
        with path.open(encoding="utf-8") as file:
            value = file.read(65_536).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{where}: cannot read {path}: {error}") from error
    if not value:
        raise SettingsError(f"{where}: {path} is empty")
    return value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path} must hold a mapping of settings, not {type(values).__name__}")
    return values


def _refuse_unknown_variables() -> None:
    """A misspelt variable is an error, as a misspelt name in the file is."""
    known = set(Settings.model_fields)
    for name in os.environ:
        if name.startswith("TOLLHOUSE_") and name not in NOT_SETTINGS:
            section = name.removeprefix("TOLLHOUSE_").split("__")[0].lower()
            if section not in known:
                raise SettingsError(
                    f"the environment variable {name} names no setting (sections: {', '.join(sorted(known))})"
                )


def _explain(error: ValidationError, path: Path | None) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in item["loc"]) or "settings"
        message = item["msg"].removeprefix("Value error, ")
        lines.append(f"{place}: {'no such setting' if item['type'] == 'extra_forbidden' else message}")
    return f"{path or 'environment'}: " + "; ".join(lines)
