"""Checkouts over either database, each with databases of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.checkout import Checkout, migrate_orders, migrate_payments, running_checkout
from tests.servers.postgres import PostgresServer

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"
BOTH: Final = (SQLITE, POSTGRESQL)

# Long enough to be met on the way by a busy machine too, short enough to wait for.
SLOW_SECONDS: Final = 1.0


class Checkouts:
    """Starts checkouts. `postgres` starts the server when the first one needs it."""

    def __init__(
        self, *, postgres: Callable[[], PostgresServer], new_folder: Callable[[], Path]
    ) -> None:
        self._postgres = postgres
        self._new_folder = new_folder

    @contextmanager
    def running(self, database: str = SQLITE, **settings: Any) -> Iterator[Checkout]:
        """Run a checkout over new databases; see `running_checkout` for the settings."""
        settings.setdefault("payment_gateway_slow_seconds", SLOW_SECONDS)
        folder = self._new_folder()
        if database == SQLITE:
            with running_checkout(folder, **settings) as checkout:
                yield checkout
            return
        server = self._postgres()
        # Migrating takes longer than copying what was migrated once.
        orders = server.create_database(server.template("orders", migrate_orders))
        payments = server.create_database(server.template("payments", migrate_payments))
        try:
            with running_checkout(
                folder, order_url=orders, payment_url=payments, migrate=False, **settings
            ) as checkout:
                yield checkout
        finally:
            server.drop_database(orders)
            server.drop_database(payments)
