"""The order service's database of each kind. Tests share it: each has orders of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from service_kit.database import Database
from tests.checkout import migrate_orders
from tests.integration.order_service.background import Background, open_background
from tests.integration.order_service.desk import Desk, open_desk
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A migrated database of each kind, for the whole session."""
    if request.param == "sqlite":
        yield migrated_sqlite(tmp_path_factory.mktemp("orders"))
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create_database(server.template("orders", migrate_orders))
    yield url
    server.drop_database(url)


@pytest.fixture(scope="session")
def database(database_url: str) -> Iterator[Database]:
    """A pool of connections to it."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def desk(database: Database) -> Desk:
    """The use cases over it, with a payment service and a clock of their own."""
    return open_desk(database)


@pytest.fixture(params=["sqlite", "postgresql"])
def own_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of the test's own: workers take whatever they find."""
    if request.param == "sqlite":
        database = Database(migrated_sqlite(tmp_path))
        yield database
        database.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create_database(server.template("orders", migrate_orders))
    database = Database(url)
    yield database
    database.close()
    server.drop_database(url)


@pytest.fixture
def background(own_database: Database) -> Background:
    """The workers over it."""
    return open_background(own_database)


def migrated_sqlite(folder: Path) -> str:
    """Make a SQLite database in the folder and return its URL."""
    url = URL.create("sqlite", database=str(folder / "order.db")).render_as_string()
    migrate_orders(url)
    return url
