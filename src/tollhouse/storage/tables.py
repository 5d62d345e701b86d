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

from tollhouse.storage.columns import Word, flag, moment, number, perhaps, word

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _owner_file() -> "Column[str]":
    """The file that declares the row; empty for what people made."""
    return Column("owned_by", Word, nullable=False, server_default="")


plans = Table(
    "plans",
    metadata,
    Column("plan_id", Word, primary_key=True),
    word("description"),
    Column("limits", Text, nullable=False),
    Column("budgets", Text, nullable=False),
    Column("models", Text, nullable=True),
    moment("max_output_tokens"),
    word("edge"),
    word("own_key"),
    word("without_own_key"),
    word("owned_by"),
    number("created_at_ns"),
    Column("fall_back", SmallInteger, nullable=False, server_default="0"),
    Column("counts_own_key", SmallInteger, nullable=False, server_default="0"),
)

teams = Table(
    "teams",
    metadata,
    Column("team_id", Word, primary_key=True),
    word("org_id"),
    word("name"),
    perhaps("plan_id"),
    Column("models", Text, nullable=True),
    Column("limits", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    word("owned_by"),
    number("created_at_ns"),
    moment("blocked_at_ns"),
)

memberships = Table(
    "memberships",
    metadata,
    word("team_id"),
    Column("user_id", Word, ForeignKey("users.user_id"), nullable=False),
    word("role"),
    number("created_at_ns"),
    PrimaryKeyConstraint("team_id", "user_id"),
    Index(None, "user_id"),
)

users = Table(
    "users",
    metadata,
    Column("user_id", Word, primary_key=True),
    word("org_id"),
    word("name"),
    word("email"),
    Column("limits", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    number("created_at_ns"),
    moment("blocked_at_ns"),
    Column("role", Word, nullable=False, server_default="member"),
    perhaps("team_id"),
    perhaps("plan_id"),
    _owner_file(),
    moment("erased_at_ns"),
)

virtual_keys = Table(
    "virtual_keys",
    metadata,
    Column("key_id", Word, primary_key=True),
    Column("user_id", Word, ForeignKey("users.user_id"), nullable=False),
    word("name"),
    word("hint"),
    Column("models", Text, nullable=True),
    Column("limits", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    number("created_at_ns"),
    moment("expires_at_ns"),
    moment("revoked_at_ns"),
    perhaps("team_id"),
    perhaps("plan_id"),
    _owner_file(),
    moment("paused_at_ns"),
    Column("pause_reason", Word, nullable=False, server_default=""),
    Column("capture_days", BigInteger, nullable=False, server_default="0"),
    Index(None, "user_id"),
)

providers = Table(
    "providers",
    metadata,
    Column("name", Word, primary_key=True),
    word("kind"),
    Column("models", Text, nullable=False),
    word("base_url"),
    word("api_key"),
    Column("list_models", Text, nullable=False),
    perhaps("price_provider"),
    moment("cancel_stops_billing"),
    word("owned_by"),
    number("created_at_ns"),
    number("place"),
)
"""`api_key` says where the credential is read from (`env:NAME`, `file:/path`)."""

key_secrets = Table(
    "key_secrets",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("key_id", Word, ForeignKey("virtual_keys.key_id"), nullable=False),
    word("hint"),
    number("created_at_ns"),
    moment("expires_at_ns"),
    Index(None, "key_id"),
)

budgets = Table(
    "budgets",
    metadata,
    Column("budget_id", Word, primary_key=True),
    word("scope"),
    word("scope_id"),
    number("cap"),
    word("unit"),
    word("window"),
    word("timezone"),
    word("edge"),
    number("created_at_ns"),
    _owner_file(),
    Index(None, "scope", "scope_id"),
)

budget_windows = Table(
    "budget_windows",
    metadata,
    word("budget_id"),
    number("window_start_s"),
    number("posted"),
    PrimaryKeyConstraint("budget_id", "window_start_s"),
    sqlite_with_rowid=False,
)
"""What is posted, in the budget's unit; changes only in the transaction that inserts the ledger entries it sums."""

ledger = Table(
    "ledger",
    metadata,
    word("request_id"),
    number("attempt"),
    number("at_ns"),
    number("settled_at_ns"),
    word("org_id"),
    word("user_id"),
    word("key_id"),
    word("endpoint"),
    word("provider"),
    word("requested_model"),
    word("upstream_model"),
    word("served_model"),
    word("kind"),
    number("amount_nusd"),
    number("hold_nusd"),
    number("hold_tokens"),
    number("max_output_tokens"),
    number("tokens"),
    number("input_tokens"),
    number("cache_write_5m_tokens"),
    number("cache_write_1h_tokens"),
    number("cache_read_tokens"),
    number("output_tokens"),
    number("input_audio_tokens"),
    number("output_audio_tokens"),
    number("web_searches"),
    number("web_fetches"),
    word("variant"),
    word("price_version"),
    flag("streamed"),
    number("status"),
    number("duration_us"),
    number("first_byte_us"),
    number("response_bytes"),
    word("client"),
    word("session"),
    word("code"),
    word("upstream_request_id"),
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
    number("attempts"),
    number("at_ns"),
    word("org_id"),
    word("user_id"),
    word("key_id"),
    word("endpoint"),
    word("provider"),
    word("requested_model"),
    word("upstream_model"),
    word("served_model"),
    number("status"),
    word("code"),
    word("kind"),
    number("hold_nusd"),
    number("max_output_tokens"),
    word("price_version"),
    flag("streamed"),
    number("duration_us"),
    number("first_byte_us"),
    number("response_bytes"),
    word("client"),
    word("session"),
    word("upstream_request_id"),
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
    number("at_ns"),
    Column("answer", LargeBinary, nullable=False),
    Index(None, "at_ns"),
)
"""What was done under which Idempotency-Key. Bounded by time and number."""
