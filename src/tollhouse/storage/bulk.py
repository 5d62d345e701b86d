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
OF_SQLITE = "INSERT OR FAIL"
"""A row that breaks a rule ends the transaction, which undoes all. By default SQLite could undo the statement alone: it
keeps what was in every page that the statement changes, for that, in a file; that were two of five of all its writes.
"""
JSON_ROWS = 250
"""PostgreSQL: rows of a statement, at most; they are made in half a millisecond."""
NUL = "\0"
NO_NUL = "\ufffd"

T = TypeVar("T")
Row = tuple[Any, ...]
_encode = msgspec.json.Encoder().encode


class Bulk:
    """A statement `{insert} INTO …` around `{rows}`, which stands for a table of the values: `VALUES (?, ?), (?, ?) …`
    or a SELECT; in words SQLite and PostgreSQL share. `columns` are the names of the values (which the statement may
    ask for by `{names}`) and their types in PostgreSQL; those also named in `alike` are often the same in many rows. It
    holds nothing that was input.

    SQLite's values may have other `places`, with NULL where nothing is given.
    """

    def __init__(
        self, sql: str, columns: Mapping[str, str], alike: Sequence[str] = (), places: Sequence[str] = ()
    ) -> None:
        self._given = (*alike, *(name for name in columns if name not in alike))
        """The values of a row in the order in which they are given; `_placed` brings them into that of the columns."""
        self._placed = itemgetter(*map(self._given.index, columns))
        places = places or tuple(columns)

        def statements(sizes: Iterable[int], alike: Collection[str]) -> list[tuple[int, str]]:
            names = _quoted(places)
            rows = [(size, _marks(places, columns, alike, size)) for size in sizes]
            return [(size, sql.format(insert=OF_SQLITE, names=names, rows=values)) for size, values in rows]

        self._statements = statements(SIZES, ())
        self._alike_statements = statements(ALIKE_SIZES, alike) if alike else []
        typed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        rows = f"SELECT * FROM json_to_recordset(%s) AS given ({typed})"  # noqa: S608
        self._json_statement = sql.format(insert="INSERT", names=_quoted(columns), rows=rows)

    @classmethod
    def insert(
        cls, columns: "Sequence[Column[Any]]", then: str = "", alike: Sequence[str] = (), numbered: str = ""
    ) -> "Bulk":
        """`INSERT INTO table (columns)` of all columns of one table, and what follows. The column `numbered` is the
        database's to fill in. To SQLite it is named, as NULL: only when all columns are named in the order of the table
        does it take a row's values where they are, else it copies each to another place first.
        """
        given = {column.name: _kind(column) for column in columns if column.name != numbered}
        sql = f"{{insert}} INTO {columns[0].table} ({{names}}) {{rows}} {then}"
        return cls(sql, given, alike, [column.name for column in columns])

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
        last, places = None, []
        for place, part in enumerate(parts):
            if part != last:  # or the same as before: not even its hash is asked for
                last, places = part, groups.setdefault(part, [])
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


def _marks(places: Iterable[str], columns: Iterable[str], alike: Collection[str], rows: int) -> str:
    """VALUES of a whole row, then of further rows that take from the first what is alike. Only that is done by number:
    SQLite looks each numbered mark up in a list of all that are. What is not given is NULL.
    """
    numbers = {name: number for number, name in enumerate(columns, 1)}
    whole = ["?" if name in numbers else "NULL" for name in places]
    further = [f"?{numbers[name]}" if name in alike else mark for name, mark in zip(places, whole, strict=True)]
    return "VALUES " + ", ".join([f"({', '.join(marks)})" for marks in (whole, *[further] * (rows - 1))])


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def without_nul(value: Any) -> Any:
    """A text with U+FFFD for each U+0000, which JSON can spell and PostgreSQL cannot store; anything else as it is."""
    return value.replace(NUL, NO_NUL) if isinstance(value, str) else value


def _kind(column: "Column[Any]") -> str:
    if isinstance(column.type, SmallInteger):
        return "smallint"
    return "bigint" if isinstance(column.type, BigInteger) else "text"
