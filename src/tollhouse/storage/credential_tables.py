"""The tables of stored credentials. As those of `tables`, and of the same metadata.

No secret stands in them but in `sealed`, an envelope that only a master key opens (`tollhouse.vault`).
"""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, PrimaryKeyConstraint, Table

from tollhouse.storage.columns import Word, moment, word
from tollhouse.storage.tables import metadata as metadata

credentials = Table(
    "credentials",
    metadata,
    Column("credential_id", Word, primary_key=True),
    word("provider"),
    word("host"),
    Column("user_id", Word, nullable=False),
    word("org_id"),
    word("name"),
    word("base_url"),
    word("kind"),
    word("hint"),
    word("fingerprint"),
    word("created_by"),
    Column("created_at_ns", BigInteger, nullable=False),
    moment("last_used_at_ns"),
    moment("refused_at_ns"),
    Column("sealed", LargeBinary, nullable=False),
    Column("sealed_under", BigInteger, nullable=False),
    Index(None, "user_id", "provider"),
    Index(None, "sealed_under"),
)
"""`user_id` is empty for what the operator stored. `sealed_under` is the version of the master key that opens it."""

credential_users = Table(
    "credential_users",
    metadata,
    Column("credential_id", Word, ForeignKey("credentials.credential_id"), nullable=False),
    Column("user_id", Word, ForeignKey("users.user_id"), nullable=False),
    word("provider"),
    Column("created_at_ns", BigInteger, nullable=False),
    PrimaryKeyConstraint("user_id", "provider"),
    Index(None, "credential_id"),
)
"""Which of the operator's credentials a user's calls are sent with; one a provider."""
