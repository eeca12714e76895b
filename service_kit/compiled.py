"""What the driver gets: a Core statement compiled once, its values written and its rows read.

Errors are told as SQLAlchemy tells them.
"""

import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from psycopg import RawCursor
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.util import find_tables

# A named tuple: a field for each column, by its name.
Row: TypeAlias = Any

_Process: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Compiled:
    """The text, how each value is written, how rows are read, and which tables it is about."""

    text: str
    # In the order of the text's parameters.
    binds: Sequence[tuple[str, _Process | None]]
    constants: Mapping[str, Any]
    make_row: Callable[[Iterable[Any]], Row]
    reads: Sequence[tuple[int, _Process]]
    tables: frozenset[str]
    only_reads: bool

    def parameters(self, values: Mapping[str, Any]) -> list[Any]:
        """Write values as the driver takes them. Raises KeyError for one that is missing."""
        known = {**self.constants, **values} if self.constants else values
        return [
            known[name] if process is None else process(known[name]) for name, process in self.binds
        ]

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
class Step:
    """A statement that is to change so many rows, or to find so many if it only reads."""

    compiled: Compiled
    values: dict[str, Any]
    rows: int


def compile_once(clause: sa.Executable, dialect: Dialect) -> Compiled:
    """Compile a statement."""
    if dialect.name == "postgresql":
        dialect = _NUMBERED
    compiled = clause.compile(dialect=dialect)  # type: ignore[attr-defined]
    assert isinstance(compiled, SQLCompiler)
    assert compiled.positiontup is not None
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
        binds=[
            (name, types[name].dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup
        ],
        constants={
            name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required
        },
        make_row=row_type._make,
        reads=[(place, read) for place, read in enumerate(reads) if read is not None],
        tables=frozenset(table.name for table in tables),
        only_reads=isinstance(clause, sa.Select),
    )


def execute(connection: Connection, compiled: Compiled, values: Mapping[str, Any]) -> Any:
    """Execute a statement and return the driver's cursor."""
    return _execute(connection, compiled.text, compiled.parameters(values))


def execute_each(
    connection: Connection, compiled: Compiled, rows: Iterable[Mapping[str, Any]]
) -> None:
    """Execute a statement for each of several rows."""
    for values in rows:
        _execute(connection, compiled.text, compiled.parameters(values))


def execute_together(connection: Connection, steps: Sequence[Step]) -> None:
    """Execute several statements as one, on PostgreSQL.

    They are executed one after the other, and none of them sees what the others do. Raises
    sqlalchemy.exc.DBAPIError if one of them does not change or find as many rows as it is to; then
    nothing is changed.
    """
    values: list[Any] = []
    for step in steps:
        values += step.compiled.parameters(step.values)
    values += [step.rows for step in steps]
    _execute(connection, _together(tuple(step.compiled for step in steps)), values)


@cache
def _together(parts: tuple[Compiled, ...]) -> str:
    steps, first = [], 0
    for place, part in enumerate(parts):
        counted = "" if part.only_reads else " RETURNING 1"
        steps.append(f"step{place} AS ({_renumbered(part.text, by=first)}{counted})")
        first += len(part.binds)
    counts = " AND ".join(
        f"{_ROWS_OF_STEP}{place}) = ${first + place + 1}" for place in range(len(parts))
    )
    # Counting a step executes it, and AND comes to the next one after that. Dividing by zero is how
    # a statement that has gone wrong takes back what it has done.
    return f"WITH {', '.join(steps)} SELECT 1 / CASE WHEN {counts} THEN 1 ELSE 0 END{_COMMENT}"


_ROWS_OF_STEP: Final = "(SELECT count(*) FROM step"
# For those who read PostgreSQL's log.
_COMMENT: Final = (
    " -- division by zero: something was not as it had been read; done again with locks"
)


def _renumbered(text: str, *, by: int) -> str:
    return re.sub(r"\$(\d+)", lambda at: f"${int(at[1]) + by}", text)


# Parameters as PostgreSQL itself has them, so that nobody has to look for them at every call.
_NUMBERED: Final = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def _execute(connection: Connection, text: str, values: list[Any]) -> Any:
    dialect = connection.dialect
    assert dialect.dbapi is not None
    driver: Any = connection.connection.driver_connection
    cursor = RawCursor(driver) if dialect.name == "postgresql" else driver
    try:
        return cursor.execute(text, values)
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
