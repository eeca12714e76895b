"""Real processes to share. A test that ends or kills them starts its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.processes import ROOT
from tests.checkout import SECRET, migrate_orders, migrate_payments
from tests.e2e.real_checkout import RealCheckout, running
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def demo_output() -> str:
    """What the demo puts out when nobody watches. It must leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="checkout e2e ") as folder:
        variables = {
            **os.environ,
            "TMPDIR": folder,
            # Whoever runs the demo may have set these for something else.
            "ORDER_SERVICE_PORT": "none",
            "CHECKOUT_DATA_DIR": "/nowhere",
        }
        done = subprocess.run(
            [sys.executable, "deploy/demo.py"],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(Path(folder).iterdir()) == []
    return done.stdout


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the test's own, with a space in its name."""
    path = Path(tempfile.mkdtemp(prefix="checkout e2e "))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_variables(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Settings for migrated databases of either kind."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield {}
            return
        server: PostgresServer = request.getfixturevalue("postgres_server")
        orders = server.create_database(server.template("orders", migrate_orders))
        stack.callback(server.drop_database, orders)
        payments = server.create_database(server.template("payments", migrate_payments))
        stack.callback(server.drop_database, payments)
        yield {
            "ORDER_SERVICE_DATABASE_URL": orders,
            "PAYMENT_SERVICE_DATABASE_URL": payments,
            "CHECKOUT_SECRET_KEY": SECRET,
        }


@pytest.fixture(scope="session")
def checkout() -> Iterator[RealCheckout]:
    """Both processes on SQLite, for tests that look only at what is theirs."""
    with (
        tempfile.TemporaryDirectory(prefix="checkout e2e ") as path,
        running(Path(path), {}) as checkout,
    ):
        yield checkout
