"""Statements for what happens at every call: compiled once, then given to the driver as they are.

SQLAlchemy Core writes them, so that they mean the same on both databases. Executed by it they would
be looked up, and their values and rows wrapped, each time anew, which costs more than the driver
does. Errors are told as SQLAlchemy tells them.
"""

from collections import namedtuple
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql.compiler import SQLCompiler

# A named tuple: a field for each column, by its name.
Row: TypeAlias = Any

_Process: TypeAlias = Callable[[Any], Any]
# Core reserves the columns' own names for itself.
NEW: Final = "new_"
_NOTHING: Final[Mapping[str, Any]] = {}


class Statement:
    """A Core statement, with a bound parameter for each value that differs between calls.

    Where the databases differ, a function makes it for the name of a dialect. Expanding parameters
    (lists for IN) are not supported.
    """

    def __init__(self, clause: sa.Executable | Callable[[str], sa.Executable]) -> None:
        self._clause = clause
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, connection: Connection, values: Mapping[str, Any] = _NOTHING) -> list[Row]:
        """Execute it and return all rows."""
        compiled = self._of(connection.dialect)
        return compiled.rows(_execute(connection, compiled, values))

    def first(self, connection: Connection, values: Mapping[str, Any] = _NOTHING) -> Row | None:
        """Execute it and return the first row, None without any."""
        rows = self.rows(connection, values)
        return rows[0] if rows else None

    def change(self, connection: Connection, values: Mapping[str, Any] = _NOTHING) -> int:
        """Execute it and return how many rows it inserted or changed."""
        return int(_execute(connection, self._of(connection.dialect), values).rowcount)

    def change_each(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute it for each of several rows."""
        _execute_each(connection, self._of(connection.dialect), rows)

    def _of(self, dialect: Dialect) -> "_Compiled":
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            # Two threads that are first at the same time make the same.
            clause = self._clause(dialect.name) if callable(self._clause) else self._clause
            compiled = self._compiled[dialect.name] = _compile(clause, dialect)
        return compiled


def insert_all(table: sa.Table, *, but: Collection[str] = ()) -> sa.Insert:
    """Insert a row, with a parameter for each column that is not left to the database."""
    columns = [column for column in table.c if column.name not in but]
    return sa.insert(table).inline().values({c.name: parameter(c) for c in columns})


def insert_or_ignore(table: sa.Table, *, but: Collection[str] = ()) -> Statement:
    """Insert a row, named as by `new`, unless its key exists. It counts 1 if it was inserted.

    On PostgreSQL this waits for a concurrent insert of the same key to end; look the row up
    in a second statement, which then sees it.
    """

    def clause(dialect: str) -> sa.Executable:
        insert: Any = (sqlite if dialect == "sqlite" else postgresql).insert
        columns = [column for column in table.c if column.name not in but]
        values = {column.name: parameter(column) for column in columns}
        statement: sa.Executable = insert(table).inline().values(values).on_conflict_do_nothing()
        return statement

    return Statement(clause)


def parameter(column: sa.Column[Any], name: str = "") -> sa.BindParameter[Any]:
    """Make a parameter of a column's type, with its name or another."""
    return sa.bindparam(name or f"{NEW}{column.name}", type_=column.type)


def new(values: Mapping[str, Any]) -> dict[str, Any]:
    """Name a row's values as the parameters of `insert_all` are named."""
    return {f"{NEW}{name}": value for name, value in values.items()}


@dataclass(frozen=True)
class _Compiled:
    """What the driver gets: the text, how each value is written, and how rows are read."""

    text: str
    # By the names of the text, or in its order.
    binds: Sequence[tuple[str, _Process | None]]
    constants: Mapping[str, Any]
    is_positional: bool
    make_row: Callable[[Iterable[Any]], Row]
    reads: Sequence[tuple[int, _Process]]

    def parameters(self, values: Mapping[str, Any]) -> Any:
        known = {**self.constants, **values} if self.constants else values
        written = [
            (name, known[name] if process is None else process(known[name]))
            for name, process in self.binds
        ]
        return [value for _, value in written] if self.is_positional else dict(written)

    def rows(self, cursor: Any) -> list[Row]:
        fetched = cursor.fetchall()
        if not self.reads:
            return [self.make_row(row) for row in fetched]
        rows = []
        for row in fetched:
            columns = list(row)
            for place, process in self.reads:
                columns[place] = process(columns[place])
            rows.append(self.make_row(columns))
        return rows


def _compile(clause: sa.Executable, dialect: Dialect) -> _Compiled:
    compiled = clause.compile(dialect=dialect)  # type: ignore[attr-defined]
    assert isinstance(compiled, SQLCompiler)
    names = compiled.positiontup if compiled.positional else list(compiled.binds)
    assert names is not None
    types = {name: bind.type for name, bind in compiled.binds.items()}
    columns = compiled._result_columns  # noqa: SLF001 - Core has no other name for them
    reads = [
        column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns
    ]
    fields = [column.keyname for column in columns]
    row_type: Any = namedtuple("_Row", fields)  # type: ignore[misc]  # noqa: PYI024 - known only here
    return _Compiled(
        text=str(compiled),
        binds=[(name, types[name].dialect_impl(dialect).bind_processor(dialect)) for name in names],
        constants={
            name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required
        },
        is_positional=bool(compiled.positional),
        make_row=row_type._make,
        reads=[(place, read) for place, read in enumerate(reads) if read is not None],
    )


def _execute(connection: Connection, compiled: _Compiled, values: Mapping[str, Any]) -> Any:
    dbapi = connection.dialect.dbapi
    assert dbapi is not None
    driver: Any = connection.connection.driver_connection
    parameters = compiled.parameters(values)
    try:
        return driver.execute(compiled.text, parameters)
    except dbapi.Error as error:
        raise _told(connection, compiled.text, error) from error


def _execute_each(
    connection: Connection, compiled: _Compiled, rows: Iterable[Mapping[str, Any]]
) -> None:
    dbapi = connection.dialect.dbapi
    assert dbapi is not None
    driver: Any = connection.connection.driver_connection
    parameters = [compiled.parameters(values) for values in rows]
    try:
        driver.cursor().executemany(compiled.text, parameters)
    except dbapi.Error as error:
        raise _told(connection, compiled.text, error) from error


def _told(connection: Connection, text: str, error: Any) -> BaseException:
    dialect = connection.dialect
    assert dialect.dbapi is not None
    is_lost = dialect.is_disconnect(error, connection.connection.driver_connection, None)
    if is_lost:
        connection.invalidate(error)
    told: BaseException = exc.DBAPIError.instance(
        text,
        None,
        error,
        dialect.dbapi.Error,
        hide_parameters=True,
        connection_invalidated=is_lost,
        dialect=dialect,
    )
    return told
