"""Statements that are compiled once mean on the driver what they mean to SQLAlchemy."""

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from service_kit.database import Database, UtcDateTime
from service_kit.errors import StorageUnavailable
from service_kit.statements import Statement, insert_all, new, parameter
from tests.captured_log import CapturedLog
from tests.integration.service_kit.conftest import OpenDatabase, prepared

metadata = sa.MetaData()
letters = sa.Table(
    "letters",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("sender", sa.String(16), nullable=False),
    sa.Column("is_read", sa.Boolean(create_constraint=False)),
    sa.Column("content", sa.LargeBinary),
    sa.Column("sent_at", UtcDateTime),
    sa.CheckConstraint("sender <> ''", name="sender_is_known"),
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LETTER = {"number": 1, "sender": "ann", "is_read": True, "content": b"\x00\xff", "sent_at": NOON}
EMPTY = {"number": 2, "sender": "bob", "is_read": None, "content": None, "sent_at": None}

insert = Statement(insert_all(letters))
find = Statement(sa.select(letters).where(letters.c.number == sa.bindparam("of_number")))
by_sender = Statement(
    sa.select(letters.c.number, sa.func.length(letters.c.sender).label("letters"))
    .where(letters.c.sender != "nobody", letters.c.sender >= sa.bindparam("from"))
    .order_by(letters.c.number)
)
mark_read = Statement(
    sa.update(letters)
    .where(letters.c.sender == sa.bindparam("of_sender"), letters.c.is_read.is_(None))
    .values(is_read=parameter(letters.c.is_read), sent_at=parameter(letters.c.sent_at, "moment"))
)


backend = Statement(sa.select(sa.func.pg_backend_pid().label("pid")))


def backend_of(connection: Connection) -> int:
    [row] = backend.rows(connection)
    return int(row.pid)


@pytest.fixture
def database(database_url: str, open_database: OpenDatabase) -> Database:
    """A database of each kind, with two letters."""
    database = prepared(open_database(database_url), metadata)
    database.transact(lambda c: insert.change_each(c, [new(LETTER), new(EMPTY)]))
    return database


def letter(database: Database, number: int) -> dict[str, Any]:
    row = database.read(lambda connection: find.first(connection, {"of_number": number}))
    return dict(row._asdict()) if row else {}


class TestRows:
    def test_hold_what_was_written_in_the_types_of_the_columns(self, database: Database) -> None:
        assert letter(database, 1) == LETTER
        assert letter(database, 2) == EMPTY
        assert letter(database, 1)["sent_at"].tzinfo is UTC

    def test_are_those_that_sqlalchemy_reads(self, database: Database) -> None:
        def both(connection: Connection) -> tuple[object, object]:
            query = sa.select(letters).order_by(letters.c.number)
            ours = [tuple(row) for row in Statement(query).rows(connection)]
            return ours, [tuple(row) for row in connection.execute(query)]

        ours, theirs = database.read(both)
        assert ours == theirs

    def test_are_found_by_values_and_by_what_the_statement_says_itself(
        self, database: Database
    ) -> None:
        rows = database.read(lambda connection: by_sender.rows(connection, {"from": "b"}))
        assert [(row.number, row.letters) for row in rows] == [(2, 3)]

    def test_are_none_without_any(self, database: Database) -> None:
        assert database.read(lambda connection: find.first(connection, {"of_number": 3})) is None


class TestChange:
    def test_says_how_many_rows_it_changed(self, database: Database) -> None:
        values = {"of_sender": "bob", "moment": NOON, **new({"is_read": False})}

        assert database.transact(lambda connection: mark_read.change(connection, values)) == 1
        assert database.transact(lambda connection: mark_read.change(connection, values)) == 0
        assert letter(database, 2) == {**EMPTY, "is_read": False, "sent_at": NOON}

    def test_belongs_to_the_transaction(self, database: Database) -> None:
        def change(connection: Connection) -> None:
            insert.change(connection, new({**LETTER, "number": 3}))
            raise LookupError

        with pytest.raises(LookupError):
            database.transact(change)
        assert letter(database, 3) == {}

    def test_refuses_a_moment_without_a_zone(self, database: Database) -> None:
        values = new({**LETTER, "number": 3, "sent_at": NOON.replace(tzinfo=None)})
        with pytest.raises(ValueError, match="without a zone"):
            database.transact(lambda connection: insert.change(connection, values))


class TestAnError:
    def test_is_told_as_sqlalchemy_tells_it_and_without_the_values(
        self, database: Database
    ) -> None:
        values = new({**LETTER, "number": 3, "sender": "", "content": b"4111"})
        with pytest.raises(exc.IntegrityError) as caught:
            database.transact(lambda connection: insert.change(connection, values))
        assert "sender_is_known" in str(caught.value)
        assert "4111" not in str(caught.value)

    def test_of_a_known_key_makes_the_transaction_run_again(self, database: Database) -> None:
        numbers = iter((1, 3))

        def change(connection: Connection) -> int:
            values = new({**LETTER, "number": next(numbers)})
            return insert.change(connection, values)

        assert database.transact(change) == 1
        assert letter(database, 3) == {**LETTER, "number": 3}

    def test_of_one_of_several_rows_undoes_all(self, database: Database) -> None:
        rows = [new({**LETTER, "number": 3}), new({**LETTER, "number": 4, "sender": ""})]
        with pytest.raises(exc.IntegrityError):
            database.transact(lambda connection: insert.change_each(connection, rows))
        assert letter(database, 3) == {}

    def test_of_a_lost_connection_is_not_met_again(
        self, module_postgres_url: str, open_database: OpenDatabase, log: CapturedLog
    ) -> None:
        database = prepared(open_database(module_postgres_url), metadata)
        other = open_database(module_postgres_url)
        end = sa.text("SELECT pg_terminate_backend(:pid, 5000)")
        ended = database.read(backend_of)
        other.read(lambda connection: connection.execute(end, {"pid": ended}).all())

        with pytest.raises(StorageUnavailable):
            database.read(backend_of)

        assert database.read(backend_of) != ended
