"""Damage that no service would do: written by hand into the books, past all that guards them."""

import sqlite3
from contextlib import closing
from typing import Any, Final

import sqlalchemy as sa

from service_kit.database import Database
from tests.checkout import Checkout

_CHECKS: Final = sa.text(
    "SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint WHERE contype = 'c'"
    " AND connamespace = 'public'::regnamespace"
)
_ONE_ONLY: Final = ("uq_payments_one_live", "uq_payment_operations_one_charge_or_cancel")


class Books:
    """The books of a checkout, without their guards."""

    def __init__(self, checkout: Checkout) -> None:
        self._orders = checkout.order_database
        self._payments = checkout.payment_database
        self._ledger = checkout.payment_settings.effective_gateway_ledger()
        for database in (self._orders, self._payments):
            _take_guards_off(database)

    def orders(self, statement: str, **values: Any) -> None:
        """Change the order database."""
        _change(self._orders, statement, values)

    def payments(self, statement: str, **values: Any) -> None:
        """Change the payment database."""
        _change(self._payments, statement, values)

    def ledger(self, statement: str, **values: Any) -> None:
        """Change the gateway's ledger."""
        with closing(sqlite3.connect(self._ledger)) as connection, connection:
            assert connection.execute(statement, values).rowcount > 0, "nothing was planted"

    def read(self, statement: str, **values: Any) -> Any:
        """Read one value of the order database."""
        return self._orders.read(lambda c: c.execute(sa.text(statement), values).scalar_one())


def update(table: str, change: str, where: str) -> str:
    """Build a statement of parts that a test is made of."""
    return f"UPDATE {table} SET {change} WHERE {where}"  # noqa: S608 - the tests' own words


def _take_guards_off(database: Database) -> None:
    with database.engine.begin() as connection:
        for index in _ONE_ONLY:
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index}")
        if database.is_sqlite:
            triggers = sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for name in connection.execute(triggers).scalars().all():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            for table, check in connection.execute(_CHECKS).all():
                connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {check}")


def _change(database: Database, statement: str, values: dict[str, Any]) -> None:
    if database.is_sqlite:
        with closing(sqlite3.connect(database.engine.url.database or "")) as file, file:
            file.execute("PRAGMA ignore_check_constraints = ON")
            assert file.execute(statement, values).rowcount > 0, "nothing was planted"
        return
    with database.engine.begin() as connection:
        # Neither triggers nor foreign keys.
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        assert connection.execute(sa.text(statement), values).rowcount > 0, "nothing was planted"
