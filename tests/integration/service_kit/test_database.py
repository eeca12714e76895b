"""Transactions over real databases: run again, refused, lost, and never half done."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from service_kit.database import (
    ATTEMPTS_MAX,
    Database,
    RaceLost,
    UtcDateTime,
    sorted_text,
    transaction_is_open,
)
from service_kit.errors import ConcurrentUpdate, StorageUnavailable
from service_kit.statements import insert_or_ignore, new
from tests.captured_log import CapturedLog
from tests.integration.service_kit.conftest import OpenDatabase, prepared
from tests.integration.service_kit.cut_connection import CutAtCommit
from tests.servers.postgres import plain_url
from tests.system.test_health_and_reflection import unreachable

metadata = sa.MetaData()
notes = sa.Table(
    "notes",
    metadata,
    sa.Column("name", sorted_text(64), primary_key=True),
    sa.Column("stars", sa.Integer, nullable=False, default=0),
    sa.Column("at", UtcDateTime),
    sa.CheckConstraint("stars >= 0", name="stars_are_positive"),
)
remarks = sa.Table(
    "remarks", metadata, sa.Column("note", sa.ForeignKey(notes.c.name), primary_key=True)
)


insert_note = insert_or_ignore(notes, but=("at",))


@pytest.fixture
def database(database_url: str, open_database: OpenDatabase) -> Database:
    """A database of each kind, with the tables above."""
    return prepared(open_database(database_url), metadata)


@pytest.fixture
def sqlite(sqlite_url: str, open_database: OpenDatabase) -> Database:
    return prepared(open_database(sqlite_url), metadata)


@pytest.fixture
def postgres(module_postgres_url: str, open_database: OpenDatabase) -> Database:
    return prepared(open_database(module_postgres_url), metadata)


def add(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(sa.insert(notes).values(name=name, **values))


def add_if_new(connection: Connection, name: str, stars: int = 0) -> bool:
    return insert_note.change(connection, new({"name": name, "stars": stars})) == 1


def names(connection: Connection) -> list[str]:
    return list(connection.execute(sa.select(notes.c.name).order_by(notes.c.name)).scalars())


def lock_everything(connection: Connection) -> None:
    connection.execute(sa.select(notes).with_for_update()).all()


@contextmanager
def held(database: Database, threads: ThreadPoolExecutor) -> Iterator[None]:
    """Keep a transaction open, with every note locked, for the length of the block."""
    holding, release = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        lock_everything(connection)
        holding.set()
        assert release.wait(10)

    holder = threads.submit(database.transact, hold)
    try:
        assert holding.wait(10)
        yield
    finally:
        release.set()
        holder.result(10)


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address at which no PostgreSQL listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"postgresql+psycopg://nobody@127.0.0.1:{unused.getsockname()[1]}/nothing"


class TestATransaction:
    def test_is_committed_when_it_returns(self, database: Database) -> None:
        def work(connection: Connection) -> str:
            add(connection, "kept")
            return "done"

        assert database.transact(work) == "done"
        assert database.read(names) == ["kept"]

    def test_leaves_nothing_when_it_raises(self, database: Database) -> None:
        def work(connection: Connection) -> None:
            add(connection, "lost")
            raise LookupError

        with pytest.raises(LookupError):
            database.transact(work)
        assert database.read(names) == []

    def test_is_not_seen_by_others_before_it_is_over(self, database: Database) -> None:
        def work(connection: Connection) -> list[str]:
            add(connection, "half done")
            return database.read(names)

        assert database.transact(work) == []

    def test_is_open_only_inside(self, database: Database, threads: ThreadPoolExecutor) -> None:
        inside = database.transact(
            lambda _: (transaction_is_open(), threads.submit(transaction_is_open).result(5))
        )

        assert inside == (True, False), "this thread's transaction, not another's"
        assert not transaction_is_open()
        assert not database.read(lambda _: transaction_is_open())

    def test_is_over_when_it_raises(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError):
            database.transact(lambda _: 1 / 0)

        assert not transaction_is_open()

    def test_cannot_hold_another(self, database: Database) -> None:
        with pytest.raises(AssertionError):
            database.transact(lambda _: database.transact(names))

    def test_keeps_its_rules(self, database: Database) -> None:
        with pytest.raises(exc.IntegrityError):
            database.transact(
                lambda connection: connection.execute(sa.insert(remarks).values(note="no note"))
            )


@pytest.mark.requirement("FR-235")
class TestARaceLost:
    def test_is_run_again_from_its_beginning(self, database: Database) -> None:
        attempts = itertools.count(1)

        def work(connection: Connection) -> int:
            add(connection, "once")
            attempt = next(attempts)
            if attempt < ATTEMPTS_MAX:
                raise RaceLost
            return attempt

        assert database.transact(work) == ATTEMPTS_MAX == 5
        assert database.read(names) == ["once"]

    def test_is_given_up_after_five_times_with_nothing_done(self, database: Database) -> None:
        runs = []

        def work(connection: Connection) -> None:
            add(connection, "never")
            runs.append(connection)
            raise RaceLost

        with pytest.raises(ConcurrentUpdate) as refusal:
            database.transact(work)
        assert refusal.value.attempts == len(runs) == 5
        assert database.read(names) == []

    def test_never_loses_an_update(self, database: Database, threads: ThreadPoolExecutor) -> None:
        """Four threads at once count without locks: each write checks what it was based on."""
        database.transact(lambda connection: add(connection, "counter"))

        def count(connection: Connection) -> None:
            seen = connection.execute(sa.select(notes.c.stars)).scalar_one()
            update = sa.update(notes).where(notes.c.stars == seen).values(stars=seen + 1)
            if connection.execute(update).rowcount != 1:
                raise RaceLost

        def count_to_five() -> int:
            counted = 0
            while counted < 5:
                try:
                    database.transact(count)
                except ConcurrentUpdate:
                    continue
                counted += 1
            return counted

        counting = [threads.submit(count_to_five) for _ in range(4)]

        assert sum(each.result(30) for each in counting) == 20
        assert database.read(lambda c: c.execute(sa.select(notes.c.stars)).scalar_one()) == 20

    def test_for_the_same_new_key_sees_the_winners_row_when_run_again(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        both_looked = threading.Barrier(2)
        runs = itertools.count(1)

        def work(connection: Connection) -> str:
            run = next(runs)
            if names(connection):
                return "found"
            assert run <= 2
            both_looked.wait(10)
            add(connection, "the key")
            return "made"

        racers = [threads.submit(postgres.transact, work) for _ in range(2)]

        assert sorted(racer.result(10) for racer in racers) == ["found", "made"]
        assert next(runs) == 4

    def test_for_a_lock_is_run_again_until_the_lock_is_free(
        self,
        database_url: str,
        database: Database,
        open_database: OpenDatabase,
        threads: ThreadPoolExecutor,
    ) -> None:
        other = open_database(database_url, lock_wait_seconds=0.1)
        database.transact(lambda connection: add(connection, "locked"))
        with held(database, threads):
            waiting = threads.submit(other.transact, lock_everything)
            time.sleep(0.15)
            assert not waiting.done()

        waiting.result(10)

    def test_for_a_lock_is_given_up_after_five_times(
        self,
        database_url: str,
        database: Database,
        open_database: OpenDatabase,
        threads: ThreadPoolExecutor,
    ) -> None:
        other = open_database(database_url, lock_wait_seconds=0.01)
        database.transact(lambda connection: add(connection, "locked"))

        with held(database, threads), pytest.raises(ConcurrentUpdate):
            other.transact(lock_everything)

    def test_for_a_lock_is_given_up_before_that_when_its_patience_is_over(
        self,
        database_url: str,
        database: Database,
        open_database: OpenDatabase,
        threads: ThreadPoolExecutor,
    ) -> None:
        other = open_database(database_url, lock_wait_seconds=0.01, patience_seconds=0)
        database.transact(lambda connection: add(connection, "locked"))

        with held(database, threads), pytest.raises(ConcurrentUpdate) as refusal:
            other.transact(lock_everything)

        assert refusal.value.attempts == 1

    @pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "23505"])
    def test_is_every_state_in_which_postgresql_says_so(
        self, postgres: Database, state: str
    ) -> None:
        attempts = itertools.count(1)

        def work(connection: Connection) -> int:
            attempt = next(attempts)
            if attempt == 1:
                connection.exec_driver_sql(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")
            return attempt

        assert postgres.transact(work) == 2


@pytest.mark.requirement("FR-235")
class TestALostConnection:
    def terminate(self, url: str, connection: Connection) -> None:
        """End the server's side of a connection from a second one."""
        pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        with psycopg.connect(plain_url(url), autocommit=True) as admin:
            # Returns when the backend is gone.
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    def test_at_commit_is_run_again(self, module_postgres_url: str, postgres: Database) -> None:
        attempts = itertools.count(1)

        def work(connection: Connection) -> int:
            add(connection, "once")
            attempt = next(attempts)
            if attempt < ATTEMPTS_MAX:
                self.terminate(module_postgres_url, connection)
            return attempt

        assert postgres.transact(work) == ATTEMPTS_MAX
        assert postgres.read(names) == ["once"]

    def test_is_run_again_until_a_server_that_was_away_is_back(
        self, module_postgres_url: str, postgres: Database
    ) -> None:
        """A database that starts again, or whose place another takes, is away for a moment."""
        away = unreachable(module_postgres_url)
        back = threading.Timer(0.5, away.__exit__, (None, None, None))
        attempts = itertools.count(1)

        def work(connection: Connection) -> None:
            if next(attempts) == 1:
                away.__enter__()
                back.start()
            add(connection, "once")

        postgres.transact(work)
        assert postgres.read(names) == ["once"]

    def test_at_every_commit_is_unavailable(
        self, module_postgres_url: str, postgres: Database, log: CapturedLog
    ) -> None:
        runs = []

        def work(connection: Connection) -> None:
            add(connection, "never")
            runs.append(connection)
            self.terminate(module_postgres_url, connection)

        with pytest.raises(StorageUnavailable):
            postgres.transact(work)
        assert len(runs) == 5
        assert postgres.read(names) == []

    def test_in_the_middle_is_run_again(self, module_postgres_url: str, postgres: Database) -> None:
        attempts = itertools.count(1)

        def work(connection: Connection) -> int:
            attempt = next(attempts)
            if attempt == 1:
                self.terminate(module_postgres_url, connection)
            add(connection, "once")
            return attempt

        assert postgres.transact(work) == 2

    def test_that_swallows_the_confirmation_of_a_commit_is_recognised_when_run_again(
        self, module_postgres_url: str, postgres: Database, open_database: OpenDatabase
    ) -> None:
        """The server commits, the client never hears of it: the second run finds its own row."""
        runs = []

        def work(connection: Connection) -> str:
            runs.append(connection)
            made = add_if_new(connection, "once", 7)
            return "made" if made else "found"

        with CutAtCommit(module_postgres_url) as line:
            database = open_database(line.url)
            database.ping()
            line.cut_next_commit()

            assert database.transact(work) == "found"

        assert len(runs) == 2
        assert postgres.read(names) == ["once"]

    def test_that_swallows_every_confirmation_is_unavailable_although_it_is_done(
        self,
        module_postgres_url: str,
        postgres: Database,
        open_database: OpenDatabase,
        log: CapturedLog,
    ) -> None:
        with CutAtCommit(module_postgres_url) as line:
            database = open_database(line.url)
            line.cut_every_commit()

            with pytest.raises(StorageUnavailable):
                database.transact(lambda connection: add_if_new(connection, "once"))

        assert postgres.read(names) == ["once"]

    def test_that_is_followed_by_lost_races_is_still_told_as_unavailable(
        self, module_postgres_url: str, postgres: Database
    ) -> None:
        """Whether the lost commit happened is not known: "nothing was done" would be a guess."""
        attempts = itertools.count(1)

        def work(connection: Connection) -> None:
            if next(attempts) > 1:
                raise RaceLost
            self.terminate(module_postgres_url, connection)

        with pytest.raises(StorageUnavailable):
            postgres.transact(work)

    def test_while_idle_costs_one_read(self, module_postgres_url: str, postgres: Database) -> None:
        postgres.read(lambda connection: self.terminate(module_postgres_url, connection))

        with pytest.raises(StorageUnavailable):
            postgres.ping()
        postgres.ping()


