"""python -m order_service verify: open the books, compare them, tell the result."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from order_service.verification.books import LedgerUnreadable
from order_service.verification.read_evidence import ORDER_TABLES, PAYMENT_TABLES
from order_service.verification.report import Report
from order_service.verification.verify import verify
from service_kit.database import Database
from service_kit.errors import StorageUnavailable

_PROGRESS_FROM: Final = 10_000


class CannotVerify(Exception):
    """A source cannot be read; the sentence says which, and why."""


@dataclass(frozen=True)
class Books:
    """Where the sources are. No ledger: the gateway keeps none that can be read."""

    order_database_url: str
    payment_database_url: str
    ledger: Path | None


def run(books: Books, *, order_id: str = "", as_json: bool = False) -> int:
    """Verify and print the result. Returns 1 if a guarantee does not hold or cannot be checked."""
    try:
        report = _verified(books, order_id)
    except CannotVerify as error:
        sys.stderr.write(f"{error}\n")
        return 1
    lines = [report.json()] if as_json else report.lines()
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 1 if report.violations else 0


def _verified(books: Books, order_id: str) -> Report:
    with (
        opened("order", books.order_database_url, ORDER_TABLES) as orders,
        opened("payment", books.payment_database_url, PAYMENT_TABLES) as payments,
    ):
        try:
            report = verify(
                order_database=orders,
                payment_database=payments,
                ledger=books.ledger,
                order_id=order_id,
                progress=_show if sys.stderr.isatty() else lambda _orders: None,
            )
        except StorageUnavailable as error:
            raise CannotVerify("a database has stopped answering") from error
        except LedgerUnreadable as error:
            raise CannotVerify(str(error)) from error
    if order_id and not report.orders and not report.violations:
        raise CannotVerify(f"there is no order {order_id}")
    return report


@contextmanager
def opened(service: str, url: str, tables: Sequence[sa.TableClause]) -> Iterator[Database]:
    """Open a source for reading. Raises CannotVerify."""
    parsed = sa.make_url(url)
    name = f"the {service} database {parsed.render_as_string(hide_password=True)}"
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        raise CannotVerify(f"{name} does not exist")
    with closing(Database(url, pool_size=1, read_only=True)) as database:
        try:
            is_known = database.read(lambda connection: _has_all(connection, tables))
        except StorageUnavailable as error:
            raise CannotVerify(f"{name} does not answer") from error
        if not is_known:
            command = f"python -m {service}_service migrate"
            raise CannotVerify(f"{name} is not migrated; first run: {command}")
        yield database


def _has_all(connection: sa.Connection, tables: Sequence[sa.TableClause]) -> bool:
    inspector = sa.inspect(connection)
    return all(
        inspector.has_table(table.name)
        and {column["name"] for column in inspector.get_columns(table.name)} >= set(table.c.keys())
        for table in tables
    )


def _show(orders: int) -> None:
    if orders >= _PROGRESS_FROM:
        sys.stderr.write(f"\r{orders:,} orders ")
