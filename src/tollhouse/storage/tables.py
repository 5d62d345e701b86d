"""The tables, as SQLAlchemy Core metadata that SQLite and PostgreSQL both take.

Amounts are whole numbers in 64-bit columns (nano-USD, tokens, requests), times whole nanoseconds since 1970 UTC.
Small trees (limits, metadata, model globs) are JSON text, decoded by msgspec into the types of `terms`. The ledger
and the request log have no foreign keys: history outlives whom it is about.

Words are compared byte by byte (`columns.Word`), whatever language a PostgreSQL database was made for.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from tollhouse.storage.columns import Word

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _word(name: str) -> "Column[str]":
    return Column(name, Word, nullable=False)


def _number(name: str) -> "Column[int]":
    return Column(name, BigInteger, nullable=False)


def _flag(name: str) -> "Column[int]":
    """0 or 1. Many rows are written as plain values, and sqlite3 takes an int as it is, but looks for an adapter each
    time it gets a bool.
    """
    return Column(name, SmallInteger, nullable=False)


def _moment(name: str) -> "Column[int | None]":
    return Column(name, BigInteger, nullable=True)


def _owner_file() -> "Column[str]":
    """The file that declares the row; empty for what people made."""
    return Column("owned_by", Word, nullable=False, server_default="")


def _perhaps(name: str) -> "Column[str | None]":
    return Column(name, Word, nullable=True)


plans = Table(
    "plans",
    metadata,
    Column("plan_id", Word, primary_key=True),
    _word("description"),
    Column("limits", Text, nullable=False),
    Column("budgets", Text, nullable=False),
    Column("models", Text, nullable=True),
    _moment("max_output_tokens"),
    _word("edge"),
    _word("own_key"),
    _word("without_own_key"),
    _word("owned_by"),
    _number("created_at_ns"),
    Column("fall_back", SmallInteger, nullable=False, server_default="0"),
    Column("counts_own_key", SmallInteger, nullable=False, server_default="0"),
)

teams = Table(
    "teams",
    metadata,
    Column("team_id", Word, primary_key=True),
    _word("org_id"),
    _word("name"),
    _perhaps("plan_id"),
    Column("models", Text, nullable=True),
    Column("limits", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    _word("owned_by"),
    _number("created_at_ns"),
    _moment("blocked_at_ns"),
)

memberships = Table(
    "memberships",
    metadata,
    _word("team_id"),
    Column("user_id", Word, ForeignKey("users.user_id"), nullable=False),
    _word("role"),
    _number("created_at_ns"),
    PrimaryKeyConstraint("team_id", "user_id"),
    Index(None, "user_id"),
)

users = Table(
    "users",
    metadata,
    Column("user_id", Word, primary_key=True),
    _word("org_id"),
    _word("name"),
    _word("email"),
    Column("limits", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    _number("created_at_ns"),
    _moment("blocked_at_ns"),
    Column("role", Word, nullable=False, server_default="member"),
    _perhaps("team_id"),
    _perhaps("plan_id"),
    _owner_file(),
    _moment("erased_at_ns"),
)

virtual_keys = Table(
    "virtual_keys",
    metadata,
    Column("key_id", Word, primary_key=True),
    Column("user_id", Word, ForeignKey("users.user_id"), nullable=False),
    _word("name"),
    _word("hint"),
    Column("models", Text, nullable=True),
    Column("limits", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    _number("created_at_ns"),
    _moment("expires_at_ns"),
    _moment("revoked_at_ns"),
    _perhaps("team_id"),
    _perhaps("plan_id"),
    _owner_file(),
    _moment("paused_at_ns"),
    Column("pause_reason", Word, nullable=False, server_default=""),
    Column("capture_days", BigInteger, nullable=False, server_default="0"),
    Index(None, "user_id"),
)

providers = Table(
    "providers",
    metadata,
    Column("name", Word, primary_key=True),
    _word("kind"),
    Column("models", Text, nullable=False),
    _word("base_url"),
    _word("api_key"),
    Column("list_models", Text, nullable=False),
    _perhaps("price_provider"),
    _moment("cancel_stops_billing"),
    _word("owned_by"),
    _number("created_at_ns"),
    _number("place"),
)
"""`api_key` says where the credential is read from (`env:NAME`, `file:/path`)."""

key_secrets = Table(
    "key_secrets",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("key_id", Word, ForeignKey("virtual_keys.key_id"), nullable=False),
    _word("hint"),
    _number("created_at_ns"),
    _moment("expires_at_ns"),
    Index(None, "key_id"),
)

budgets = Table(
    "budgets",
    metadata,
    Column("budget_id", Word, primary_key=True),
    _word("scope"),
    _word("scope_id"),
    _number("cap"),
    _word("unit"),
    _word("window"),
    _word("timezone"),
    _word("edge"),
    _number("created_at_ns"),
    _owner_file(),
    Index(None, "scope", "scope_id"),
)

budget_windows = Table(
    "budget_windows",
    metadata,
    _word("budget_id"),
    _number("window_start_s"),
    _number("posted"),
    PrimaryKeyConstraint("budget_id", "window_start_s"),
    sqlite_with_rowid=False,
)
"""What is posted, in the budget's unit; changes only in the transaction that inserts the ledger entries it sums."""

