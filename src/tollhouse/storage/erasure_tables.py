"""The table of erased users. As those of `tables`, and of the same metadata."""

from sqlalchemy import BigInteger, Column, Index, Table

from tollhouse.storage.columns import Word
from tollhouse.storage.tables import metadata as metadata

erasures = Table(
    "erasures",
    metadata,
    Column("pseudonym", Word, primary_key=True),
    Column("user_id", Word, nullable=False),
    Column("begun_at_ns", BigInteger, nullable=False),
    Column("done_at_ns", BigInteger, nullable=True),
    Index(None, "user_id"),
)
"""`user_id` is who it was for as long as rows of theirs are left, and empty once all is done."""
