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

from tollhouse.storage.columns import Word, number, word
from tollhouse.storage.tables import metadata as metadata


def _user() -> "Column[str]":
    return Column("user_id", Word, ForeignKey("users.user_id"), nullable=False)


passwords = Table(
    "passwords",
    metadata,
    Column("email", Word, primary_key=True),
    _user(),
    Column("hash", Text, nullable=False),
    Column("vouched", SmallInteger, nullable=False),
    number("changed_at_ns"),
    Index(None, "user_id", unique=True),
)
"""`email` is in its normal form (`rules.claims`). `vouched` is 1 where somebody other than its user says that the
address is theirs (who invited them).
"""

identities = Table(
    "identities",
    metadata,
    word("issuer"),
    word("subject"),
    _user(),
    word("email"),
    number("created_at_ns"),
    number("seen_at_ns"),
    PrimaryKeyConstraint("issuer", "subject"),
    Index(None, "user_id"),
)
"""Who somebody is at an issuer; the pair is never reused (OpenID Connect Core 1.0, 5.7)."""

provisions = Table(
    "provisions",
    metadata,
    _user(),
    word("source"),
    Column("given", Text, nullable=False),
    PrimaryKeyConstraint("user_id", "source"),
)
"""What the claims of a source said last, as JSON."""

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    word("session_id"),
    _user(),
    number("created_at_ns"),
    number("seen_at_ns"),
    number("expires_at_ns"),
    number("ends_at_ns"),
    word("address"),
    word("client"),
    Index(None, "session_id", unique=True),
    Index(None, "user_id"),
)

invitations = Table(
    "invitations",
    metadata,
    Column("invitation_id", Word, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    word("email"),
    Column("user_id", Word, nullable=True),
    word("role"),
    Column("team_id", Word, nullable=True),
    word("team_role"),
    Column("plan_id", Word, nullable=True),
    word("invited_by"),
    number("created_at_ns"),
    number("expires_at_ns"),
    Column("accepted_at_ns", BigInteger, nullable=True),
    Index(None, "digest", unique=True),
)
"""`user_id` is there already (a new password), or becomes who accepted."""

sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("subject", LargeBinary, primary_key=True),
    number("count"),
    number("last_ns"),
    number("until_ns"),
    Index(None, "last_ns"),
)
"""`subject` is a keyed hash of the e-mail or network address that somebody tried."""