ledger = Table(
    "ledger",
    metadata,
    _word("request_id"),
    _number("attempt"),
    _number("at_ns"),
    _number("settled_at_ns"),
    _word("org_id"),
    _word("user_id"),
    _word("key_id"),
    _word("endpoint"),
    _word("provider"),
    _word("requested_model"),
    _word("upstream_model"),
    _word("served_model"),
    _word("kind"),
    _number("amount_nusd"),
    _number("hold_nusd"),
    _number("hold_tokens"),
    _number("max_output_tokens"),
    _number("tokens"),
    _number("input_tokens"),
    _number("cache_write_5m_tokens"),
    _number("cache_write_1h_tokens"),
    _number("cache_read_tokens"),
    _number("output_tokens"),
    _number("input_audio_tokens"),
    _number("output_audio_tokens"),
    _number("web_searches"),
    _number("web_fetches"),
    _word("variant"),
    _word("price_version"),
    _flag("streamed"),
    _number("status"),
    _number("duration_us"),
    _number("first_byte_us"),
    _number("response_bytes"),
    _word("client"),
    _word("session"),
    _word("code"),
    _word("upstream_request_id"),
    Column("budgets", Text, nullable=False),
    Column("entry_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("team_id", Word, nullable=False, server_default=""),
    Column("credential_id", Word, nullable=False, server_default=""),
    Column("end_user", Word, nullable=False, server_default=""),
    UniqueConstraint("request_id", "attempt"),
    Index(None, "at_ns"),
    Index(None, "user_id", "at_ns", "key_id"),
    Index(None, "request_id", "attempt", sqlite_where=text("attempt > 1"), postgresql_where=text("attempt > 1")),
)
"""One row per attempt that may have cost something, and its row of the request log at the same time. The attempt's id
is the request's id, `-` and `attempt` (from 1), and has no column of its own; `budgets` is JSON of the (budget id,
window start) pairs it was posted to. `entry_id` is the database's to give.

Every index is paid for by every call. Those that grow at their end are cheap (a few pages a transaction); one that
begins with a user costs a page for every user of a transaction, more than the row itself:

    request_id, attempt       once; a request looked up
    at_ns                     reports of a time, the newest first
    user_id, at_ns, key_id    the same of one user; of one key, as a key has one user for life (no row is read to skip
                              the user's other keys)
    the same, attempt > 1     further attempts; nearly empty
"""

requests = Table(
    "requests",
    metadata,
    Column("request_id", Word, primary_key=True),
    _number("attempts"),
    _number("at_ns"),
    _word("org_id"),
    _word("user_id"),
    _word("key_id"),
    _word("endpoint"),
    _word("provider"),
    _word("requested_model"),
    _word("upstream_model"),
    _word("served_model"),
    _number("status"),
    _word("code"),
    _word("kind"),
    _number("hold_nusd"),
    _number("max_output_tokens"),
    _word("price_version"),
    _flag("streamed"),
    _number("duration_us"),
    _number("first_byte_us"),
    _number("response_bytes"),
    _word("client"),
    _word("session"),
    _word("upstream_request_id"),
    Column("team_id", Word, nullable=False, server_default=""),
    Column("credential_id", Word, nullable=False, server_default=""),
    Column("end_user", Word, nullable=False, server_default=""),
    Index(None, "at_ns"),
    Index(None, "user_id", "at_ns", "key_id"),
)
"""Requests that cost nothing: refused, free of charge (`kind` is empty and `attempts` 0: no hold was ever taken), or
their latest voided attempt. May be pruned. The indices are as the ledger's.
"""

idempotency = Table(
    "idempotency",
    metadata,
    Column("name", LargeBinary, primary_key=True),
    Column("body_digest", LargeBinary, nullable=False),
    _number("at_ns"),
    Column("answer", LargeBinary, nullable=False),
    Index(None, "at_ns"),
)
"""What was done under which Idempotency-Key. Bounded by time and number."""
