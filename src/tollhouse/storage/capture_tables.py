"""The table of captured content. As those of `tables`, and of the same metadata.

What was asked and answered stands in `sealed` only, an envelope that a master key opens (`tollhouse.vault`).
"""

from sqlalchemy import Column, Index, LargeBinary, SmallInteger, Table

from tollhouse.storage.columns import Word, number, word
from tollhouse.storage.tables import metadata as metadata

captures = Table(
    "captures",
    metadata,
    Column("request_id", Word, primary_key=True),
    word("org_id"),
    word("user_id"),
    word("key_id"),
    number("at_ns"),
    number("expires_at_ns"),
    number("request_bytes"),
    Column("request_cut", SmallInteger, nullable=False),
    number("answer_bytes"),
    Column("answer_cut", SmallInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    number("sealed_under"),
    Index(None, "expires_at_ns"),
    Index(None, "user_id"),
    Index(None, "sealed_under"),
)
"""`request_bytes` and `answer_bytes` are the whole sizes; where `…_cut` is 1, only the beginning is in the envelope."""