@pytest.mark.requirement("FR-235")
class TestAnUnavailableDatabase:
    def test_is_one_that_nobody_serves(
        self, nowhere: str, open_database: OpenDatabase, log: CapturedLog
    ) -> None:
        database = open_database(nowhere)

        with pytest.raises(StorageUnavailable):
            database.transact(names)
        with pytest.raises(StorageUnavailable):
            database.read(names)
        with pytest.raises(StorageUnavailable):
            database.ping()
        assert [line["error"] for line in log.lines("database.unavailable")] == [
            "OperationalError"
        ] * 3

    def test_is_one_in_a_folder_that_is_not_there(
        self, tmp_path: Path, open_database: OpenDatabase
    ) -> None:
        database = open_database(f"sqlite:///{tmp_path}/missing/database.db")

        with pytest.raises(StorageUnavailable):
            database.ping()

    def test_is_a_file_that_is_no_database(
        self, tmp_path: Path, open_database: OpenDatabase
    ) -> None:
        file = tmp_path / "database.db"
        file.write_bytes(b"no database " * 1000)

        with pytest.raises(StorageUnavailable):
            open_database(f"sqlite:///{file}").ping()

    def test_is_a_file_that_cannot_be_written(
        self, tmp_path: Path, sqlite: Database, open_database: OpenDatabase
    ) -> None:
        read_only = open_database(f"sqlite:///file:{tmp_path}/database.db?mode=ro&uri=true")

        assert read_only.read(names) == []
        with pytest.raises(StorageUnavailable):
            read_only.transact(lambda connection: add(connection, "never"))

    def test_is_a_disk_that_is_full(self, sqlite: Database) -> None:
        def work(connection: Connection) -> None:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            for number in range(2000):
                add(connection, f"a note that needs some room {number}")

        with pytest.raises(StorageUnavailable):
            sqlite.transact(work)

    @pytest.mark.parametrize(
        "state", ["08006", "53100", "53300", "57P01", "57014", "58030", "25006"]
    )
    def test_is_every_state_in_which_postgresql_says_so(
        self, postgres: Database, state: str
    ) -> None:
        def work(connection: Connection) -> None:
            connection.exec_driver_sql(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")

        with pytest.raises(StorageUnavailable):
            postgres.transact(work)
        with pytest.raises(StorageUnavailable):
            postgres.read(work)

    def test_is_one_whose_connections_are_all_in_use(
        self, database_url: str, open_database: OpenDatabase, threads: ThreadPoolExecutor
    ) -> None:
        database = open_database(database_url, pool_size=1, pool_wait_seconds=0.05)
        holding, release = threading.Event(), threading.Event()

        def hold(_: Connection) -> bool:
            holding.set()
            return release.wait(10)

        holder = threads.submit(database.read, hold)
        assert holding.wait(10)
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            database.read(names)
        with pytest.raises(StorageUnavailable):
            database.transact(names)
        assert time.monotonic() - began < 2, "who waited for a connection once waits no further"
        release.set()
        assert holder.result(10)
        database.ping()

    def test_lets_a_caller_wait_for_a_connection(
        self, database_url: str, open_database: OpenDatabase, threads: ThreadPoolExecutor
    ) -> None:
        database = open_database(database_url, pool_size=1)
        holding = threading.Event()

        def hold(_: Connection) -> None:
            holding.set()
            time.sleep(0.05)

        holder = threads.submit(database.read, hold)
        assert holding.wait(10)

        database.ping()
        holder.result(10)

    def test_is_one_that_lets_a_reader_wait_too_long(
        self,
        module_postgres_url: str,
        postgres: Database,
        open_database: OpenDatabase,
        threads: ThreadPoolExecutor,
    ) -> None:
        other = open_database(module_postgres_url, lock_wait_seconds=0.01)
        postgres.transact(lambda connection: add(connection, "locked"))

        with held(postgres, threads), pytest.raises(StorageUnavailable):
            other.read(lock_everything)


class TestABug:
    """What the database refuses because the code is wrong: raised once, and not run again."""

    SECRET = "tok_live_4711"

    def test_is_raised_as_it_is(self, database: Database) -> None:
        runs = []

        def work(connection: Connection) -> None:
            runs.append(connection)
            add(connection, "note", stars=-1)

        with pytest.raises(exc.IntegrityError):
            database.transact(work)
        assert len(runs) == 1

    def test_tells_neither_parameters_nor_rows(self, database: Database) -> None:
        """It ends in the log, and what was about to be stored must not."""
        with pytest.raises(exc.IntegrityError) as error:
            database.transact(lambda connection: add(connection, self.SECRET, stars=-1))

        assert "stars_are_positive" in str(error.value)
        assert self.SECRET not in str(error.getrepr(style="long", chain=True, showlocals=False))
        assert error.value.__suppress_context__

    def test_keeps_the_place_where_it_happened(self, database: Database) -> None:
        with pytest.raises(exc.IntegrityError) as error:
            database.transact(lambda connection: add(connection, "note", stars=-1))

        assert "add" in [entry.name for entry in error.traceback]

    def test_in_a_read_is_raised_as_it_is(self, database: Database) -> None:
        with pytest.raises(exc.DBAPIError) as error:
            database.read(lambda connection: connection.exec_driver_sql("SELECT nonsense"))

        assert "nonsense" in str(error.value)

    def test_in_a_value_that_postgresql_cannot_hold_is_not_taken_for_a_lost_connection(
        self, postgres: Database
    ) -> None:
        runs = []

        def work(connection: Connection) -> None:
            runs.append(connection)
            add(connection, "a\x00b")

        with pytest.raises(exc.DataError):
            postgres.transact(work)
        assert len(runs) == 1


class TestARead:
    def test_sees_a_commit_of_another_between_two_statements_on_postgresql(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        def work(connection: Connection) -> tuple[list[str], list[str]]:
            before = names(connection)
            threads.submit(postgres.transact, lambda c: add(c, "new")).result(10)
            return before, names(connection)

        assert postgres.read(work) == ([], ["new"])

    def test_leaves_no_transaction_open_on_postgresql(
        self, module_postgres_url: str, postgres: Database
    ) -> None:
        def state(connection: Connection) -> object:
            pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
            with psycopg.connect(plain_url(module_postgres_url)) as other:
                query = "SELECT state FROM pg_stat_activity WHERE pid = %s"
                return other.execute(query, [pid]).fetchone()

        assert postgres.read(state) == ("idle",)

    def test_sees_one_moment_on_sqlite(self, sqlite: Database, threads: ThreadPoolExecutor) -> None:
        def work(connection: Connection) -> tuple[list[str], list[str]]:
            before = names(connection)
            threads.submit(sqlite.transact, lambda c: add(c, "new")).result(10)
            return before, names(connection)

        assert sqlite.read(work) == ([], [])

    def test_waits_for_no_writer(self, database: Database, threads: ThreadPoolExecutor) -> None:
        database.transact(lambda connection: add(connection, "old"))

        with held(database, threads):
            began = time.monotonic()
            assert database.read(names) == ["old"]
            assert time.monotonic() - began < 1


class TestSqlite:
    def test_takes_the_write_lock_at_the_beginning(
        self,
        sqlite_url: str,
        sqlite: Database,
        open_database: OpenDatabase,
        threads: ThreadPoolExecutor,
    ) -> None:
        """A transaction that begins as a reader could not become a writer after another's."""
        other = open_database(sqlite_url, lock_wait_seconds=0.01)

        with held(sqlite, threads), pytest.raises(ConcurrentUpdate):
            other.transact(lambda _: pytest.fail("began"))

    @pytest.mark.parametrize(
        ("pragma", "value"),
        [
            ("journal_mode", "wal"),
            ("synchronous", 2),  # FULL
            ("foreign_keys", 1),
            ("busy_timeout", 2000),
        ],
    )
    def test_has_its_pragmas_in_force_on_every_connection(
        self, sqlite: Database, threads: ThreadPoolExecutor, pragma: str, value: object
    ) -> None:
        at_once = threading.Barrier(3)

        def ask(connection: Connection) -> object:
            at_once.wait(10)
            return connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()

        asked = [threads.submit(sqlite.read, ask) for _ in range(3)]

        assert {each.result(10) for each in asked} == {value}

    def test_lets_writers_of_one_process_queue_longer_than_for_the_file(
        self,
        sqlite_url: str,
        sqlite: Database,
        open_database: OpenDatabase,
        threads: ThreadPoolExecutor,
    ) -> None:
        database = open_database(sqlite_url, lock_wait_seconds=0.001)

        def write(number: int) -> None:
            def slow(connection: Connection) -> None:
                add(connection, f"note {number}")
                time.sleep(0.06)

            database.transact(slow)

        list(threads.map(write, range(8)))

        assert len(sqlite.read(names)) == 8

    def test_lets_nobody_queue_when_their_patience_is_over(
        self, sqlite_url: str, open_database: OpenDatabase, threads: ThreadPoolExecutor
    ) -> None:
        """Each of the others may be waiting in vain for another program."""
        database = prepared(open_database(sqlite_url, patience_seconds=0.01), metadata)

        with held(database, threads), pytest.raises(ConcurrentUpdate):
            database.transact(lambda _: pytest.fail("began"))


class TestPostgres:
    def test_has_on_disk_what_it_confirms_whatever_the_database_is_set_to(
        self, postgres_url: str, open_database: OpenDatabase
    ) -> None:
        _set(open_database(postgres_url), "synchronous_commit", "off")

        assert open_database(postgres_url).transact(_asked("synchronous_commit")) == "on"

    def test_has_each_statement_see_what_is_committed_whatever_the_database_is_set_to(
        self, postgres_url: str, open_database: OpenDatabase
    ) -> None:
        _set(open_database(postgres_url), "default_transaction_isolation", "serializable")

        database = open_database(postgres_url)
        for run in (database.transact, database.read):
            assert run(_asked("transaction_isolation")) == "read committed"

    def test_has_a_transaction_only_where_there_is_one_to_be_committed(
        self, postgres: Database
    ) -> None:
        def is_open(connection: Connection) -> bool:
            driver: Any = connection.connection.driver_connection
            connection.exec_driver_sql("SELECT 1")
            return bool(driver.info.transaction_status != TransactionStatus.IDLE)

        assert postgres.transact(is_open)
        assert not postgres.read(is_open)


def _set(database: Database, setting: str, value: str) -> None:
    name = database.engine.url.database
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE \"{name}\" SET {setting} = '{value}'")


def _asked(setting: str) -> Callable[[Connection], str]:
    return lambda connection: str(connection.exec_driver_sql(f"SHOW {setting}").scalar_one())


class TestInsertOrIgnore:
    def test_says_whether_the_row_is_new_and_keeps_the_old_one(self, database: Database) -> None:
        def insert(stars: int) -> bool:
            return database.transact(lambda connection: add_if_new(connection, "note", stars))

        assert (insert(1), insert(2)) == (True, False)
        assert database.read(lambda c: c.execute(sa.select(notes.c.stars)).scalar_one()) == 1

    def test_waits_for_a_concurrent_insert_of_the_same_key_and_then_sees_it(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        inserted = threading.Event()

        def first(connection: Connection) -> None:
            add_if_new(connection, "note", 1)
            inserted.set()
            time.sleep(0.05)

        def second(connection: Connection) -> tuple[bool, list[str]]:
            return add_if_new(connection, "note"), names(connection)

        winner = threads.submit(postgres.transact, first)
        assert inserted.wait(10)

        assert postgres.transact(second) == (False, ["note"])
        winner.result(10)


class TestUtcDateTime:
    def stored(self, database: Database, moment: datetime | None) -> Any:
        database.transact(lambda connection: add(connection, "note", at=moment))
        return database.read(lambda c: c.execute(sa.select(notes.c.at)).scalar_one())

    @pytest.mark.parametrize(
        "zone", [UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-9))]
    )
    def test_comes_back_as_the_same_moment_in_utc(self, database: Database, zone: timezone) -> None:
        moment = datetime(2026, 3, 29, 1, 30, 15, 123456, tzinfo=zone)

        stored = self.stored(database, moment)

        assert stored == moment
        assert stored.tzinfo == UTC

    def test_may_be_missing(self, database: Database) -> None:
        assert self.stored(database, None) is None

    def test_refuses_a_moment_without_a_zone(self, database: Database) -> None:
        with pytest.raises(exc.StatementError) as error:
            self.stored(database, datetime(2026, 3, 29, 1, 30))  # noqa: DTZ001 - the point

        assert isinstance(error.value.orig, ValueError)

    def test_compares_by_moment(self, database: Database) -> None:
        noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.stored(database, noon)
        earlier_elsewhere = noon.astimezone(timezone(timedelta(hours=9))) - timedelta(seconds=1)

        later = sa.select(notes.c.name).where(notes.c.at > earlier_elsewhere)
        assert database.read(lambda c: c.execute(later).scalar_one()) == "note"


class TestSortedText:
    def test_sorts_by_bytes(self, database: Database) -> None:
        some = ["b", "_", "a", "B", "-", "é", "1"]
        insert = sa.insert(notes).values([{"name": name} for name in some])
        database.transact(lambda connection: connection.execute(insert))

        assert database.read(names) == sorted(some)

    def test_does_so_on_postgresql_whatever_the_databases_own_order(
        self, postgres: Database
    ) -> None:
        query = sa.text(
            "SELECT collation_name FROM information_schema.columns"
            " WHERE table_name = 'notes' AND column_name = 'name'"
        )

        assert postgres.read(lambda c: c.execute(query).scalar_one()) == "C"
