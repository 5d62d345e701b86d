"""The table of captured content. As those of `tables`, and of the same metadata.

What was asked and answered stands in `sealed` only, an envelope that a master key opens (`tollhouse.vault`).
"""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, SmallInteger, Table

from tollhouse.storage.columns import Word
from tollhouse.storage.tables import metadata as metadata


def _word(name: str) -> "Column[str]":
    return Column(name, Word, nullable=False)


def _number(name: str) -> "Column[int]":
    return Column(name, BigInteger, nullable=False)


captures = Table(
    "captures",
    metadata,
    Column("request_id", Word, primary_key=True),
    _word("org_id"),
    _word("user_id"),
    _word("key_id"),
    _number("at_ns"),
    _number("expires_at_ns"),
    _number("request_bytes"),
    Column("request_cut", SmallInteger, nullable=False),
    _number("answer_bytes"),
    Column("answer_cut", SmallInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    _number("sealed_under"),
    Index(None, "expires_at_ns"),
    Index(None, "user_id"),
    Index(None, "sealed_under"),
)
"""`request_bytes` and `answer_bytes` are the whole sizes; where `…_cut` is 1, only the beginning is in the envelope."""
