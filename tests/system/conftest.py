"""Running checkouts to share. A test that disturbs others starts one of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests.checkout import Checkout
from tests.system.checkouts import BOTH, Checkouts

STORAGES = [f"{database}{redis}" for database, redis in product(BOTH, ("", " and Redis"))]


@pytest.fixture(scope="session")
def checkouts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Checkouts:
    """Starts checkouts over either database."""
    return Checkouts(
        postgres=lambda: request.getfixturevalue("postgres_server"),
        new_folder=lambda: tmp_path_factory.mktemp("checkout"),
    )


@pytest.fixture(scope="module")
def checkout(checkouts: Checkouts) -> Iterator[Checkout]:
    """A checkout of the module's, on SQLite."""
    with checkouts.running() as running:
        yield running


@pytest.fixture(scope="module", params=BOTH)
def each_checkout(request: pytest.FixtureRequest, checkouts: Checkouts) -> Iterator[Checkout]:
    """A checkout of the module's on each database."""
    with checkouts.running(request.param) as running:
        yield running


@pytest.fixture(params=BOTH)
def measured(request: pytest.FixtureRequest, checkouts: Checkouts) -> Iterator[Checkout]:
    """A checkout of the test's own on each database, whose metrics can be read."""
    with checkouts.running(request.param, metrics_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads to call from at the same time."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture(scope="module", params=STORAGES)
def remembering(request: pytest.FixtureRequest, checkouts: Checkouts) -> Iterator[Checkout]:
    """A checkout on each database, without and with Redis in front of it."""
    database, _, redis = request.param.partition(" and ")
    url = request.getfixturevalue("redis_server").url if redis else ""
    with checkouts.running(database, redis_url=url) as running:
        yield running
