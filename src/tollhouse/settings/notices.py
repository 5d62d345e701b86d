"""Who is told of what happens here, and what counts as unusual."""

from typing import Literal

from pydantic import Field, field_validator

from tollhouse.rules.addresses import read_networks
from tollhouse.settings.sections import Names, Section
from tollhouse.terms.money import parse_usd


class WebhookSettings(Section):
    """A webhook of the operator's own file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    url: str = Field(max_length=2_000)
    secret: str = Field("", repr=False)
    """`env:NAME` or `file:/path` of `whsec_…`; never the secret itself. Where it is empty the webhook is off."""
    kinds: Names = ("*",)
    """Globs over the kinds of notices, such as `budget.*`."""

    @field_validator("secret")
    @classmethod
    def _only_references(cls, value: str) -> str:
        if value and not value.startswith(("env:", "file:")):
            raise ValueError("write env:NAME or file:/path; a secret itself never stands in a settings file")
        return value


class Notices(Section):
    """How notices are delivered and how long they are kept."""

    allow_loopback: bool = False
    """Whether webhooks may be on this machine, also by http."""
    allowed_networks: Names = ()
    """Networks that webhooks may be in although they are not public, such as `10.20.0.0/16`."""
    timeout_s: float = Field(10.0, gt=0, le=120)
    """How long a receiver may take to answer."""
    parallel: int = Field(8, ge=1, le=64)
    """Receivers that are sent to at once; each gets one message at a time."""
    first_retry_s: float = Field(5.0, gt=0)
    last_retry_s: float = Field(3_600.0, gt=0)
    """Pauses after a failed try: doubled from the first to the last."""
    give_up_s: float = Field(86_400.0, ge=0)
    """How long a delivery is tried; then it is dead."""
    max_webhooks: int = Field(50, ge=0, le=500)
    max_pending: int = Field(10_000, ge=1)
    """Deliveries that one webhook waits for; more are not owed to it."""
    keep_days: int = Field(90, ge=1)
    keep_rows: int = Field(1_000_000, ge=1_000)
    """Both bound what is kept of notices and their deliveries."""

    @field_validator("allowed_networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        read_networks(networks)
        return networks


Rule = Literal["spend", "new_client", "refusals", "addresses"]


class Anomalies(Section):
    """What is unusual for a key or a user. Each rule is off when its first number is 0."""

    spend_factor: float = Field(10.0, ge=0)
    """An hour that costs so many times the usual one: the median of the hours in which there was spend."""
    spend_floor_usd: str = "1"
    """And at least this much."""
    spend_hours: int = Field(6, ge=1, le=48)
    """Hours with spend that must be known before anything is unusual."""
    new_client_calls: int = Field(50, ge=0)
    """A tool (User-Agent) that a key was never used with, once so many of its calls are known."""
    refusals: int = Field(50, ge=0)
    """Answers 400 to 499 of one key within `refusals_s`, unless twice as many calls went well. Limits and budgets that
    are used up (402, 429) do not count.
    """
    refusals_s: int = Field(600, ge=60, le=86_400)
    addresses: int = Field(20, ge=0)
    """Networks (/24, of IPv6 /48) from which one key was used within an hour."""
    pause: tuple[Rule, ...] = ()
    """Rules that also pause the key."""
    max_subjects: int = Field(10_000, ge=10)
    """Keys and users that are watched, each; who was not seen longest is forgotten first."""
    history_days: int = Field(7, ge=0, le=60)
    history_rows: int = Field(200_000, ge=0)
    """What is read of the ledger at start, to know what is usual: the latest rows of so many days."""

    @field_validator("spend_floor_usd")
    @classmethod
    def _an_amount(cls, text: str) -> str:
        parse_usd(text)
        return text

    @field_validator("pause", mode="before")
    @classmethod
    def _listed(cls, rules: object) -> object:
        return [rule.strip() for rule in rules.split(",") if rule.strip()] if isinstance(rules, str) else rules
