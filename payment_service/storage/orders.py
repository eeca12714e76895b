"""Order rows: the lock of an order's payments, and its seal."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from payment_service.storage.tables import payment_orders
from service_kit.audit.chain import ChainKey, Head
from service_kit.statements import Statement, insert_or_ignore, new

_lock: Final = Statement(
    sa.select(payment_orders)
    .where(payment_orders.c.order_id == sa.bindparam("order_id"))
    .with_for_update()
)
_insert: Final = insert_or_ignore(payment_orders, but=("sealed_at",))


class StoredOrders:
    """The orders that have payments or were sealed, within one transaction.

    `heads` says where the histories of those that are locked end.
    """

    def __init__(self, connection: Connection, chain_key: ChainKey) -> None:
        self._connection = connection
        self._chain_key = chain_key
        self.heads: dict[str, Head] = {}

    def lock(self, order_id: str) -> bool:
        """Lock the order's row, or make it: its maker has it locked. Say whether it is sealed."""
        name = {"order_id": order_id}
        row = _lock.first(self._connection, name)
        if row is None:
            # Nothing is locked yet: who inserts it first goes on, everybody else waits for them
            # and then finds it.
            beginning = self._chain_key.beginning(order_id)
            values = {**name, "audit_count": beginning.count, "audit_head": beginning.seal}
            if _insert.change(self._connection, new(values)) == 1:
                self.heads[order_id] = beginning
                return False
            row = _lock.first(self._connection, name)
            assert row is not None  # orders are never deleted
        self.heads[order_id] = Head(row.audit_count, bytes(row.audit_head))
        return row.sealed_at is not None

    def seal(self, order_id: str, *, at: datetime) -> None:
        """Write when the order was sealed. It was locked and was not sealed."""
        statement = (
            sa.update(payment_orders)
            .where(payment_orders.c.order_id == order_id)
            .values(sealed_at=at)
        )
        self._connection.execute(statement)
