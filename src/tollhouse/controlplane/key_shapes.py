"""What is asked and told of virtual keys. A key itself appears once: in `KeyWithSecret`."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from tollhouse.controlplane.budgets import BudgetOut
from tollhouse.controlplane.shapes import (
    Input,
    LimitsIn,
    LimitsOut,
    MetadataIn,
    ModelGlobs,
    NameText,
    PlanName,
    TeamName,
    UserIdText,
    limits_out,
)
from tollhouse.controlplane.times import iso_ns
from tollhouse.terms.people import VirtualKey

MAX_CAPTURE_DAYS = 3_650
"""Whatever `capture.max_days` says."""


CaptureDays = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_CAPTURE_DAYS,
        description="Days for which the bodies of its requests and answers are kept, sealed; 0: they are not",
    ),
]


class KeyIn(Input):
    user_id: UserIdText | None = Field(
        None, description="Whose key, created on first mention; your own when missing and you are signed in"
    )
    name: NameText = ""
    team_id: TeamName | None = Field(None, description="The team its calls count toward; its user's when missing")
    plan_id: PlanName | None = None
    models: ModelGlobs | None = None
    limits: LimitsIn = LimitsIn()
    budget: str | None = Field(None, max_length=100, description="A hard cap such as `20/month` or `1M tokens/day`")
    expires: str | None = Field(None, max_length=64, description="`30d`, `2026-12-31`, a time with zone, or `never`")
    metadata: MetadataIn
    capture_days: CaptureDays = 0


class KeyPatch(Input):
    """Only the fields that are given change; `models: null` admits every model; `metadata` is replaced as a whole."""

    name: NameText = ""
    team_id: TeamName | None = Field(None, description="A team its user is in; null for the user's own")
    plan_id: PlanName | None = None
    models: ModelGlobs | None = None
    limits: LimitsIn = LimitsIn()
    expires: str | None = Field(None, max_length=64)
    metadata: MetadataIn
    capture_days: CaptureDays = 0


class RotateIn(Input):
    grace: str = Field("0", max_length=20, description="How long the old secret still works, such as `1h`")


class KeyOut(BaseModel):
    key_id: str
    name: str
    user_id: str
    team_id: str | None
    plan_id: str | None
    hint: str
    """The last characters of the secret's random part, to recognise it by."""
    status: str
    """active | paused | expired | revoked"""
    models: list[str] | None
    limits: LimitsOut
    metadata: dict[str, Any]
    owned_by: str
    """The file that declares it, which alone may change it; empty for what people made."""
    capture_days: int
    """For how long the bodies of its requests and answers are kept; 0: they are not."""
    created_at: str | None
    expires_at: str | None
    revoked_at: str | None
    paused_at: str | None
    pause_reason: str


class SecretOut(BaseModel):
    hint: str
    created_at: str | None
    expires_at: str | None


class KeyDetail(KeyOut):
    budgets: list[BudgetOut]
    secrets: list[SecretOut]


class KeyWithSecret(KeyDetail):
    key: str
    """The key itself, as a client shows it: only here."""


def _status(key: VirtualKey, now_ns: int) -> str:
    if key.revoked_at_ns is not None:
        return "revoked"
    if key.expires_at_ns is not None and key.expires_at_ns <= now_ns:
        return "expired"
    return "active" if key.paused_at_ns is None else "paused"


def key_out(key: VirtualKey, now_ns: int) -> KeyOut:
    return KeyOut(
        key_id=key.key_id,
        name=key.name,
        user_id=key.user_id,
        team_id=key.team_id,
        plan_id=key.plan_id,
        hint=key.hint,
        status=_status(key, now_ns),
        models=None if key.models is None else list(key.models),
        limits=limits_out(key.limits),
        metadata=key.metadata,
        owned_by=key.owned_by,
        capture_days=key.capture_days,
        created_at=iso_ns(key.created_at_ns),
        expires_at=iso_ns(key.expires_at_ns),
        revoked_at=iso_ns(key.revoked_at_ns),
        paused_at=iso_ns(key.paused_at_ns),
        pause_reason=key.pause_reason,
    )
