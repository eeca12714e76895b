"""The line before PostgreSQL counts how often it is waited for, and transactions."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from bench.round_trips import CountingLine
from tests.servers.postgres import plain_url

Count = Callable[[Callable[[], object]], tuple[int, int]]


@pytest.fixture
def line(postgres_url: str) -> Iterator[CountingLine]:
    with CountingLine(postgres_url) as line:
        yield line


@pytest.fixture
def connection(line: CountingLine, postgres_url: str) -> Iterator[psycopg.Connection]:
    url = plain_url(line.url(postgres_url))
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        yield connection


@pytest.fixture
def count(line: CountingLine, connection: psycopg.Connection) -> Count:
    """Say how many round trips and transactions something takes."""

    def counted(act: Callable[[], object]) -> tuple[int, int]:
        before = line.trips, line.transactions
        act()
        return line.trips - before[0], line.transactions - before[1]

    return counted


def test_a_statement_alone_is_one_of_each(count: Count, connection: psycopg.Connection) -> None:
    assert count(lambda: connection.execute("SELECT 1")) == (1, 1)


def test_an_answer_of_many_pieces_is_one_trip(count: Count, connection: psycopg.Connection) -> None:
    # Some megabytes: no message ends where what was received ends.
    many = "SELECT repeat('x', 1000) FROM generate_series(1, 5000)"
    assert count(lambda: connection.execute(many)) == (1, 1)


def test_a_transaction_is_one_however_many_trips_it_takes(
    count: Count, connection: psycopg.Connection
) -> None:
    def work() -> None:
        with connection.transaction():
            connection.execute("SELECT 1")
            connection.execute("SELECT 2")

    assert count(work) == (4, 1)


def test_those_of_several_connections_are_counted_together(
    count: Count, line: CountingLine, postgres_url: str
) -> None:
    def work() -> None:
        url = plain_url(line.url(postgres_url))
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as another:
            another.execute("SELECT 1")

    # Being let in is one, too.
    assert count(work) == (2, 2)
