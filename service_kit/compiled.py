"""What the driver gets: a Core statement compiled once, its values written and its rows read.

Errors are told as SQLAlchemy tells them.
"""

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.util import find_tables

# A named tuple: a field for each column, by its name.
Row: TypeAlias = Any

_Process: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True)
class Compiled:
    """The text, how each value is written, how rows are read, and which tables it is about."""

    text: str
    # By the names of the text, or in its order.
    binds: Sequence[tuple[str, _Process | None]]
    constants: Mapping[str, Any]
    is_positional: bool
    make_row: Callable[[Iterable[Any]], Row]
    reads: Sequence[tuple[int, _Process]]
    tables: frozenset[str]

    def parameters(self, values: Mapping[str, Any]) -> Any:
        """Write values as the driver takes them. Raises KeyError for one that is missing."""
        known = {**self.constants, **values} if self.constants else values
        written = [
            (name, known[name] if process is None else process(known[name]))
            for name, process in self.binds
        ]
        return [value for _, value in written] if self.is_positional else dict(written)

    def rows(self, cursor: Any) -> list[Row]:
        """Read all rows."""
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


@dataclass(frozen=True)
class Change:
    """A statement that is to change so many rows."""

    compiled: Compiled
    values: dict[str, Any]
    rows: int


def compile_once(clause: sa.Executable, dialect: Dialect) -> Compiled:
    """Compile a statement."""
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
    tables: Any = find_tables(clause, include_crud=True)  # type: ignore[arg-type]
    return Compiled(
        text=str(compiled),
        binds=[(name, types[name].dialect_impl(dialect).bind_processor(dialect)) for name in names],
        constants={
            name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required
        },
        is_positional=bool(compiled.positional),
        make_row=row_type._make,
        reads=[(place, read) for place, read in enumerate(reads) if read is not None],
        tables=frozenset(table.name for table in tables),
    )


def execute(connection: Connection, compiled: Compiled, values: Mapping[str, Any]) -> Any:
    """Execute a statement and return the driver's cursor."""
    driver: Any = connection.connection.driver_connection
    return _run(connection, driver.execute, compiled.text, compiled.parameters(values))


def execute_each(
    connection: Connection, compiled: Compiled, rows: Iterable[Mapping[str, Any]]
) -> None:
    """Execute a statement for each of several rows."""
    driver: Any = connection.connection.driver_connection
    parameters = [compiled.parameters(values) for values in rows]
    _run(connection, driver.cursor().executemany, compiled.text, parameters)


def execute_together(connection: Connection, changes: Sequence[Change]) -> None:
    """Make several changes with one statement, on PostgreSQL.

    They are made one after the other, and none of them sees what the others do. Raises
    sqlalchemy.exc.DBAPIError if one of them does not change as many rows as it is to; then
    nothing is changed.
    """
    driver: Any = connection.connection.driver_connection
    values = {}
    for place, change in enumerate(changes):
        values[f"rows{place}"] = change.rows
        for name, value in change.compiled.parameters(change.values).items():
            values[f"{place}_{name}"] = value
    text = _together(tuple(change.compiled.text for change in changes))
    _run(connection, driver.execute, text, values)


@cache
def _together(texts: tuple[str, ...]) -> str:
    steps = ", ".join(
        f"step{place} AS ({text.replace('%(', f'%({place}_')} RETURNING 1)"
        for place, text in enumerate(texts)
    )
    counts = " AND ".join(
        f"(SELECT count(*) FROM step{place}) = %(rows{place})s"  # noqa: S608 - of numbers
        for place in range(len(texts))
    )
    # Counting a step executes it, and AND comes to the next one after that. Dividing by zero is how
    # a statement that has gone wrong takes back what it has done.
    return f"WITH {steps} SELECT 1 / CASE WHEN {counts} THEN 1 ELSE 0 END"


def _run(connection: Connection, run: Callable[[str, Any], Any], text: str, values: Any) -> Any:
    dialect = connection.dialect
    assert dialect.dbapi is not None
    try:
        return run(text, values)
    except dialect.dbapi.Error as error:
        raise _told(connection, text, error) from error


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
