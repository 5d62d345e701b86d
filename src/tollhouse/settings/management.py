"""Bounds of the management API."""

from pydantic import Field

from tollhouse.settings.sections import Section


class Management(Section):
    """How often somebody may ask, and what is remembered of it (see `controlplane.rates.ManagementOptions`)."""

    requests_per_minute: int = Field(1_200, ge=1)
    """Of one caller: a user, a key, the operator over the network. The Unix socket has no limit."""
    failures_per_minute: int = Field(60, ge=1)
    """Requests without or with a wrong credential from one address (a /64 of IPv6). Beyond it the master key is not
    taken from there either.
    """
    max_names: int = Field(10_000, ge=100)
    """Callers and addresses that are remembered, each."""
    idempotency_keep_s: int = Field(86_400, ge=60)
    """How long an answer can be had again by its Idempotency-Key."""
    idempotency_rows: int = Field(10_000, ge=1)
    """How many of them are kept; the oldest go first."""
    secrets_of_user: int = Field(5_000, ge=1)
    """Secrets of one user's keys, ended and revoked ones too: beyond it only an admin makes them more."""
    minted_living: int = Field(50, ge=1)
    """Short-lived keys of one user that work at once (`tollhouse keys mint`)."""
    minted_ttl_s: int = Field(86_400, ge=60)
    """Longest life of one."""
