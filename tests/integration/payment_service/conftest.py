"""The payment service over both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.checkout import migrate_payments
from tests.integration.payment_service.background import Background, running_background
from tests.integration.payment_service.desk import Desk, running_desk
from tests.integration.payment_service.scripted_gateway import ScriptedGateway
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database of each kind. A module's tests share it: each has orders of its own."""
    if request.param == "sqlite":
        file = tmp_path_factory.mktemp("database") / "payment.db"
        yield URL.create("sqlite", database=str(file)).render_as_string()
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.create_database(server.template("payments", migrate_payments))
        yield url
        server.drop_database(url)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the gateway's ledger."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def desk(database_url: str, data_dir: Path) -> Iterator[Desk]:
    """The service with its simulated gateway."""
    with running_desk(data_dir, database_url) as desk:
        yield desk


@pytest.fixture
def gateway() -> ScriptedGateway:
    """A gateway that answers what it is told to."""
    return ScriptedGateway()


@pytest.fixture
def scripted(database_url: str, data_dir: Path, gateway: ScriptedGateway) -> Iterator[Desk]:
    """The service with the scripted gateway, and a clock that the test may move."""
    with running_desk(data_dir, database_url, gateway=gateway) as desk:
        yield desk


@pytest.fixture(params=["sqlite", "postgresql"])
def background(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Background]:
    """The workers and an operator, over a database of the test's own: they take what they find."""
    if request.param == "sqlite":
        url = URL.create("sqlite", database=str(tmp_path / "payment.db")).render_as_string()
        with running_background(tmp_path, url) as background:
            yield background
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create_database(server.template("payments", migrate_payments))
    with running_background(tmp_path, url) as background:
        yield background
    server.drop_database(url)
