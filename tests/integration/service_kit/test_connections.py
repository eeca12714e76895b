"""Connections that are used again: one at a time each, with nothing open, and none that is lost."""

import sqlite3
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service_kit.database import ATTEMPTS_MAX, Database, RaceLost
from service_kit.errors import StorageUnavailable
from tests.integration.service_kit.conftest import OpenDatabase
from tests.servers.postgres import plain_url

_read = sa.text("SELECT 1")


@pytest.fixture
def database(database_url: str, open_database: OpenDatabase) -> Database:
    return open_database(database_url, pool_size=4)


@pytest.fixture
def postgres(module_postgres_url: str, open_database: OpenDatabase) -> Database:
    return open_database(module_postgres_url, pool_size=4)


def driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def read(connection: Connection) -> Any:
    connection.execute(_read)
    return driver(connection)


def fail(connection: Connection) -> None:
    connection.execute(_read)
    raise ZeroDivisionError


def used_at_once(database: Database, count: int) -> list[Any]:
    """Have so many connections in use at the same time."""
    if count == 0:
        return []
    return database.read(lambda connection: [read(connection), *used_at_once(database, count - 1)])


def is_in_transaction(connection: Any) -> bool:
    if isinstance(connection, sqlite3.Connection):
        return connection.in_transaction
    assert isinstance(connection, psycopg.Connection)
    return connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE


class TestAConnection:
    def test_is_used_again_by_whatever_comes_next(self, database: Database) -> None:
        first = database.read(read)
        assert database.transact(driver) is first
        assert database.read(read) is first

    def test_is_nobody_elses_while_it_is_used(self, database: Database) -> None:
        assert len({id(each) for each in used_at_once(database, 4)}) == 4

    def test_has_nothing_open_after_its_use(self, database: Database) -> None:
        used = database.read(read)
        assert not is_in_transaction(used)
        assert database.read_at_one_moment(read) is used
        assert not is_in_transaction(used)
        with pytest.raises(ZeroDivisionError):
            database.read_at_one_moment(fail)
        assert not is_in_transaction(used)
        with pytest.raises(ZeroDivisionError):
            database.read(fail)
        assert not is_in_transaction(used)
        with pytest.raises(ZeroDivisionError):
            database.transact(fail)
        assert not is_in_transaction(used)

    def test_is_there_for_others_after_a_use_that_failed(self, database: Database) -> None:
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                database.read(fail)
        assert len(used_at_once(database, 4)) == 4

    def test_is_closed_with_its_database(self, database: Database) -> None:
        used = used_at_once(database, 2)
        database.close()
        for each in used:
            with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError)):
                each.execute("SELECT 1")

    def test_that_is_in_use_is_closed_when_that_is_over(self, database: Database) -> None:
        def close(connection: Connection) -> Any:
            database.close()
            return driver(connection)

        used = database.read(close)
        assert database.read(read) is not used

    def test_that_is_lost_in_one_moment_is_told_as_such(self, postgres: Database) -> None:
        def lose(connection: Connection) -> None:
            end_all(postgres)
            connection.execute(_read)

        with pytest.raises(StorageUnavailable):
            postgres.read_at_one_moment(lose)

    def test_that_is_lost_takes_the_idle_ones_with_it(self, postgres: Database) -> None:
        lost = used_at_once(postgres, 4)
        end_all(postgres)
        with pytest.raises(StorageUnavailable):
            postgres.read(read)
        assert not {id(each) for each in lost} & {id(each) for each in used_at_once(postgres, 4)}

    def test_that_was_lost_while_idle_costs_a_transaction_one_attempt(
        self, module_postgres_url: str, open_database: OpenDatabase
    ) -> None:
        """There are more of them than attempts."""
        postgres = open_database(module_postgres_url, pool_size=ATTEMPTS_MAX + 1)
        used_at_once(postgres, ATTEMPTS_MAX + 1)
        end_all(postgres)
        postgres.transact(driver)

    def test_whose_race_was_lost_is_used_again(self, database: Database) -> None:
        drivers = []

        def work(connection: Connection) -> None:
            drivers.append(driver(connection))
            if len(drivers) < 3:
                raise RaceLost

        database.transact(work)
        assert len({id(each) for each in drivers}) == 1


def end_all(database: Database) -> None:
    """End all of a database's connections, from the server."""
    url = database.engine.url.render_as_string(hide_password=False)
    with psycopg.connect(plain_url(url), autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
