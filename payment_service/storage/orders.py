"""Order rows: the lock of an order's payments, and its seal."""

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from payment_service.storage.tables import payment_orders
from service_kit.audit.chain import ChainKey, Head
from service_kit.statements import Draft, Session, Statement, insert_or_ignore, new, parameter

_of_id: Final = payment_orders.c.order_id == sa.bindparam("order_id")
_find: Final = Statement(sa.select(payment_orders).where(_of_id))
_lock: Final = Statement(sa.select(payment_orders).where(_of_id).with_for_update())
_insert: Final = insert_or_ignore(payment_orders, but=("sealed_at",))
_move: Final = Statement(
    sa.update(payment_orders)
    # Whatever happens to an order's payments, and its seal, adds to its history.
    .where(_of_id, payment_orders.c.audit_count == sa.bindparam("old_count"))
    .values({name: parameter(payment_orders.c[name]) for name in ("audit_count", "audit_head")})
)


class StoredOrders:
    """The orders that have payments or were sealed, within one transaction.

    `heads` says where the histories of those that are locked end, `begun` which of them are new.
    """

    def __init__(self, connection: Session, chain_key: ChainKey) -> None:
        self._connection = connection
        self._chain_key = chain_key
        self.heads: dict[str, Head] = {}
        self.begun: set[str] = set()

    def lock(self, order_id: str) -> bool:
        """Lock the order's row, or make it: its maker has it locked. Say whether it is sealed.

        In a draft nothing is locked; that the history has not gone on is found out at its end.
        """
        if isinstance(self._connection, Draft):
            return self._draft(self._connection, order_id)
        name = {"order_id": order_id}
        row = _lock.first(self._connection, name)
        if row is None:
            # Nothing is locked yet: who inserts it first goes on, everybody else waits for them
            # and then finds it.
            if self._begin(order_id):
                return False
            row = _lock.first(self._connection, name)
            assert row is not None  # orders are never deleted
        self.heads[order_id] = Head(row.audit_count, bytes(row.audit_head))
        return row.sealed_at is not None

    def expect(self, draft: Draft, order_id: str, head: Head) -> None:
        """Have a draft find out at its end whether the history ends there."""
        old = {"order_id": order_id, "old_count": head.count}
        draft.guard(_move, {**old, **_named(head)})
        self.heads[order_id] = head

    def move(self, order_id: str, head: Head) -> None:
        """Note that an entry was added to the history of an order that is locked."""
        self.heads[order_id] = head
        if isinstance(self._connection, Draft):
            for statement in (_insert, _move):
                self._connection.amend(statement, _named(head))

    def seal(self, order_id: str, *, at: datetime) -> None:
        """Write when the order was sealed. It was locked and was not sealed."""
        statement = (
            sa.update(payment_orders)
            .where(payment_orders.c.order_id == order_id)
            .values(sealed_at=at)
        )
        self._connection.execute(statement)

    def _draft(self, draft: Draft, order_id: str) -> bool:
        row = _find.first(draft, {"order_id": order_id})
        if row is None:
            self._begin(order_id)
            return False
        self.expect(draft, order_id, Head(row.audit_count, bytes(row.audit_head)))
        return row.sealed_at is not None

    def _begin(self, order_id: str) -> bool:
        """Insert the order's row. Say whether nobody else has."""
        beginning = self._chain_key.beginning(order_id)
        values = {**new({"order_id": order_id}), **_named(beginning)}
        if _insert.change(self._connection, values) != 1:
            return False
        self.heads[order_id] = beginning
        self.begun.add(order_id)
        return True


def _named(head: Head) -> dict[str, Any]:
    return new({"audit_count": head.count, "audit_head": head.seal})
