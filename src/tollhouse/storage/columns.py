"""Types of columns that tables and migrations share, and the columns that most tables have."""

from sqlalchemy import BigInteger, Column, SmallInteger, String

Word = String().with_variant(String(collation="C"), "postgresql")
"""Names and ids, in order of their bytes as SQLite has them. A language's order would differ between databases, and it
changes with the system's C library, which leaves indices in the old order behind: then one may let an entry of the
ledger in twice.
"""


def word(name: str) -> "Column[str]":
    return Column(name, Word, nullable=False)


def perhaps(name: str) -> "Column[str | None]":
    return Column(name, Word, nullable=True)


def number(name: str) -> "Column[int]":
    return Column(name, BigInteger, nullable=False)


def moment(name: str) -> "Column[int | None]":
    return Column(name, BigInteger, nullable=True)


def flag(name: str) -> "Column[int]":
    """0 or 1. Many rows are written as plain values, and sqlite3 takes an int as it is, but looks for an adapter each
    time it gets a bool.
    """
    return Column(name, SmallInteger, nullable=False)
