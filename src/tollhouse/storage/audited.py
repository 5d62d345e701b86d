"""What the audit trail says of each table: which rows are things that people change, and how each column is told.

    plain       told as it is
    personal    about somebody: told by reference, so that it can be erased (`rules.audit`). A `user` is about that
                user, everything else about whom the row is
    secret      that it changed is told, never what it is
    address     a URL, whose path may be a secret: only where it leads is told
    untold      follows from use; a change of it alone is no act

A column that nobody placed is a secret. A table that is not here is in `NOT_AUDITED`, with the reason.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

Row = Mapping[str, Any]


def _nobody(_row: Row) -> str:
    return ""


def _user(row: Row) -> str:
    return str(row["user_id"] or "")


def _scoped(row: Row) -> str:
    return str(row["scope_id"]) if row["scope"] == "user" else ""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One table. `name` is the column that says which thing it is; `acts` what it is called when a row comes, changes
    and goes; `about` whose row it is; `personal` is by column what is in it.
    """

    kind: str
    name: str
    acts: tuple[str, str, str] = ("created", "changed", "removed")
    about: Callable[[Row], str] = _nobody
    plain: frozenset[str] = frozenset()
    personal: Mapping[str, str] = {}
    secret: frozenset[str] = frozenset()
    address: frozenset[str] = frozenset()
    untold: frozenset[str] = frozenset()

    @property
    def columns(self) -> frozenset[str]:
        """All that somebody placed."""
        return self.plain | self.secret | self.address | self.untold | frozenset(self.personal)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


AUDITED: Final[Mapping[str, Told]] = {
    "users": Told(
        kind="user",
        name="user_id",
        about=_user,
        personal={"user_id": "user", "name": "name", "email": "email", "metadata": "text"},
        plain=_words("org_id limits created_at_ns blocked_at_ns role team_id plan_id owned_by erased_at_ns"),
    ),
    "teams": Told(
        kind="team",
        name="team_id",
        personal={"metadata": "text"},
        plain=_words("team_id org_id name plan_id models limits owned_by created_at_ns blocked_at_ns"),
    ),
    "memberships": Told(
        kind="membership",
        name="user_id",
        about=_user,
        personal={"user_id": "user"},
        plain=_words("team_id role created_at_ns"),
    ),
    "plans": Told(
        kind="plan",
        name="plan_id",
        plain=_words(
            "plan_id description limits budgets models max_output_tokens edge own_key without_own_key owned_by "
            "created_at_ns fall_back counts_own_key"
        ),
    ),
    "virtual_keys": Told(
        kind="key",
        name="key_id",
        about=_user,
        personal={"user_id": "user", "name": "name", "metadata": "text", "pause_reason": "text"},
        plain=_words(
            "key_id hint models limits created_at_ns expires_at_ns revoked_at_ns team_id plan_id owned_by "
            "paused_at_ns capture_days"
        ),
    ),
    "key_secrets": Told(
        kind="key secret",
        name="key_id",
        plain=_words("key_id hint created_at_ns expires_at_ns"),
        secret=_words("digest"),
    ),
    "budgets": Told(
        kind="budget",
        name="budget_id",
        about=_scoped,
        personal={"scope_id": "scope"},
        plain=_words("budget_id scope cap unit window timezone edge created_at_ns owned_by"),
    ),
    "providers": Told(
        kind="provider",
        name="name",
        plain=_words(
            "name kind models list_models price_provider cancel_stops_billing owned_by created_at_ns place api_key"
        ),
        address=_words("base_url"),
    ),
    "credentials": Told(
        kind="credential",
        name="credential_id",
        about=_user,
        personal={
            "user_id": "user",
            "name": "name",
            "created_by": "user",
            # a user's own endpoint may bear their name, and the same key in other hands be known by these
            **dict.fromkeys(("host", "hint", "fingerprint"), "text"),
        },
        secret=_words("base_url"),  # `host` tells where it leads
        plain=_words("credential_id provider org_id kind created_at_ns refused_at_ns"),
        # `fingerprint` tells of another secret; the same is wrapped anew when the master key is rotated
        untold=_words("last_used_at_ns sealed sealed_under"),
    ),
    "credential_users": Told(
        kind="assignment",
        name="credential_id",
        acts=("assigned", "changed", "withdrawn"),
        about=_user,
        personal={"user_id": "user"},
        plain=_words("credential_id provider created_at_ns"),
    ),
    "passwords": Told(
        kind="password",
        name="user_id",
        acts=("set", "changed", "removed"),
        about=_user,
        personal={"user_id": "user", "email": "email"},
        plain=_words("vouched changed_at_ns"),
        untold=_words("hash"),  # `changed_at_ns` tells of another password; the same may be hashed anew
    ),
    "identities": Told(
        kind="identity",
        name="user_id",
        acts=("linked", "changed", "unlinked"),
        about=_user,
        personal={"user_id": "user", "subject": "text", "email": "email"},
        plain=_words("issuer created_at_ns"),
        untold=_words("seen_at_ns"),
    ),
    "provisions": Told(
        kind="claims",
        name="user_id",
        acts=("read", "changed", "removed"),
        about=_user,
        personal={"user_id": "user", "given": "text"},
        plain=_words("source"),
    ),
    "sessions": Told(
        kind="session",
        name="session_id",
        acts=("signed in", "changed", "signed out"),
        about=_user,
        personal={"user_id": "user", "address": "address", "client": "client"},
        plain=_words("session_id created_at_ns ends_at_ns"),
        secret=_words("digest"),
        untold=_words("seen_at_ns expires_at_ns"),
    ),
    "erasures": Told(
        kind="erasure",
        name="pseudonym",
        acts=("begun", "changed", "removed"),
        about=_user,
        personal={"user_id": "user"},
        plain=_words("pseudonym begun_at_ns done_at_ns"),
    ),
    "webhooks": Told(
        kind="webhook",
        name="webhook_id",
        personal={"created_by": "user"},
        plain=_words("webhook_id name kinds enabled hint created_at_ns gone_at_ns"),
        address=_words("url"),
        secret=_words("sealed"),
        untold=_words("sealed_under"),
    ),
    "invitations": Told(
        kind="invitation",
        name="invitation_id",
        acts=("invited", "accepted", "withdrawn"),
        about=_user,
        personal={"email": "email", "user_id": "user", "invited_by": "user"},
        plain=_words("invitation_id role team_id team_role plan_id created_at_ns expires_at_ns accepted_at_ns"),
        secret=_words("digest"),
    ),
}
"""By table."""

NOT_AUDITED: Final[Mapping[str, str]] = {
    "audit": "the trail itself",
    "audit_subjects": "the trail itself",
    "budget_windows": "sums of the ledger",
    "captures": "what calls asked and answered, kept for its days",
    "deliveries": "how far telling webhooks has come",
    "idempotency": "answers kept for a day",
    "ledger": "what calls cost, itself a history that is only added to",
    "notices": "what happened, told to webhooks and to who asks",
    "requests": "the log of calls",
    "sign_in_failures": "counts; what they lead to is told as `refused`",
}
"""Tables of which nothing is told, and why."""

TREES: Final = _words("limits budgets models list_models kinds")
"""Columns that hold JSON text, told as what it means."""

UNRECORDED: Final[dict[str, Any]] = {"tollhouse_unrecorded": True}
"""Execution option of a statement that is nobody's act: it notes use, or forgets what is over."""
