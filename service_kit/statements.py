"""Statements for what happens at every call: compiled once, then given to the driver as they are.

SQLAlchemy Core writes them, so that they mean the same on both databases. Executed by it they would
be looked up, and their values and rows wrapped, each time anew, which costs more than the driver
does.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeAlias

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect

from service_kit.compiled import (
    Compiled,
    Row,
    Step,
    compile_once,
    execute,
    execute_each,
    execute_together,
)

# Core reserves the columns' own names for itself.
NEW: Final = "new_"
_ROWS: Final = "rows"
_NOTHING: Final[Mapping[str, Any]] = {}


class NotDrafted(Exception):
    """A draft cannot do what was asked of it; a transaction can."""


class Draft:
    """A transaction on PostgreSQL that locks nothing, and writes with one statement at its end.

    What it reads is read at once and may be outdated by then. So each of its writes says how many
    rows it must change, and in its condition what it relies on: if one changes others, none is
    made. It writes once into each table and reads nothing from where it has written; for whatever
    else there is the transaction. What is rarely there it does not look for until its end.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._absent: list[Step] = []
        self._writes: dict[Statement, Step] = {}
        self._guards: set[Statement] = set()
        self._written: set[str] = set()

    def execute(self, *_: object) -> NoReturn:
        """Refuse a statement that is not made for drafts."""
        raise NotDrafted

    def read(self, compiled: Compiled, values: Mapping[str, Any]) -> list[Row]:
        """Read rows."""
        self._require_unwritten(compiled)
        return compiled.rows(execute(self._connection, compiled, values))

    def expect_none(self, compiled: Compiled, values: Mapping[str, Any]) -> None:
        """Keep a statement that is to find nothing."""
        assert compiled.only_reads
        self._require_unwritten(compiled)
        self._absent.append(Step(compiled, dict(values), 0))

    def write(
        self, statement: "Statement", compiled: Compiled, values: Mapping[str, Any], rows: int
    ) -> int:
        """Keep a statement that changes so many rows."""
        if statement.needs_lock:
            raise NotDrafted
        self._require_unwritten(compiled)
        self._written |= compiled.tables
        self._writes[statement] = Step(compiled, dict(values), rows)
        return rows

    def guard(self, statement: "Statement", values: Mapping[str, Any]) -> None:
        """Keep a statement that changes nothing, unless it is amended: it compares."""
        statement.change(self, values)
        self._guards.add(statement)

    def amend(self, statement: "Statement", values: Mapping[str, Any]) -> bool:
        """Change values of a statement that was kept. Say whether it was."""
        if statement not in self._writes:
            return False
        self._guards.discard(statement)
        self._writes[statement].values.update(values)
        return True

    def make(self) -> None:
        """Make all writes.

        Raises NotDrafted without any: what was only read may be outdated.
        sqlalchemy.exc.DBAPIError if something is not as it was when it was read, or is there
        against expectation.
        """
        if self._writes.keys() == self._guards:
            raise NotDrafted
        execute_together(self._connection, [*self._absent, *self._writes.values()])

    @property
    def dialect(self) -> Dialect:
        """The connection's."""
        return self._connection.dialect

    def _require_unwritten(self, compiled: Compiled) -> None:
        if not self._written.isdisjoint(compiled.tables):
            raise NotDrafted


# Within which the storages read and write.
Session: TypeAlias = Connection | Draft


class Statement:
    """A Core statement, with a bound parameter for each value that differs between calls.

    Where the databases differ, a function makes it for the name of a dialect. Expanding parameters
    (lists for IN) are not supported. One that `needs_lock` changes what may have changed since it
    was read without its noticing: not for a draft.
    """

    def __init__(
        self, clause: sa.Executable | Callable[[str], sa.Executable], *, needs_lock: bool = False
    ) -> None:
        self.needs_lock = needs_lock
        self._clause = clause
        self._compiled: dict[str, Compiled] = {}

    def rows(self, session: Session, values: Mapping[str, Any] = _NOTHING) -> list[Row]:
        """Execute it and return all rows."""
        compiled = self._of(session.dialect)
        if isinstance(session, Draft):
            return session.read(compiled, values)
        return compiled.rows(execute(session, compiled, values))

    def first(self, session: Session, values: Mapping[str, Any] = _NOTHING) -> Row | None:
        """Execute it and return the first row, None without any."""
        rows = self.rows(session, values)
        return rows[0] if rows else None

    def rare(self, session: Session, values: Mapping[str, Any]) -> Row | None:
        """Execute it and return the first row, which rarely is there.

        A draft goes on as if there were none, and finds out at its end.
        """
        if isinstance(session, Draft):
            session.expect_none(self._of(session.dialect), values)
            return None
        return self.first(session, values)

    def change(
        self, session: Session, values: Mapping[str, Any] = _NOTHING, *, rows: int = 1
    ) -> int:
        """Execute it and return how many rows it inserted or changed.

        `rows` is how many it must be in a draft.
        """
        compiled = self._of(session.dialect)
        if isinstance(session, Draft):
            return session.write(self, compiled, values, rows)
        return int(execute(session, compiled, values).rowcount)

    def change_each(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute it for each of several rows."""
        execute_each(connection, self._of(connection.dialect), rows)

    def _of(self, dialect: Dialect) -> Compiled:
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            # Two threads that are first at the same time make the same.
            clause = self._clause(dialect.name) if callable(self._clause) else self._clause
            compiled = self._compiled[dialect.name] = compile_once(clause, dialect)
        return compiled


class Rows:
    """Inserts several rows into a table: on PostgreSQL with one statement, however many.

    There they are one value, as JSON: text and numbers only.
    """

    def __init__(self, table: sa.Table) -> None:
        self._columns = [column.name for column in table.c]
        self._one = Statement(insert_all(table))
        self._many = Statement(_insert_json(table))

    def insert(self, session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows, each with all columns."""
        if isinstance(session, Connection) and session.dialect.name == "sqlite":
            self._one.change_each(session, map(new, rows))
            return
        texts = [{name: row[name] for name in self._columns} for row in rows]
        self._many.change(session, {_ROWS: json.dumps(texts, ensure_ascii=False)}, rows=len(rows))


def _insert_json(table: sa.Table) -> sa.Insert:
    columns = [sa.column(column.name, _unlimited(column.type)) for column in table.c]
    given = sa.cast(sa.bindparam(_ROWS, type_=sa.String()), postgresql.JSON)
    rows = sa.func.json_to_recordset(given).table_valued(*columns).render_derived(with_types=True)
    names = [column.name for column in columns]
    return sa.insert(table).from_select(names, sa.select(*rows.c), include_defaults=False)


def _unlimited(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    # Text without a length: a cast to one would cut what is too long, and not refuse it.
    return sa.String() if isinstance(kind, sa.String) else kind


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
