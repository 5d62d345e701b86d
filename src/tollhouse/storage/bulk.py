"""Many rows in one statement.

Past SQLAlchemy's per-row binding, which costs more than SQLite's insert itself (2.5 times, measured), and past
executemany too: that gives up and takes back the interpreter's lock for every row, and each time the event loop's
thread has to fight for it. One statement of many rows does so once; what it inserts is made just before it, so that
the lock is never held for long.

    SQLite        VALUES with a question mark for each value, or for many rows where they are alike: to bind a text
                  costs 680 instructions, to use it once more 60
    PostgreSQL    json_to_recordset of one parameter, JSON that msgspec writes: 4–6 µs a row of this process, 23–38 in
                  all. VALUES took 120–135 and 146–202 (psycopg adapts every value), arrays for unnest 20–30 and
                  40–60, COPY to a temporary table 3–5 and 16–27, for two more statements and a right to make tables.

JSON has no place for U+0000 in a PostgreSQL text; there it becomes U+FFFD.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

import msgspec
from sqlalchemy import BigInteger, Column, Connection, SmallInteger

SIZES = (125, 25, 5, 1)
"""SQLite: rows of a statement, largest first: few, so that the prepared statements are found again."""
ALIKE_SIZES = SIZES[:2]
"""The same of rows that are partly alike; fewer rows do not pay for a statement of their own."""
JSON_ROWS = 250
"""PostgreSQL: rows of a statement, at most; they are made in half a millisecond."""
NUL = "\0"
NO_NUL = "\ufffd"

T = TypeVar("T")
Row = tuple[Any, ...]
_encode = msgspec.json.Encoder().encode


class Bulk:
    """A statement around `{rows}`, which stands for a table of the values: `VALUES (?, ?), (?, ?) …` or a SELECT; in
    words SQLite and PostgreSQL share. `columns` are the names of the values and their types in PostgreSQL; those also
    named in `alike` are often the same in many rows. It holds nothing that was input.
    """

    def __init__(self, sql: str, columns: Mapping[str, str], alike: Sequence[str] = ()) -> None:
        self._given = (*alike, *(name for name in columns if name not in alike))
        """The values of a row in the order in which they are given; `_placed` brings them into that of the columns."""
        self._placed = itemgetter(*map(self._given.index, columns))
        self._statements = [(size, sql.format(rows=_marks(columns, (), size))) for size in SIZES]
        self._alike_statements = [
            (size, sql.format(rows=_marks(columns, alike, size))) for size in (ALIKE_SIZES if alike else ())
        ]
        typed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        self._json_statement = sql.format(rows=f"SELECT * FROM json_to_recordset(%s) AS given ({typed})")  # noqa: S608

    @classmethod
    def insert(cls, columns: "Sequence[Column[Any]]", then: str = "", alike: Sequence[str] = ()) -> "Bulk":
        """`INSERT INTO table (columns)` of these columns of one table, and what follows."""
        names = ", ".join(f'"{column.name}"' for column in columns)
        table = columns[0].table
        sql = f"INSERT INTO {table} ({names}) {{rows}} {then}"
        return cls(sql, {column.name: _kind(column) for column in columns}, alike)

    def write(
        self,
        connection: Connection,
        things: Sequence[T],
        row: Callable[[T], Row],
        alike: "Callable[[T], Row] | None" = None,
    ) -> int:
        """Write all; how many rows were inserted or changed. `row` makes a thing's values, without those of the columns
        `alike`, which the function of that name makes. Rows go in the order of the things, but where many are alike,
        they go together, before the others.
        """
        parts: list[Row] = [()] * len(things) if alike is None else [alike(thing) for thing in things]
        if connection.dialect.name == "postgresql":
            return self._write_json(connection, things, parts, row)
        changed, rest = self._write_groups(connection, things, parts, row)
        done = 0
        for size, statement in self._statements:
            while len(rest) - done >= size:
                values: list[Any] = []
                for place in rest[done : done + size]:
                    values += self._placed(parts[place] + row(things[place]))
                changed += connection.exec_driver_sql(statement, tuple(values)).rowcount
                done += size
        return changed

    def _write_groups(
        self, connection: Connection, things: Sequence[T], parts: Sequence[Row], row: Callable[[T], Row]
    ) -> tuple[int, Sequence[int]]:
        """Write where many parts are equal; how many rows were inserted or changed, and the places of the others."""
        if not self._alike_statements:
            return 0, range(len(things))
        groups: dict[Row, list[int]] = {}
        for place, part in enumerate(parts):
            places = groups.get(part)
            if places is None:
                groups[part] = [place]
            else:
                places.append(place)
        changed = 0
        rest: list[int] = []
        for part, places in groups.items():
            done = 0
            for size, statement in self._alike_statements:
                while len(places) - done >= size:
                    values = [*self._placed(part + row(things[places[done]]))]
                    for place in places[done + 1 : done + size]:
                        values += row(things[place])
                    changed += connection.exec_driver_sql(statement, tuple(values)).rowcount
                    done += size
            rest += places[done:]
        rest.sort()
        return changed, rest

    def _write_json(
        self, connection: Connection, things: Sequence[T], parts: Sequence[Row], row: Callable[[T], Row]
    ) -> int:
        changed, names = 0, self._given
        for start in range(0, len(things), JSON_ROWS):
            places = range(start, min(start + JSON_ROWS, len(things)))
            some = [dict(zip(names, parts[place] + row(things[place]), strict=True)) for place in places]
            encoded = _encode(some)
            if b"\\u0000" in encoded:
                encoded = _encode([{name: without_nul(value) for name, value in one.items()} for one in some])
            changed += connection.exec_driver_sql(self._json_statement, (encoded.decode(),)).rowcount
        return changed


def _marks(columns: Iterable[str], alike: Collection[str], rows: int) -> str:
    """VALUES of a whole row, then of further rows that take from the first what is alike. Only that is done by number:
    SQLite looks each numbered mark up in a list of all that are.
    """
    whole = ["?" for _ in columns]
    further = [f"?{number}" if name in alike else "?" for number, name in enumerate(columns, 1)]
    return "VALUES " + ", ".join([f"({', '.join(marks)})" for marks in (whole, *[further] * (rows - 1))])


def without_nul(value: Any) -> Any:
    """A text with U+FFFD for each U+0000, which JSON can spell and PostgreSQL cannot store; anything else as it is."""
    return value.replace(NUL, NO_NUL) if isinstance(value, str) else value


def _kind(column: "Column[Any]") -> str:
    if isinstance(column.type, SmallInteger):
        return "smallint"
    return "bigint" if isinstance(column.type, BigInteger) else "text"
