"""The tables of signing in: who may, how, and who has. As those of `tables`, and of the same metadata.

No secret stands in them: passwords as Argon2id, tokens as HMACs under the server's secret.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
)

from tollhouse.storage.columns import Word
from tollhouse.storage.tables import metadata as metadata


def _word(name: str) -> "Column[str]":
    return Column(name, Word, nullable=False)


def _number(name: str) -> "Column[int]":
    return Column(name, BigInteger, nullable=False)


def _user() -> "Column[str]":
    return Column("user_id", Word, ForeignKey("users.user_id"), nullable=False)


passwords = Table(
    "passwords",
    metadata,
    Column("email", Word, primary_key=True),
    _user(),
    Column("hash", Text, nullable=False),
    Column("vouched", SmallInteger, nullable=False),
    _number("changed_at_ns"),
    Index(None, "user_id", unique=True),
)
"""`email` is in its normal form (`rules.claims`). `vouched` is 1 where somebody other than its user says that the
address is theirs (who invited them).
"""

identities = Table(
    "identities",
    metadata,
    _word("issuer"),
    _word("subject"),
    _user(),
    _word("email"),
    _number("created_at_ns"),
    _number("seen_at_ns"),
    PrimaryKeyConstraint("issuer", "subject"),
    Index(None, "user_id"),
)
"""Who somebody is at an issuer; the pair is never reused (OpenID Connect Core 1.0, 5.7)."""

provisions = Table(
    "provisions",
    metadata,
    _user(),
    _word("source"),
    Column("given", Text, nullable=False),
    PrimaryKeyConstraint("user_id", "source"),
)
"""What the claims of a source said last, as JSON."""

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    _word("session_id"),
    _user(),
    _number("created_at_ns"),
    _number("seen_at_ns"),
    _number("expires_at_ns"),
    _number("ends_at_ns"),
    _word("address"),
    _word("client"),
    Index(None, "session_id", unique=True),
    Index(None, "user_id"),
)

invitations = Table(
    "invitations",
    metadata,
    Column("invitation_id", Word, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    _word("email"),
    Column("user_id", Word, nullable=True),
    _word("role"),
    Column("team_id", Word, nullable=True),
    _word("team_role"),
    Column("plan_id", Word, nullable=True),
    _word("invited_by"),
    _number("created_at_ns"),
    _number("expires_at_ns"),
    Column("accepted_at_ns", BigInteger, nullable=True),
    Index(None, "digest", unique=True),
)
"""`user_id` is there already (a new password), or becomes who accepted."""

sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("subject", LargeBinary, primary_key=True),
    _number("count"),
    _number("last_ns"),
    _number("until_ns"),
    Index(None, "last_ns"),
)
"""`subject` is a keyed hash of the e-mail or network address that somebody tried."""
