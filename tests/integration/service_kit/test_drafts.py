"""A change is tried without locks first, and done again with them whenever that is not enough."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service_kit.database import Database, RaceLost, transaction_is_open
from service_kit.errors import StorageUnavailable
from service_kit.statements import (
    Draft,
    NotDrafted,
    Rows,
    Session,
    Statement,
    insert_all,
    insert_or_ignore,
    new,
    parameter,
)
from tests.captured_log import CapturedLog
from tests.integration.service_kit.conftest import OpenDatabase, prepared
from tests.integration.service_kit.cut_connection import CutAtCommit

T = TypeVar("T")

metadata = sa.MetaData()
accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("balance", sa.Integer, nullable=False),
)
transfers = sa.Table(
    "transfers",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("amount", sa.Integer, nullable=False),
)
notes = sa.Table(
    "notes",
    metadata,
    sa.Column("line", sa.Integer, primary_key=True),
    sa.Column("text", sa.String(4), nullable=False),
)

of_name = accounts.c.name == sa.bindparam("of_name")
find = Statement(sa.select(accounts).where(of_name))
lock = Statement(sa.select(accounts).where(of_name).with_for_update())
update = sa.update(accounts).where(of_name).values(balance=parameter(accounts.c.balance))
compare_and_set = Statement(update.where(accounts.c.balance == sa.bindparam("old_balance")))
just_set = Statement(update, needs_lock=True)
add_account = Statement(insert_all(accounts))
add_transfer = insert_or_ignore(transfers)
add_notes = Rows(notes)


def withdraw(session: Session, number: int, amount: int) -> int:
    """Take an amount from Ann's account, as a use case would."""
    add_transfer.change(session, new({"number": number, "amount": amount}))
    look = find if isinstance(session, Draft) else lock
    row = look.first(session, {"of_name": "ann"})
    assert row is not None
    left = int(row.balance) - amount
    values = {"of_name": "ann", "old_balance": row.balance, **new({"balance": left})}
    compare_and_set.change(session, values)
    return left


class Runs:
    """Runs work and remembers within what."""

    def __init__(self) -> None:
        self.kinds: list[type] = []

    def of(self, work: Callable[[Session], T]) -> Callable[[Session], T]:
        def run(session: Session) -> T:
            self.kinds.append(type(session))
            return work(session)

        return run


@pytest.fixture
def database(module_postgres_url: str, open_database: OpenDatabase) -> Database:
    """A database with one account."""
    return with_account(open_database(module_postgres_url))


def with_account(database: Database) -> Database:
    prepared(database, metadata)
    database.transact(lambda c: add_account.change(c, new({"name": "ann", "balance": 100})))
    return database


def contents(database: Database) -> tuple[dict[str, int], list[int]]:
    """Read every account, and the number of every transfer."""

    def read(connection: Connection) -> tuple[dict[str, int], list[int]]:
        balances = connection.execute(sa.select(accounts)).all()
        numbers = sa.select(transfers.c.number).order_by(transfers.c.number)
        return {row.name: row.balance for row in balances}, list(connection.scalars(numbers))

    return database.read(read)


