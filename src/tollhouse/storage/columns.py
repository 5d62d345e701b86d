"""Types of columns that tables and migrations share."""

from sqlalchemy import String

Word = String().with_variant(String(collation="C"), "postgresql")
"""Names and ids, in order of their bytes as SQLite has them. A language's order would differ between databases, and it
changes with the system's C library, which leaves indices in the old order behind: then one may let an entry of the
ledger in twice.
"""
