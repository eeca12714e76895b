"""What is not settled yet, read from both databases."""

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from order_service.storage.tables import payment_feed, payment_inbox, payment_operations
from payment_service.storage.tables import payment_audit_entries, payments, refunds
from service_kit.database import Database

# Of what is in flight, so many are named; more would not help anybody.
_NAMED_MAX: Final = 20


def in_flight(order_database: Database, payment_database: Database) -> list[str]:
    """List it, a sentence each. An empty list: nobody owes anybody an answer."""
    return [
        *_operations(order_database),
        *_pending(payment_database, payments, "payment"),
        *_pending(payment_database, refunds, "refund"),
        *_unread(order_database, payment_database),
        *_unapplied(order_database),
    ]


def _operations(database: Database) -> Iterator[str]:
    columns = payment_operations.c
    query = sa.select(payment_operations).where(columns.status == "in_flight").limit(_NAMED_MAX)
    for row in database.read(lambda connection: connection.execute(query).all()):
        yield (
            f"{row.kind} {row.id} of order {row.order_id} is in flight since {row.started_at},"
            f" asked about {row.attempts} times {row.problem}".rstrip()
        )


def _pending(database: Database, table: sa.Table, what: str) -> Iterator[str]:
    query = sa.select(table).where(table.c.status == "pending").limit(_NAMED_MAX)
    for row in database.read(lambda connection: connection.execute(query).all()):
        yield (
            f"{what} {row.id} of order {row.order_id} is pending since {row.created_at},"
            f" asked about {row.attempts} times"
        )


def _unread(order_database: Database, payment_database: Database) -> Iterator[str]:
    # The payments first: what is written meanwhile may be read meanwhile, not the opposite.
    written = _number(payment_database, sa.select(sa.func.max(payment_audit_entries.c.sequence)))
    read = _number(order_database, sa.select(payment_feed.c.sequence))
    if read < written:
        yield f"the payment history is read up to {read} of {written}"


def _unapplied(database: Database) -> Iterator[str]:
    columns = payment_inbox.c
    query = sa.select(payment_inbox).where(columns.applied_at.is_(None)).limit(_NAMED_MAX)
    for row in database.read(lambda connection: connection.execute(query).all()):
        yield (
            f"payment {row.payment_id} is not applied to order {row.order_id},"
            f" tried {row.attempts} times {row.problem}".rstrip()
        )


def _number(database: Database, query: sa.Select[Any]) -> int:
    return int(database.read(lambda connection: connection.execute(query).scalar_one()) or 0)