class TestDraft:
    def test_writes_everything_with_one_statement(self, database: Database) -> None:
        runs = Runs()
        assert database.change(runs.of(lambda session: withdraw(session, 1, 30))) == 70
        assert runs.kinds == [Draft]
        assert contents(database) == ({"ann": 70}, [1])

    def test_writes_several_rows(self, database: Database) -> None:
        runs = Runs()
        rows = [{"line": line, "text": "word"} for line in range(5)]
        database.change(runs.of(lambda session: add_notes.insert(session, rows)))
        assert runs.kinds == [Draft]
        count = sa.select(sa.func.count()).select_from(notes)
        assert database.read(lambda c: c.execute(count).scalar_one()) == 5

    def test_cuts_nothing_that_is_too_long(self, database: Database) -> None:
        rows = [{"line": 1, "text": "word"}, {"line": 2, "text": "words"}]
        with pytest.raises(sa.exc.DataError):
            database.change(lambda session: add_notes.insert(session, rows))
        count = sa.select(sa.func.count()).select_from(notes)
        assert database.read(lambda c: c.execute(count).scalar_one()) == 0

    def test_amends_what_it_has_not_written_yet(self, database: Database) -> None:
        def work(session: Session) -> bool:
            assert isinstance(session, Draft)
            add_transfer.change(session, new({"number": 1, "amount": 1}))
            assert not session.amend(compare_and_set, new({"balance": 2}))
            return session.amend(add_transfer, new({"amount": 2}))

        assert database.change(work)
        amounts = database.read(lambda c: c.scalars(sa.select(transfers.c.amount)).all())
        assert amounts == [2]

    def test_writes_in_the_order_of_the_work(self, database: Database) -> None:
        """The first write has given the transaction its id by the time of the second."""
        database.transact(
            lambda c: c.exec_driver_sql(
                "CREATE OR REPLACE FUNCTION require_id() RETURNS trigger"
                " LANGUAGE plpgsql AS $$ BEGIN"
                " IF pg_current_xact_id_if_assigned() IS NULL THEN"
                " RAISE EXCEPTION 'the first'; END IF;"
                " RETURN NEW; END $$;"
                " CREATE TRIGGER comes_later BEFORE INSERT ON notes"
                " FOR EACH ROW EXECUTE FUNCTION require_id()"
            )
        )
        rows, runs = [{"line": 1, "text": "word"}], Runs()

        def note_at_last(session: Session) -> None:
            add_transfer.change(session, new({"number": 1, "amount": 1}))
            add_notes.insert(session, rows)

        database.change(runs.of(note_at_last))
        assert runs.kinds == [Draft]
        with pytest.raises(sa.exc.DBAPIError, match="the first"):
            database.change(lambda session: add_notes.insert(session, rows))

    def test_is_open_for_those_who_must_not_call_anybody_meanwhile(
        self, database: Database
    ) -> None:
        def work(session: Session) -> bool:
            withdraw(session, 1, 1)
            return transaction_is_open()

        assert database.change(work)
        assert not transaction_is_open()

    def test_is_not_tried_on_sqlite(self, sqlite_url: str, open_database: OpenDatabase) -> None:
        database, runs = with_account(open_database(sqlite_url)), Runs()
        assert database.change(runs.of(lambda session: withdraw(session, 1, 30))) == 70
        assert runs.kinds == [Connection]
        assert contents(database) == ({"ann": 70}, [1])


class TestWithinATransaction:
    def test_is_no_place_for_a_change(self, database: Database) -> None:
        def work(_connection: Connection) -> None:
            database.change(lambda session: withdraw(session, 1, 30))

        with pytest.raises(AssertionError):
            database.transact(work)
        assert contents(database) == ({"ann": 100}, [])


class TestWhatADraftCannotDo:
    """The transaction does it."""

    @pytest.mark.parametrize(
        "work",
        [
            lambda session: find.first(session, {"of_name": "ann"}),
            lambda session: session.execute(sa.select(accounts)),
            lambda session: (withdraw(session, 1, 30), find.first(session, {"of_name": "ann"})),
            lambda session: (withdraw(session, 1, 30), find.rare(session, {"of_name": "bob"})),
            lambda session: (withdraw(session, 1, 30), withdraw(session, 2, 30)),
            lambda session: just_set.change(session, {"of_name": "ann", **new({"balance": 1})}),
        ],
        ids=[
            *("only read", "Core", "read what it wrote", "miss what it wrote", "write twice"),
            "rely on a lock",
        ],
    )
    def test_is_done_with_locks(self, database: Database, work: Callable[[Session], Any]) -> None:
        runs = Runs()
        database.change(runs.of(work))
        assert runs.kinds == [Draft, Connection]

    def test_writes_nothing_before(self, database: Database) -> None:
        def work(session: Session) -> None:
            withdraw(session, 1, 30)
            if isinstance(session, Draft):
                raise NotDrafted
            raise LookupError

        with pytest.raises(LookupError):
            database.change(work)
        assert contents(database) == ({"ann": 100}, [])


class TestWhatHasChangedMeanwhile:
    def test_is_noticed_and_nothing_written(self, database: Database) -> None:
        runs = Runs()

        def overtaken(session: Session) -> int:
            left = withdraw(session, 1, 30)
            if isinstance(session, Draft):
                database.transact(lambda c: withdraw(c, 2, 50))
            return left

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("service_kit.database._open", Never())
            assert database.change(runs.of(overtaken)) == 20
        assert runs.kinds == [Draft, Connection]
        assert contents(database) == ({"ann": 20}, [1, 2])

    def test_is_noticed_by_the_first_of_several_writes_too(self, database: Database) -> None:
        database.transact(lambda c: add_transfer.change(c, new({"number": 1, "amount": 1})))

        def work(session: Session) -> int:
            if isinstance(session, Draft):
                return withdraw(session, 1, 30)
            return 0

        assert database.change(work) == 0
        assert contents(database) == ({"ann": 100}, [1])

    def test_is_waited_for(self, database: Database, threads: ThreadPoolExecutor) -> None:
        has_withdrawn, may_commit = threading.Event(), threading.Event()

        def slow(connection: Connection) -> None:
            withdraw(connection, 2, 50)
            has_withdrawn.set()
            assert may_commit.wait(10)

        first = threads.submit(database.transact, slow)
        assert has_withdrawn.wait(10)
        second = threads.submit(database.change, lambda session: withdraw(session, 1, 30))
        may_commit.set()
        first.result(10)
        assert second.result(10) == 20
        assert contents(database) == ({"ann": 20}, [1, 2])

    def test_is_never_lost_among_many(
        self, database: Database, threads: ThreadPoolExecutor
    ) -> None:
        def one(number: int) -> None:
            database.change(lambda session: withdraw(session, number, 1))

        list(threads.map(one, range(40)))
        assert contents(database) == ({"ann": 60}, list(range(40)))


