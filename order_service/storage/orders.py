"""Order rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Row

from order_service.application.ports import OrderFilter
from order_service.domain.audit import AuditEntry
from order_service.domain.money import Money
from order_service.domain.order import Order, OrderItem
from order_service.domain.payment_operation import OperationStatus
from order_service.domain.state_machine import OrderStatus
from order_service.storage.audit import StoredHistory
from order_service.storage.operations import operation_columns, operation_of
from order_service.storage.tables import order_items, orders, payment_operations
from service_kit.audit.chain import Head
from service_kit.database import RaceLost
from service_kit.recent import Recent
from service_kit.statements import (
    Draft,
    NotDrafted,
    Rows,
    Session,
    Statement,
    insert_all,
    new,
    parameter,
)

_item_columns: Final = (
    order_items.c.sku,
    order_items.c.name,
    order_items.c.quantity,
    order_items.c.unit_price_minor,
)
_in_flight: Final = sa.and_(
    payment_operations.c.order_id == orders.c.id,
    # Written out: PostgreSQL does not use a partial index for a value that it is told later.
    payment_operations.c.status == sa.literal_column(f"'{OperationStatus.IN_FLIGHT.value}'"),
)
# One statement, so that an order is never read without the operation that is in flight on it.
_with_operation: Final = orders.outerjoin(payment_operations, _in_flight)
_select: Final = sa.select(orders, *operation_columns).select_from(_with_operation)
# One order and its items, a row for each of them.
_by_id: Final = Statement(
    sa.select(orders, *operation_columns, *_item_columns)
    .select_from(_with_operation.join(order_items, order_items.c.order_id == orders.c.id))
    .where(orders.c.id == sa.bindparam("order_id"))
    .order_by(order_items.c.line)
)
_lock: Final = Statement(
    sa.select(orders.c.id).where(orders.c.id == sa.bindparam("order_id")).with_for_update()
)
_insert: Final = Statement(insert_all(orders))
_insert_items: Final = Rows(order_items)
_changing: Final = (
    *("customer_id", "status", "currency_code", "total_minor", "refunded_minor", "payment_id"),
    *("version", "revision", "updated_at", "audit_count", "audit_head"),
)
_update: Final = Statement(
    sa.update(orders)
    .where(
        orders.c.id == sa.bindparam("order_id"),
        orders.c.status == sa.bindparam("old_status"),
        orders.c.revision == sa.bindparam("old_revision"),
    )
    .values({name: parameter(orders.c[name]) for name in _changing})
)
_items: Final = (
    sa.select(order_items)
    .where(order_items.c.order_id.in_(sa.bindparam("order_ids", expanding=True)))
    .order_by(order_items.c.order_id, order_items.c.line)
)


@dataclass(frozen=True)
class Known:
    """An order as it was last read or written, and what an update of it must find."""

    order: Order
    revision: int
    head: Head


class StoredOrders:
    """The orders and their history, within one transaction.

    `recent` has orders as this process left them: a draft begins with those.
    """

    def __init__(
        self, connection: Session, history: StoredHistory, recent: Recent[str, Known]
    ) -> None:
        self._connection = connection
        self._history = history
        self._recent = recent
        self._locked: dict[str, Known] = {}
        self._uncompared: set[str] = set()

    def add(self, order: Order, entry: AuditEntry) -> None:
        """Insert a new order, its items and the first entry of its history."""
        head, links = self._history.continued(self._history.beginning(order.id), [entry])
        _insert.change(self._connection, new(_order_row(order, head)))
        _insert_items.insert(self._connection, _item_rows(order))
        self._history.write(links)

    def lock(self, order_id: str) -> Order | None:
        """Lock the order's row, then read it: what a wait for the lock saw before is stale.

        In a draft nothing is locked; `save` finds out whether the order is still the same.
        """
        if isinstance(self._connection, Draft):
            known = self._recent.take(order_id) or self._read(order_id)
            self._uncompared.add(order_id)
        elif _lock.first(self._connection, {"order_id": order_id}):
            known = self._read(order_id)
        else:
            known = None
        if known is None:
            return None
        self._locked[order_id] = known
        return known.order

    def get(self, order_id: str) -> Order | None:
        """Read the order without locking it."""
        known = self._read(order_id)
        return known.order if known else None

    def save(self, order: Order, *entries: AuditEntry) -> None:
        """Update the order and add to its history, if it is still as it was when it was locked.

        Raises KeyError if it was not locked, RaceLost if it has changed since.
        """
        known = self._locked[order.id]
        head, links = self._history.continued(known.head, entries)
        old = {
            "order_id": order.id,
            "old_status": known.order.status.value,
            "old_revision": known.revision,
        }
        changed = new({"revision": known.revision + 1, **_columns(order, head)})
        if _update.change(self._connection, {**old, **changed}) != 1:
            raise RaceLost
        self._uncompared.discard(order.id)
        self._history.write(links)
        self._locked[order.id] = Known(order, known.revision + 1, head)

    def require_compared(self) -> None:
        """Raise NotDrafted if a draft saves no order: nobody would find out that it is old."""
        if self._uncompared:
            raise NotDrafted

    def leave(self) -> None:
        """Leave the orders that have an operation in flight to whoever writes its outcome down."""
        for order_id, known in self._locked.items():
            if known.order.pending:
                self._recent.leave(order_id, known)

    def page(self, wanted: OrderFilter, *, before: str, limit: int) -> Sequence[Order]:
        """Read orders with smaller ids than `before`, greatest first."""
        query = _select.order_by(orders.c.id.desc()).limit(limit)
        if wanted.customer_id:
            query = query.where(orders.c.customer_id == wanted.customer_id)
        if wanted.status:
            query = query.where(orders.c.status == wanted.status.value)
        if before:
            query = query.where(orders.c.id < before)
        return self._orders(self._connection.execute(query).all())

    def _read(self, order_id: str) -> Known | None:
        rows = _by_id.rows(self._connection, {"order_id": order_id})
        if not rows:  # orders are never deleted, and have items
            return None
        row = rows[0]
        return Known(_order(row, rows), row.revision, Head(row.audit_count, bytes(row.audit_head)))

    def _orders(self, rows: Sequence[Row[Any]]) -> list[Order]:
        items: dict[str, list[Row[Any]]] = {row.id: [] for row in rows}
        for item in self._connection.execute(_items, {"order_ids": list(items)}):
            items[item.order_id].append(item)
        return [_order(row, items[row.id]) for row in rows]


def _order_row(order: Order, head: Head) -> dict[str, Any]:
    """Make the row of a new order."""
    return {
        "id": order.id,
        "revision": 1,
        "created_at": order.created_at,
        **_columns(order, head),
    }


def _item_rows(order: Order) -> list[dict[str, Any]]:
    """Make the rows of an order's items."""
    return [
        {
            "order_id": order.id,
            "line": line,
            "sku": item.sku,
            "name": item.name,
            "quantity": item.quantity,
            "unit_price_minor": item.unit_price.minor_units,
        }
        for line, item in enumerate(order.items, start=1)
    ]


def _columns(order: Order, head: Head) -> dict[str, Any]:
    return {
        "customer_id": order.customer_id,
        "status": order.status.value,
        "currency_code": order.total.currency_code,
        "total_minor": order.total.minor_units,
        "refunded_minor": order.refunded.minor_units,
        "payment_id": order.payment_id or None,
        "version": order.version,
        "updated_at": order.updated_at,
        "audit_count": head.count,
        "audit_head": head.seal,
    }


def _order(row: Row[Any], items: Iterable[Row[Any]]) -> Order:
    currency = row.currency_code
    return Order(
        id=row.id,
        customer_id=row.customer_id,
        status=OrderStatus(row.status),
        items=tuple(
            OrderItem(
                sku=item.sku,
                name=item.name,
                quantity=item.quantity,
                unit_price=Money(currency, item.unit_price_minor),
            )
            for item in items
        ),
        total=Money(currency, row.total_minor),
        refunded=Money(currency, row.refunded_minor),
        payment_id=row.payment_id or "",
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        pending=operation_of(row) if row.operation_id else None,
    )
