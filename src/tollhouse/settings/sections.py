"""The sections of the tree, but those about people: frozen, and a misspelt name is an error."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from tollhouse.rules import secret_references
from tollhouse.rules.budgets import parse_budget

MIB = 1024 * 1024


def _names(value: Any) -> Any:
    """Lists may be written as one comma-separated string, as environment variables need."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Percents = Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(max_length=10), BeforeValidator(_names)]


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
    public_url: str = ""
    """Where browsers reach this gateway when a proxy stands in front: `https://llm.example`. Empty: as they ask."""
    trusted_proxies: Names = ("127.0.0.1", "::1")
    """Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed: who tries
    passwords is counted by address. A proxy that passes on what browsers write there must not stand here.
    """
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

    @field_validator("public_url")
    @classmethod
    def _an_origin(cls, url: str) -> str:
        url = url.rstrip("/")
        if url and (not url.startswith(("https://", "http://")) or "/" in url.split("://", 1)[1]):
            raise ValueError(f"{url!r} is not an origin; write https://host[:port] without a path")
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"{proxy!r} is no address or network; write 10.0.0.7 or 10.0.0.0/24") from error
        return proxies

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
    declared_secrets: Names = ("env:*", "file:*", "stored:*")
    """What a declared provider may name as its credential: globs. Whoever may declare one may have it sent to any
    address, so where owners sign in who are not the machine's operators, list what is theirs to use. The gateway's own
    secrets are never among them.
    """
    answer_buffer_bytes: int = Field(8 * MIB, ge=0)
    """Whole answers up to this size are held until their cost is known and can stand in a header."""


class ProviderSettings(Section):
    """One provider row."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    kind: Literal["anthropic", "openai"]
    base_url: str = ""
    api_key: str = Field("", repr=False)
    """Where it is read from: `env:NAME`, `file:/path`, `cmd:HELPER arguments`, `vault:MOUNT/PATH#FIELD` or
    `stored:NAME`; never the key itself.
    """
    models: Names
    """Patterns of the models this provider serves, such as `claude-*`."""
    list_models: Names = ()
    """Names to show in `/v1/models`; by default names among the patterns, and known models they admit."""
    price_provider: str | None = None
    cancel_stops_billing: bool | None = None

    @field_validator("api_key")
    @classmethod
    def _only_references(cls, value: str) -> str:
        if value and (problem := secret_references.problem(value)) is not None:
            raise ValueError(problem)
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
    thresholds: Percents = (50, 80, 95)
    """Shares of a budget, in percent, of which a notice tells when that much is spent; once each and window."""

    @field_validator("organisation_budgets")
    @classmethod
    def _readable(cls, budgets: tuple[str, ...]) -> tuple[str, ...]:
        for budget in budgets:
            parse_budget(budget)
        return budgets


class Storage(Section):
    """Journal and database."""

    database_url: str = Field("", repr=False)
    """Empty: SQLite, `tollhouse.db` in the home. Else PostgreSQL, `postgresql://user@host:5432/name?sslmode=verify-full`;
    with a password as `env:NAME` or `file:/path`, or in the variable TOLLHOUSE_STORAGE__DATABASE_URL.
    """
    query_limit_s: float = Field(30.0, gt=0)
    """Longest time a transaction (PostgreSQL: a statement) may compute."""
    max_waiting: int = Field(1_000, ge=10)
    """Transactions waiting for the database; more are refused."""
    readers: int = Field(4, ge=1, le=64)
    """Connections to PostgreSQL that read, beside the one that writes."""
    connect_timeout_s: float = Field(5.0, ge=2)
    """How long to wait for a connection to PostgreSQL."""
    owner_wait_s: float = Field(5.0, gt=0)
    """How long to wait at a start for the gateway that had the PostgreSQL database before."""
    silence_s: int = Field(20, ge=8)
    """A connection to PostgreSQL whose other end acknowledges nothing for this long is given up, by both ends."""
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

    @field_validator("database_url")
    @classmethod
    def _known_kind(cls, value: str) -> str:
        if value and not value.startswith(("env:", "file:", "postgresql://", "postgres://", "sqlite:///")):
            raise ValueError("write postgresql://user@host:5432/name, or env:NAME or file:/path where that stands")
        return value
