"""Order rows: the lock of an order's payments, and its seal."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from payment_service.storage.tables import payment_orders
from service_kit.database import insert_or_ignore

_lock: Final = (
    sa.select(payment_orders.c.sealed_at)
    .where(payment_orders.c.order_id == sa.bindparam("order_id"))
    .with_for_update()
)


class StoredOrders:
    """The orders that have payments or were sealed, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self, order_id: str) -> bool:
        """Make the order's row if there is none, and lock it. Say whether it is sealed."""
        insert_or_ignore(self._connection, payment_orders, {"order_id": order_id})
        return self._connection.execute(_lock, {"order_id": order_id}).scalar_one() is not None

    def seal(self, order_id: str, *, at: datetime) -> None:
        """Write when the order was sealed. It was locked and was not sealed."""
        statement = (
            sa.update(payment_orders)
            .where(payment_orders.c.order_id == order_id)
            .values(sealed_at=at)
        )
        self._connection.execute(statement)
