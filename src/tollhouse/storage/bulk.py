"""Many rows in one statement.

Past SQLAlchemy's per-row binding, which costs more than SQLite's insert itself (2.5 times, measured), and past
executemany too: that gives up and takes back the interpreter's lock for every row, and each time the event loop's
thread has to fight for it. One statement of many rows does so once; what it inserts is made just before it, so that
the lock is never held for long.

    SQLite        VALUES with a question mark for each value: 8 µs a row of the ledger
    PostgreSQL    json_to_recordset of one parameter, JSON that msgspec writes: 4–6 µs a row of this process, 23–38 in
                  all. VALUES took 120–135 and 146–202 (psycopg adapts every value), arrays for unnest 20–30 and
                  40–60, COPY to a temporary table 3–5 and 16–27, for two more statements and a right to make tables.

JSON has no place for U+0000 in a PostgreSQL text; there it becomes U+FFFD.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import BigInteger, Column, Connection, SmallInteger

SIZES = (125, 25, 5, 1)
"""SQLite: rows of a statement, largest first: few, so that the prepared statements are found again."""
JSON_ROWS = 250
"""PostgreSQL: rows of a statement, at most; they are made in half a millisecond."""
NUL = "\0"
NO_NUL = "\ufffd"

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class Bulk:
    """A statement around `{rows}`, which stands for a table of the values: `VALUES (?, ?), (?, ?) …` or a SELECT; in
    words SQLite and PostgreSQL share. `columns` are the names of the values and their types in PostgreSQL. It holds
    nothing that was input.
    """

    def __init__(self, sql: str, columns: Mapping[str, str]) -> None:
        self._names = tuple(columns)
        marks = f"({', '.join('?' * len(columns))})"
        self._statements = [(size, sql.format(rows="VALUES " + ", ".join([marks] * size))) for size in SIZES]
        typed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        self._json_statement = sql.format(rows=f"SELECT * FROM json_to_recordset(%s) AS given ({typed})")  # noqa: S608

    @classmethod
    def insert(cls, columns: "Sequence[Column[Any]]", then: str = "") -> "Bulk":
        """`INSERT INTO table (columns)` of these columns of one table, and what follows."""
        names = ", ".join(f'"{column.name}"' for column in columns)
        table = columns[0].table
        sql = f"INSERT INTO {table} ({names}) {{rows}} {then}"
        return cls(sql, {column.name: _kind(column) for column in columns})

    def write(self, connection: Connection, things: Sequence[T], row: Callable[[T], tuple[Any, ...]]) -> int:
        """Write all, in their order; how many rows were inserted or changed. `row` makes a thing's values."""
        if connection.dialect.name == "postgresql":
            return self._write_json(connection, things, row)
        done = changed = 0
        for size, statement in self._statements:
            while len(things) - done >= size:
                values: list[Any] = []
                for thing in things[done : done + size]:
                    values += row(thing)
                changed += connection.exec_driver_sql(statement, tuple(values)).rowcount
                done += size
        return changed

    def _write_json(self, connection: Connection, things: Sequence[T], row: Callable[[T], tuple[Any, ...]]) -> int:
        changed, names = 0, self._names
        for start in range(0, len(things), JSON_ROWS):
            some = [dict(zip(names, row(thing), strict=True)) for thing in things[start : start + JSON_ROWS]]
            encoded = _encode(some)
            if b"\\u0000" in encoded:
                encoded = _encode([{name: without_nul(value) for name, value in one.items()} for one in some])
            changed += connection.exec_driver_sql(self._json_statement, (encoded.decode(),)).rowcount
        return changed


def without_nul(value: Any) -> Any:
    """A text with U+FFFD for each U+0000, which JSON can spell and PostgreSQL cannot store; anything else as it is."""
    return value.replace(NUL, NO_NUL) if isinstance(value, str) else value


def _kind(column: "Column[Any]") -> str:
    if isinstance(column.type, SmallInteger):
        return "smallint"
    return "bigint" if isinstance(column.type, BigInteger) else "text"
