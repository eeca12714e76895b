"""Order rows: the lock of an order's payments, and its seal."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from payment_service.storage.tables import payment_orders
from service_kit.audit.chain import ChainKey, Head
from service_kit.database import insert_or_ignore

_lock: Final = (
    sa.select(payment_orders)
    .where(payment_orders.c.order_id == sa.bindparam("order_id"))
    .with_for_update()
)


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
        row = self._connection.execute(_lock, name).one_or_none()
        if row is None:
            # Nothing is locked yet: who inserts it first goes on, everybody else waits for them
            # and then finds it.
            beginning = self._chain_key.beginning(order_id)
            new = {**name, "audit_count": beginning.count, "audit_head": beginning.seal}
            if insert_or_ignore(self._connection, payment_orders, new):
                self.heads[order_id] = beginning
                return False
            row = self._connection.execute(_lock, name).one()
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
