"""Databases of both kinds, opened as often as a test likes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from service_kit.database import Database
from tests.servers.postgres import PostgresServer

OpenDatabase = Callable[..., Database]


@pytest.fixture(scope="module")
def module_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """One PostgreSQL database for a whole module, whose tests begin by making their tables."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database of each kind."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "module_postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
def open_database() -> Iterator[OpenDatabase]:
    """Open a database; twice the same is as two processes would."""
    opened: list[Database] = []

    def open_one(url: str, **options: Any) -> Database:
        opened.append(Database(url, **options))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for what happens at the same time. The test must let them end."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def prepared(database: Database, tables: sa.MetaData) -> Database:
    """Make the tables, empty."""
    database.transact(tables.drop_all)
    database.transact(tables.create_all)
    return database
