"""Many rows in one statement.

Past SQLAlchemy's per-row binding, which costs more than SQLite's insert itself (2.5 times, measured), and past
executemany too: that gives up and takes back the interpreter's lock for every row, and each time the event loop's
thread has to fight for it. One statement of many rows does so once.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

SIZES = (64, 8, 1)
"""Rows of a statement, largest first: few, so that the prepared statements are found again."""


class Insert:
    """`INSERT INTO table (columns) VALUES …` and what follows, in words SQLite and PostgreSQL share.

    The names are the caller's own, never input.
    """

    def __init__(self, table: str, columns: Sequence[str], then: str = "") -> None:
        names = ", ".join(f'"{name}"' for name in columns)
        marks = f"({', '.join('?' * len(columns))})"
        self._statements = {
            size: f"INSERT INTO {table} ({names}) VALUES {', '.join([marks] * size)} {then}".rstrip()  # noqa: S608
            for size in SIZES
        }

    def write(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert all rows, in their order. Each has its values in the order of the columns."""
        done = 0
        for size in SIZES:
            statement = own_marks(connection, self._statements[size])
            while len(rows) - done >= size:
                values = tuple([value for row in rows[done : done + size] for value in row])
                connection.exec_driver_sql(statement, values)
                done += size


def own_marks(connection: Connection, sql: str) -> str:
    """The statement with this driver's marks for values."""
    return sql if connection.dialect.paramstyle == "qmark" else sql.replace("?", "%s")
