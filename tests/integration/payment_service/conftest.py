"""The payment service over both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.payment_service.desk import Desk, running_desk
from tests.integration.payment_service.scripted_gateway import ScriptedGateway


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    """The service with its simulated gateway."""
    with running_desk(tmp_path, database_url) as desk:
        yield desk


@pytest.fixture
def gateway() -> ScriptedGateway:
    """A gateway that answers what it is told to."""
    return ScriptedGateway()


@pytest.fixture
def scripted(database_url: str, tmp_path: Path, gateway: ScriptedGateway) -> Iterator[Desk]:
    """The service with the scripted gateway."""
    with running_desk(tmp_path, database_url, gateway=gateway) as desk:
        yield desk
