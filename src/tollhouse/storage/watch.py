"""Sees which audited rows a transaction changes, whoever wrote the statement.

Before each UPDATE and DELETE on an audited table its rows are read, by its own WHERE, and all of them, with those that
were inserted, once more at the end: what differs was changed. So no handler says what it does, none can forget to, and
what it says cannot differ from what it did. Statements are SQLAlchemy's own, of plain forms; another form on an audited
table is refused, for it would leave no record.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Delete, Insert, Table, Update, select, tuple_

from tollhouse.storage.audited import AUDITED, UNRECORDED
from tollhouse.terms.audit import Author
from tollhouse.terms.errors import StorageError

MAX_ROWS = 200_000
"""Audited rows that one transaction changes: they are in memory until its end."""
_AT_ONCE = 500
_KEY = "tollhouse.watch"
_Row = dict[str, Any]


class Change:
    """One row: None where it was or is not there."""

    __slots__ = ("after", "before", "table")

    def __init__(self, table: str, before: _Row | None, after: _Row | None) -> None:
        self.table = table
        self.before = before
        self.after = after


class Event:
    """An act that changes no row: `facts` are told as they are, `about` is a user id or empty."""

    __slots__ = ("about", "act", "facts", "kind")

    def __init__(self, act: str, kind: str, about: str, facts: Mapping[str, Any]) -> None:
        self.act = act
        self.kind = kind
        self.about = about
        self.facts = facts


class Watch:
    """One transaction."""

    def __init__(self, connection: Connection, author: Author) -> None:
        self.connection = connection
        self.author = author
        self.events: list[Event] = []
        self.forgotten: list[str] = []
        """Users whose references are to be emptied."""
        self._found: dict[Table, dict[tuple[Any, ...], _Row | None]] = {}
        self._rows = 0

    def before(self, statement: Insert | Update | Delete, params: Sequence[Mapping[str, Any]]) -> None:
        """Note the rows that a statement is about to touch."""
        table = statement.table
        if not isinstance(table, Table) or table.name not in AUDITED:
            return
        if isinstance(statement, Insert):
            if type(statement) is not Insert or statement.select is not None:
                raise _unseen(table)
            return
        if params:
            raise _unseen(table)
        query = select(table)
        if statement.whereclause is not None:
            query = query.where(statement.whereclause)
        for row in self.connection.execute(query):
            self._note(table, _plain(row), there=True)

    def inserted(self, statement: Insert, rows: Sequence[Mapping[str, Any]]) -> None:
        """Note the rows that a statement has made: there were none of these names, or it would have failed."""
        table = statement.table
        if not isinstance(table, Table) or table.name not in AUDITED:
            return
        for row in rows:
            if any(column.name not in row for column in table.primary_key.columns):
                raise _unseen(table)
            self._note(table, dict(row), there=False)

    def _note(self, table: Table, row: _Row, *, there: bool) -> None:
        found = self._found.setdefault(table, {})
        name = tuple(row[column.name] for column in table.primary_key.columns)
        if name not in found:
            found[name] = row if there else None
            self._rows += 1
            if self._rows > MAX_ROWS:
                raise StorageError(f"one change touches more than {MAX_ROWS:,} things; make it several")

    def changes(self) -> Iterator[Change]:
        """What is different now, in the order in which it was touched first."""
        for table, rows in self._found.items():
            names = list(rows)
            for at in range(0, len(names), _AT_ONCE):
                some = names[at : at + _AT_ONCE]
                after = self._read(table, some)
                for name in some:
                    if rows[name] != after.get(name):
                        yield Change(table.name, rows[name], after.get(name))

    def _read(self, table: Table, names: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], _Row]:
        columns = list(table.primary_key.columns)
        wanted: ColumnElement[bool] = (
            columns[0].in_([name[0] for name in names]) if len(columns) == 1 else tuple_(*columns).in_(names)
        )
        found = map(_plain, self.connection.execute(select(table).where(wanted)))
        return {tuple(row[column.name] for column in columns): row for row in found}


def begin(connection: Connection, author: Author) -> Watch:
    watch = Watch(connection, author)
    connection.info[_KEY] = watch
    return watch


def end(connection: Connection) -> None:
    connection.info.pop(_KEY, None)


def watch_of(connection: Connection) -> Watch | None:
    """None where no trail is kept, or outside of a transaction."""
    found: Watch | None = connection.info.get(_KEY)
    return found


def before_execute(
    connection: Connection,
    statement: Any,
    many: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    options: Mapping[str, Any],
) -> None:
    """SQLAlchemy's event of that name."""
    if not isinstance(statement, Insert | Update | Delete) or UNRECORDED.items() <= options.items():
        return
    watch = watch_of(connection)
    if watch is not None:
        watch.before(statement, list(many) or ([params] if params else []))


def after_execute(
    connection: Connection,
    statement: Any,
    _many: Sequence[Mapping[str, Any]],
    _params: Mapping[str, Any],
    options: Mapping[str, Any],
    result: Any,
) -> None:
    """SQLAlchemy's event of that name."""
    if not isinstance(statement, Insert) or UNRECORDED.items() <= options.items():
        return
    watch = watch_of(connection)
    if watch is not None:
        watch.inserted(statement, result.context.compiled_parameters)


def _plain(row: Any) -> _Row:
    """SQLAlchemy's names of columns are no plain words."""
    return {str(name): value for name, value in row._mapping.items()}


def _unseen(table: Table) -> StorageError:
    return StorageError(f"a statement of this form on {table.name} would leave no record in the audit trail")
