"""Many rows in one statement.

Past SQLAlchemy's per-row binding, which costs more than SQLite's insert itself (2.5 times, measured), and past
executemany too: that gives up and takes back the interpreter's lock for every row, and each time the event loop's
thread has to fight for it. One statement of many rows does so once; what it inserts is made just before it, so that
the lock is never held for long.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

SIZES = (125, 25, 5, 1)
"""Rows of a statement, largest first: few, so that the prepared statements are found again."""

T = TypeVar("T")


class Bulk:
    """A statement around `{rows}`, which stands for the values: `(?, ?), (?, ?) …`; in words SQLite and PostgreSQL
    share. It holds nothing that was input.
    """

    def __init__(self, sql: str, width: int) -> None:
        marks = f"({', '.join('?' * width)})"
        self._statements = [(size, sql.format(rows=", ".join([marks] * size))) for size in SIZES]

    @classmethod
    def insert(cls, table: str, columns: Sequence[str], then: str = "") -> "Bulk":
        """`INSERT INTO table (columns) VALUES …` and what follows. The names are the caller's own, never input."""
        names = ", ".join(f'"{name}"' for name in columns)
        return cls(f"INSERT INTO {table} ({names}) VALUES {{rows}} {then}", len(columns))  # noqa: S608

    def write(self, connection: Connection, things: Sequence[T], row: Callable[[T], tuple[Any, ...]]) -> int:
        """Write all, in their order; how many rows were inserted or changed. `row` makes a thing's values."""
        done = changed = 0
        question_marks = connection.dialect.paramstyle == "qmark"
        for size, statement in self._statements:
            sql = statement if question_marks else statement.replace("?", "%s")
            while len(things) - done >= size:
                values: list[Any] = []
                for thing in things[done : done + size]:
                    values += row(thing)
                changed += connection.exec_driver_sql(sql, tuple(values)).rowcount
                done += size
        return changed
