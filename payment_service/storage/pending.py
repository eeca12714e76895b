"""Rows that wait for the gateway's answer: alike for payments and refunds."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from payment_service.application.gateway_time import LEASE_MAX
from payment_service.application.ports import Queue
from payment_service.storage.tables import payment_orders
from service_kit.clock import CLOCK_SKEW_MAX
from service_kit.due import is_due, next_try
from service_kit.statements import Session


class PendingRows:
    """The pending rows of one table, within one transaction."""

    def __init__(self, connection: Session, table: sa.Table) -> None:
        self._connection = connection
        self._table = table

    def exist(self, now: datetime) -> bool:
        """Say whether there is one that is due and that nobody asks about."""
        query = sa.select(sa.exists().where(*self._is_waiting(now)))
        return bool(self._connection.execute(query).scalar_one())

    def lock_oldest(self, now: datetime) -> Row[Any] | None:
        """Lock the order of the oldest of those, then read it: it may have been settled before."""
        table, orders = self._table, payment_orders
        query = (
            sa.select(table.c.id)
            .join(orders, orders.c.order_id == table.c.order_id)
            .where(*self._is_waiting(now))
            # What was in vain stands behind what was not tried yet.
            .order_by(table.c.attempts, table.c.created_at)
            .limit(1)
            # The order's row is what every writer locks first; of its payments none.
            .with_for_update(of=orders, skip_locked=True)
        )
        found = self._connection.execute(query).scalar_one_or_none()
        if found is None:
            return None
        again = sa.select(table).where(table.c.id == found, *self._is_waiting(now))
        return self._connection.execute(again).first()

    def release(self, row_id: str, until: datetime, now: datetime) -> None:
        """Clear the lease if it is still the one taken until then, and set when it is due."""
        columns = self._table.c
        mine = (columns.id == row_id, self._is_pending, columns.lease_until == until)
        query = sa.select(columns.attempts).where(*mine)
        attempts = self._connection.execute(query).scalar_one_or_none()
        if attempts is None:
            return
        statement = (
            sa.update(self._table)
            .where(*mine)
            .values(lease_until=None, attempts=attempts + 1, due_at=next_try(attempts + 1, now))
        )
        self._connection.execute(statement)

    def make_due(self) -> None:
        """Clear every due time."""
        self._connection.execute(sa.update(self._table).where(self._is_pending).values(due_at=None))

    def since(self, before: datetime) -> Sequence[Row[Any]]:
        """Read the rows that have been pending since before then, oldest first."""
        created_at = self._table.c.created_at
        query = (
            sa.select(self._table).where(self._is_pending, created_at < before).order_by(created_at)
        )
        return self._connection.execute(query).all()

    def queue(self) -> Queue:
        """Count them all."""
        oldest = sa.func.min(self._table.c.created_at, type_=self._table.c.created_at.type)
        query = sa.select(sa.func.count(), oldest).where(self._is_pending)
        return Queue(*self._connection.execute(query).one())

    @property
    def _is_pending(self) -> sa.ColumnElement[bool]:
        # Written out: PostgreSQL does not use a partial index for a value that it is told later.
        return self._table.c.status == sa.literal_column("'pending'")

    def _is_waiting(self, now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
        lease_until = self._table.c.lease_until
        # As payment_service.application.gateway_time.is_leased has it.
        leased = sa.and_(lease_until > now, lease_until <= now + LEASE_MAX + CLOCK_SKEW_MAX)
        is_free = sa.or_(lease_until.is_(None), sa.not_(leased))
        return self._is_pending, is_free, is_due(self._table.c.due_at, now)
