"""One frozen tree from file and environment, read once at start and handed down as narrow values.

Order, the later wins: defaults, the YAML file (`--config`, `TOLLHOUSE_CONFIG`, or `tollhouse.yaml` in the home),
environment variables `TOLLHOUSE_<SECTION>__<NAME>`. Secrets are written as `env:NAME` or `file:/path`, or come from
`<NAME>_FILE`.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tollhouse.settings.capture import Capture
from tollhouse.settings.chat import Chat
from tollhouse.settings.jwt import JwtIssuer
from tollhouse.settings.key_sources import KeySources
from tollhouse.settings.management import Management
from tollhouse.settings.notices import Anomalies, Notices, WebhookSettings
from tollhouse.settings.sections import Listen, Local, Money, ProviderSettings, Storage, Upstream
from tollhouse.settings.sign_in import SignIn
from tollhouse.settings.vault import Vault
from tollhouse.terms.errors import SettingsError


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
    key_sources: KeySources = KeySources()
    only_local: bool = False
    """No provider from the environment either: nothing leaves this machine."""
    local: Local = Local()
    prices: dict[str, dict[str, str | int | float]] = {}
    """Prices and sizes of your own, by model name or glob: `input_usd_per_mtok`, `output_usd_per_mtok`,
    `cache_read_usd_per_mtok`, `cache_write_5m_usd_per_mtok`, `cache_write_1h_usd_per_mtok`, `context_tokens`,
    `max_output_tokens`, … (see rules.catalog.PriceOverride).
    """
    capture: Capture = Capture()
    chat: Chat = Chat()
    jwt: tuple[JwtIssuer, ...] = ()
    """Issuers whose signed tokens are accepted on the data plane."""
    money: Money = Money()
    storage: Storage = Storage()
    webhooks: tuple[WebhookSettings, ...] = ()
    notices: Notices = Notices()
    anomalies: Anomalies = Anomalies()
    sign_in: SignIn = SignIn()
    vault: Vault = Vault()
    master_key: str = Field("", repr=False)
    management: Management = Management()
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


MAX_SECRET_CHARS = 65_536
"""Of a file."""
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
    _refuse_password(values.get("storage"), path)
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
    hooks = [hook.name for hook in settings.webhooks]
    if len(set(hooks)) < len(hooks):
        raise SettingsError(f"{path}: webhooks: each has a name of its own")
    for facts in ("name", "issuer"):
        given = [getattr(row, facts) for row in settings.jwt]
        if len(set(given)) < len(given):
            raise SettingsError(f"{path}: jwt: each issuer has a {facts} of its own")
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


def database_url(settings: Settings) -> str:
    """The database's URL, with its password; empty when it lies in the home. Raises SettingsError when the variable or
    file it stands in is missing.
    """
    named = settings.storage.database_url
    return read_secret(named, where="storage.database_url") if named.startswith(("env:", "file:")) else named


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
    """What a secret file holds, at most 64 KiB. Raises SettingsError when unreadable, larger or empty."""
    try:
        with path.open(encoding="utf-8") as file:
            value = file.read(MAX_SECRET_CHARS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{where}: cannot read {path}: {error}") from error
    if len(value) > MAX_SECRET_CHARS:
        raise SettingsError(f"{where}: {path} holds more than {MAX_SECRET_CHARS:,} characters; is it the right file?")
    value = value.strip()
    if not value:
        raise SettingsError(f"{where}: {path} is empty")
    return value


def _refuse_password(storage: Any, path: Path | None) -> None:
    url = storage.get("database_url") if isinstance(storage, dict) else None
    if isinstance(url, str) and "://" in url:
        parts = urlsplit(url)
        if parts.password is not None or "password" in parts.query:
            raise SettingsError(
                f"{path}: storage.database_url: a password does not stand in a settings file; write env:NAME or "
                "file:/path, where the whole URL stands, or set TOLLHOUSE_STORAGE__DATABASE_URL"
            )


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
