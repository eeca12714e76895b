"""A feed in the order of its numbers, while transactions commit in any other."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service_kit.audit_feed import read_in_order
from service_kit.database import Database
from tests.integration.service_kit.conftest import OpenDatabase, prepared

metadata = sa.MetaData()
entries = sa.Table(
    "entries",
    metadata,
    sa.Column(
        "sequence",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        sa.Identity(always=True, cache=1),
        primary_key=True,
    ),
    sa.Column("text", sa.String(64), nullable=False),
    sqlite_autoincrement=True,
)
# What an entry tells of: written before it, as in every transaction of ours.
things = sa.Table("things", metadata, sa.Column("name", sa.String(64), primary_key=True))


@pytest.fixture
def database(database_url: str, open_database: OpenDatabase) -> Database:
    return prepared(open_database(database_url), metadata)


@pytest.fixture
def postgres(module_postgres_url: str, open_database: OpenDatabase) -> Database:
    return prepared(open_database(module_postgres_url), metadata)


def append(connection: Connection, text: str) -> None:
    connection.execute(sa.insert(things).values(name=text))
    connection.execute(sa.insert(entries).values(text=text))


def page(database: Database, after: int = 0, limit: int = 100) -> list[tuple[int, str]]:
    rows = read_in_order(database, sa.select(entries), entries.c.sequence, after=after, limit=limit)
    return [(row.sequence, row.text) for row in rows]


def follow(database: Database, count: int, after: int = 0) -> list[tuple[int, str]]:
    """Read on from the last number seen until there are that many rows, or for ten seconds."""
    give_up_at = time.monotonic() + 10
    seen: list[tuple[int, str]] = []
    while len(seen) < count and time.monotonic() < give_up_at:
        seen += page(database, after=seen[-1][0] if seen else after)
    return seen


class RolledBack(Exception):
    """How a test ends a transaction without a commit."""


class Writer:
    """A transaction that has its number and is neither committed nor rolled back yet."""

    def __init__(self, database: Database, threads: ThreadPoolExecutor, text: str) -> None:
        self._numbered, self._go = threading.Event(), threading.Event()
        self._rolls_back = False
        self._text = text
        self._future = threads.submit(database.transact, self._work)
        assert self._numbered.wait(10)

    def _work(self, connection: Connection) -> None:
        append(connection, self._text)
        self._numbered.set()
        assert self._go.wait(10)
        if self._rolls_back:
            raise RolledBack

    def let_commit(self) -> None:
        """Let it commit soon, and do not wait for it."""
        self._go.set()

    def commit(self) -> None:
        self._go.set()
        self._future.result(10)

    def roll_back(self) -> None:
        self._rolls_back = True
        self._go.set()
        with suppress(RolledBack):
            self._future.result(10)


@contextmanager
def writing(database: Database, threads: ThreadPoolExecutor, *texts: str) -> Iterator[list[Writer]]:
    """Begin transactions that take their numbers in this order; end what the block leaves."""
    writers: list[Writer] = []
    try:
        for text in texts:
            writers.append(Writer(database, threads, text))  # noqa: PERF401 - all that began end
        yield writers
    finally:
        for writer in writers:
            writer.roll_back()


class TestAPage:
    def test_has_what_comes_after_a_number_in_order(self, database: Database) -> None:
        for text in "abcd":
            database.transact(lambda connection, text=text: append(connection, text))  # type: ignore[misc]

        assert page(database) == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
        assert page(database, after=1, limit=2) == [(2, "b"), (3, "c")]
        assert page(database, after=4) == []

    def test_of_an_empty_table_is_empty(self, database: Database) -> None:
        assert page(database) == []


@pytest.mark.requirement("FR-229")
class TestOnSqlite:
    """One writer at a time: a number that is missing will never come."""

    def test_a_gap_is_passed_at_once(self, sqlite_url: str, open_database: OpenDatabase) -> None:
        database = prepared(open_database(sqlite_url), metadata)
        for text in "abc":
            database.transact(lambda connection, text=text: append(connection, text))  # type: ignore[misc]
        database.transact(lambda c: c.execute(sa.delete(entries).where(entries.c.text == "b")))

        began = time.monotonic()

        assert page(database) == [(1, "a"), (3, "c")]
        assert time.monotonic() - began < 0.5


@pytest.mark.requirement("FR-229")
class TestOnPostgres:
    def test_waits_for_an_earlier_number_to_be_committed(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        with writing(postgres, threads, "first", "second") as [first, second]:
            second.commit()
            reading = threads.submit(follow, postgres, 2)
            time.sleep(0.05)
            assert not reading.done(), "two is there, and one may still come"
            first.commit()

            assert reading.result(10) == [(1, "first"), (2, "second")]

    def test_waits_for_a_transaction_that_is_younger_but_has_the_earlier_number(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        """The order of transaction ids says nothing about the order of numbers."""
        with writing(postgres, threads, "0") as [older]:
            older.commit()
        numbered, go = threading.Event(), threading.Event()

        def begins_first_and_takes_its_number_last(connection: Connection) -> None:
            connection.execute(sa.insert(things).values(name="older"))
            numbered.set()
            assert go.wait(10)
            connection.execute(sa.insert(entries).values(text="older"))

        late = threads.submit(postgres.transact, begins_first_and_takes_its_number_last)
        assert numbered.wait(10)
        with writing(postgres, threads, "younger") as [younger]:
            go.set()
            late.result(10)
            reading = threads.submit(follow, postgres, 2, after=1)
            time.sleep(0.05)
            assert not reading.done(), "two may still come"
            younger.commit()

            assert reading.result(10) == [(2, "younger"), (3, "older")]

    def test_passes_a_number_that_was_rolled_back(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        with writing(postgres, threads, "lost", "kept") as [lost, kept]:
            lost.roll_back()
            kept.commit()

            assert follow(postgres, 1) == [(2, "kept")]

    def test_passes_a_number_that_is_rolled_back_while_it_waits(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        with writing(postgres, threads, "lost", "kept") as [lost, kept]:
            kept.commit()
            reading = threads.submit(follow, postgres, 1)
            time.sleep(0.02)
            lost.roll_back()

            assert reading.result(10) == [(2, "kept")]

    def test_waits_for_every_gap_on_the_page(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        with writing(postgres, threads, *"abcde") as [a, b, c, d, e]:
            for committed in (a, c, e):
                committed.commit()
            reading = threads.submit(follow, postgres, 5)
            time.sleep(0.02)
            d.commit()
            time.sleep(0.02)
            assert not reading.done()
            b.commit()

            assert reading.result(10) == [(n, text) for n, text in enumerate("abcde", 1)]

    def test_stops_before_a_gap_that_stays_open_for_too_long(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        with writing(postgres, threads, *"abcd") as [a, b, c, d]:
            for committed in (a, b, d):
                committed.commit()
            began = time.monotonic()
            assert page(postgres) == [(1, "a"), (2, "b")]
            assert 0.9 < time.monotonic() - began < 5
            c.commit()

            assert page(postgres, after=2) == [(3, "c"), (4, "d")]

    def test_shows_nothing_when_the_gap_is_right_behind_the_cursor(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        with writing(postgres, threads, "a", "b") as [a, b]:
            b.commit()

            assert page(postgres) == []
            a.commit()
            assert page(postgres) == [(1, "a"), (2, "b")]

    def test_does_not_wait_without_a_gap_however_many_write(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        with writing(postgres, threads, "a", "b") as [a, _]:
            a.commit()
            began = time.monotonic()

            assert page(postgres) == [(1, "a")]
            assert time.monotonic() - began < 0.5

    def test_does_not_wait_for_transactions_that_begin_later(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        """Otherwise a busy database would never let a gap pass."""
        with writing(postgres, threads, "a", "b") as [a, b]:
            b.commit()
            reading = threads.submit(page, postgres)
            time.sleep(0.02)
            with writing(postgres, threads, "c"):
                a.commit()
                # Well before a second is over, after which it would give up waiting.
                assert reading.result(0.8) == [(1, "a"), (2, "b")]

    def test_shows_nothing_that_came_behind_the_page_while_it_waited(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        """Five comes meanwhile, and four is still open: a page with five would skip it."""
        with writing(postgres, threads, "a", "b", "c") as [a, b, c]:
            for committed in (a, c):
                committed.commit()
            reading = threads.submit(follow, postgres, 5)
            time.sleep(0.02)
            with writing(postgres, threads, "d", "e") as [d, e]:
                e.commit()
                b.commit()
                time.sleep(0.02)
                d.commit()

                assert reading.result(10) == [(n, text) for n, text in enumerate("abcde", 1)]

    def test_never_misses_a_row_whoever_commits_when(
        self, postgres: Database, threads: ThreadPoolExecutor
    ) -> None:
        """Four writers in disorder, one in five rolls back; one reader goes on from its last."""
        done = threading.Event()

        def write(writer: int) -> set[str]:
            committed = set()
            for number in range(25):
                text = f"{writer}-{number}"

                def work(connection: Connection, text: str = text, number: int = number) -> None:
                    append(connection, text)
                    time.sleep((number * 7 + writer * 3) % 5 / 1000)
                    if number % 5 == 4:
                        raise RolledBack

                with suppress(RolledBack):
                    postgres.transact(work)
                    committed.add(text)
            return committed

        def follow() -> list[tuple[int, str]]:
            seen: list[tuple[int, str]] = []
            while True:
                was_done = done.is_set()
                rows = page(postgres, after=seen[-1][0] if seen else 0, limit=7)
                seen += rows
                if was_done and not rows:
                    return seen

        following = threads.submit(follow)
        writers = [threads.submit(write, writer) for writer in range(4)]
        committed = set().union(*(writer.result(30) for writer in writers))
        done.set()
        seen = following.result(30)

        assert [number for number, _ in seen] == sorted({number for number, _ in seen})
        assert {text for _, text in seen} == committed
        assert len(committed) == 80