def unless_bob_is_there(session: Session) -> int:
    """Take 30 from Ann's account, or say what is in Bob's."""
    bob = find.rare(session, {"of_name": "bob"})
    return int(bob.balance) if bob else withdraw(session, 1, 30)


def open_bob(session: Session) -> None:
    add_account.change(session, new({"name": "bob", "balance": 7}))


class TestWhatIsRarelyThere:
    def test_costs_no_lock_if_it_is_not_there(self, database: Database) -> None:
        runs = Runs()
        assert database.change(runs.of(unless_bob_is_there)) == 70
        assert runs.kinds == [Draft]
        assert contents(database) == ({"ann": 70}, [1])

    def test_is_found_with_locks(self, database: Database) -> None:
        database.transact(open_bob)
        seen = []

        def look(session: Session) -> int:
            seen.append((type(session), find.rare(session, {"of_name": "bob"}) is not None))
            return unless_bob_is_there(session)

        assert database.change(look) == 7
        assert seen == [(Draft, False), (Connection, True)]
        assert contents(database) == ({"ann": 100, "bob": 7}, [])

    def test_is_found_if_it_comes_meanwhile(self, database: Database) -> None:
        runs = Runs()

        def overtaken(session: Session) -> int:
            left = unless_bob_is_there(session)
            if isinstance(session, Draft):
                database.transact(open_bob)
            return left

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("service_kit.database._open", Never())
            assert database.change(runs.of(overtaken)) == 7
        assert runs.kinds == [Draft, Connection]
        assert contents(database) == ({"ann": 100, "bob": 7}, [])


class Never:
    """Stands for the mark of an open transaction, where a test has another one within it."""

    def get(self) -> bool:
        return False

    def set(self, _value: bool) -> None: ...  # noqa: FBT001 - as ContextVar has it

    def reset(self, _token: None) -> None: ...


class TestAConnection:
    def test_that_swallows_the_confirmation_is_followed_by_a_transaction(
        self, module_postgres_url: str, database: Database, open_database: OpenDatabase
    ) -> None:
        """Which finds what the draft has done."""

        def work(session: Session) -> str:
            made = add_transfer.change(session, new({"number": 1, "amount": 1})) == 1
            return "made" if made else "found"

        with CutAtCommit(module_postgres_url) as line:
            behind = open_database(line.url)
            behind.ping()
            line.cut_next_commit()
            assert behind.change(work) == "found"
        assert contents(database) == ({"ann": 100}, [1])

    def test_that_swallows_the_confirmation_is_not_told_as_nothing_done(
        self,
        module_postgres_url: str,
        database: Database,
        open_database: OpenDatabase,
        log: CapturedLog,
    ) -> None:
        """If the transaction that would recognise it never comes to its end."""

        def work(session: Session) -> None:
            if not isinstance(session, Draft):
                raise RaceLost
            add_transfer.change(session, new({"number": 1, "amount": 1}))

        with CutAtCommit(module_postgres_url) as line:
            behind = open_database(line.url, patience_seconds=0.2)
            behind.ping()
            line.cut_next_commit()
            with pytest.raises(StorageUnavailable):
                behind.change(work)
        assert contents(database) == ({"ann": 100}, [1])

    def test_that_nobody_gives_back_is_not_waited_for_twice(
        self, module_postgres_url: str, open_database: OpenDatabase, log: CapturedLog
    ) -> None:
        database, runs = (
            open_database(module_postgres_url, pool_size=1, pool_wait_seconds=0.01),
            Runs(),
        )
        with database.engine.connect(), pytest.raises(StorageUnavailable):
            database.change(runs.of(lambda session: withdraw(session, 1, 30)))
        assert runs.kinds == []
