"""What both databases and the gateway's books say about orders, and whether it fits together.

Read from the tables themselves: a service that errs may err in its answers too.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from order_service.storage.tables import order_audit_entries, orders, payment_operations
from payment_service.storage.tables import payment_audit_entries, payments, refunds
from service_kit.database import Database
from tests.checkout import Checkout

# Statuses in which the money of an order has been taken.
PAID: Final = ("paid", "fulfilled", "archived", "refunded")

_CHUNK: Final = 500


class Entry(NamedTuple):
    """One line of an order's history."""

    event: str
    from_status: str
    to_status: str
    outcome: str


@dataclass(frozen=True)
class Facts:
    """One order: its row, its history, its operations, its payments, and the money that moved."""

    status: str
    version: int
    refunded: int
    total: int
    payment_id: str | None
    entries: tuple[Entry, ...]
    operations: tuple[tuple[str, str], ...]
    payments: tuple[tuple[str, str], ...]
    payment_events: tuple[str, ...]
    given_back: tuple[tuple[str, int], ...]
    charges: tuple[int, ...]
    refunds: tuple[int, ...]

    @property
    def events(self) -> tuple[str, ...]:
        """What has happened to the order."""
        return tuple(entry.event for entry in self.entries)


def facts_of(checkout: Checkout, order_ids: Collection[str]) -> dict[str, Facts]:
    """Read the facts of these orders, which must exist."""
    ids = sorted(order_ids)
    by_order = _Grouped(ids)
    database = checkout.order_database
    rows = {row.id: row for row in _rows(database, orders, orders.c.id, ids)}
    history = by_order.read(database, order_audit_entries, "sequence")
    operations = by_order.read(database, payment_operations, "id")
    database = checkout.payment_database
    made = by_order.read(database, payments, "id")
    events = by_order.read(database, payment_audit_entries, "sequence")
    returned = by_order.read(database, refunds, "id")
    booked = _booked(checkout.payment_settings.effective_gateway_ledger())
    return {
        order_id: Facts(
            status=rows[order_id].status,
            version=rows[order_id].version,
            refunded=rows[order_id].refunded_minor,
            total=rows[order_id].total_minor,
            payment_id=rows[order_id].payment_id,
            entries=tuple(
                Entry(e.event_type, e.from_status, e.to_status, e.outcome)
                for e in history[order_id]
            ),
            operations=tuple((o.kind, o.status) for o in operations[order_id]),
            payments=tuple((p.id, p.status) for p in made[order_id]),
            payment_events=tuple(e.event_type for e in events[order_id]),
            given_back=tuple((r.status, r.amount_minor) for r in returned[order_id]),
            charges=tuple(booked.charges[order_id]),
            refunds=tuple(booked.refunds[order_id]),
        )
        for order_id in ids
    }


def contradictions(facts: Facts) -> list[str]:
    """List what must not be, whatever happened, of an order on which nothing is under way."""
    is_paid = facts.status in PAID
    succeeded = [payment_id for payment_id, status in facts.payments if status == "succeeded"]
    given_back = [amount for status, amount in facts.given_back if status == "succeeded"]
    rules = {
        "charged more than once": len(facts.charges) <= 1,
        "charged another amount": set(facts.charges) <= {facts.total},
        "charged and not paid, or paid and not charged": len(facts.charges) == is_paid,
        "paid by another payment than the one": [facts.payment_id] * is_paid == succeeded,
        "more or less given back than written down": sum(facts.refunds) == facts.refunded,
        "refunds of the payment service that the gateway does not have": sorted(given_back)
        == sorted(facts.refunds),
        "refunded means that all of it is back": (facts.refunded == facts.total)
        == (facts.status == "refunded"),
        "still under way": not any(
            status in {"in_flight", "pending"} for _, status in (*facts.operations, *facts.payments)
        )
        and not any(status == "pending" for status, _ in facts.given_back),
        "a gateway that contradicted itself": "gateway_discrepancy_found"
        not in facts.payment_events,
        "a history that leads elsewhere": list(_path(facts.entries)) == [],
        "changes without an entry of their own": facts.version
        == sum(entry.from_status != entry.to_status for entry in facts.entries),
        "ends elsewhere than its history": facts.status == facts.entries[-1].to_status,
    }
    return [rule for rule, holds in rules.items() if not holds]


def _path(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Yield the entries that do not begin where the one before has ended."""
    status = ""
    for entry in entries:
        if entry.from_status != status:
            yield entry
        if entry.outcome == "refused" and entry.from_status != entry.to_status:
            yield entry
        status = entry.to_status


class _Grouped:
    """Reads rows of both databases by their order."""

    def __init__(self, order_ids: Sequence[str]) -> None:
        self._order_ids = order_ids

    def read(self, database: Database, table: sa.Table, by: str) -> dict[str, list[sa.Row[Any]]]:
        grouped: dict[str, list[sa.Row[Any]]] = {order_id: [] for order_id in self._order_ids}
        rows = _rows(database, table, table.c.order_id, self._order_ids)
        for row in sorted(rows, key=lambda row: row._mapping[table.c[by]]):
            grouped[row.order_id].append(row)
        return grouped


def _rows(
    database: Database, table: sa.Table, column: sa.Column[Any], ids: Sequence[str]
) -> list[sa.Row[Any]]:
    def read(some: Sequence[str]) -> Sequence[sa.Row[Any]]:
        query = sa.select(table).where(column.in_(some))
        return database.read(lambda connection: connection.execute(query).all())

    chunks = (ids[begin : begin + _CHUNK] for begin in range(0, len(ids), _CHUNK))
    return [row for chunk in chunks for row in read(chunk)]


@dataclass(frozen=True)
class _Books:
    charges: defaultdict[str, list[int]]
    refunds: defaultdict[str, list[int]]


def _booked(ledger: Path) -> _Books:
    books = _Books(defaultdict(list), defaultdict(list))
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        query = "SELECT order_id, amount_minor FROM charges WHERE decline_code = ''"
        for order_id, amount in connection.execute(query):
            books.charges[order_id].append(amount)
        query = (
            "SELECT charges.order_id, refunds.amount_minor FROM refunds JOIN charges"
            " ON charges.reference = refunds.charge_reference WHERE refunds.decline_code = ''"
        )
        for order_id, amount in connection.execute(query):
            books.refunds[order_id].append(amount)
    return books
