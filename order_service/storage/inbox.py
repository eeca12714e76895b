"""The inbox of payments that have succeeded, and how far their history has been read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from order_service.application.ports import PaymentPage, Queue, ReceivedPayment, Unsettled
from order_service.storage.tables import orders, payment_feed, payment_inbox
from service_kit.due import is_due, next_try, one_less
from service_kit.statements import Session, Statement, insert_or_ignore, new

_sequence: Final = sa.select(payment_feed.c.sequence)
_paid: Final = sa.select(orders.c.payment_id, orders.c.id).where(
    orders.c.payment_id.in_(sa.bindparam("payment_ids", expanding=True))
)
_unapplied: Final = payment_inbox.c.applied_at.is_(None)

_of_order: Final = Statement(
    sa.select(payment_inbox.c.payment_id).where(
        payment_inbox.c.order_id == sa.bindparam("order_id"), _unapplied
    )
)
_insert: Final = insert_or_ignore(
    payment_inbox, but=("applied_at", "due_at", "attempts", "problem")
)


class StoredInbox:
    """The inbox, within one transaction."""

    def __init__(self, connection: Session) -> None:
        self._connection = connection

    def sequence(self) -> int:
        """Read the cursor."""
        return int(self._connection.execute(_sequence).scalar_one())

    def receive(self, page: PaymentPage, *, after: int, now: datetime) -> bool:
        """Move the cursor and insert what orders lack, together or not at all."""
        cursor = self._connection.execute(_sequence.with_for_update()).scalar_one()
        if cursor != after:
            return False
        for payment in self._unpaid(page.payments):
            values = {
                "payment_id": payment.payment_id,
                "order_id": payment.order_id,
                "received_at": now,
            }
            _insert.change(self._connection, new(values))
        self._connection.execute(sa.update(payment_feed).values(sequence=page.last_sequence))
        return True

    def waiting(self, now: datetime) -> bool:
        """Say whether there is something to take."""
        is_waiting = sa.exists().where(_unapplied, is_due(payment_inbox.c.due_at, now))
        return bool(self._connection.execute(sa.select(is_waiting)).scalar_one())

    def take(self, *, until: datetime, now: datetime) -> ReceivedPayment | None:
        """Take the oldest payment that nobody else is taking."""
        query = (
            sa.select(payment_inbox)
            .where(_unapplied, is_due(payment_inbox.c.due_at, now))
            # What was in vain stands behind what was not tried yet.
            .order_by(payment_inbox.c.attempts, payment_inbox.c.received_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        row = self._connection.execute(query).first()
        if row is None:
            return None
        self._update(row.payment_id, due_at=until, attempts=row.attempts + 1)
        return ReceivedPayment(payment_id=row.payment_id, order_id=row.order_id)

    def apply(self, payment_id: str, *, at: datetime) -> None:
        """Write when it was applied."""
        self._update(payment_id, applied_at=at, due_at=None, problem="")

    def postpone(self, payment_id: str, *, problem: str, now: datetime) -> None:
        """Set when it is due, by the number of its attempts."""
        query = sa.select(payment_inbox.c.attempts).where(payment_inbox.c.payment_id == payment_id)
        attempts = self._connection.execute(query).scalar_one()
        self._update(payment_id, due_at=next_try(attempts, now), problem=problem)

    def put_back(self, payment_id: str) -> None:
        """Take back what `take` wrote."""
        self._update(payment_id, due_at=None, attempts=one_less(payment_inbox.c.attempts))

    def holds(self, order_id: str) -> bool:
        """Say whether there is one of this order. A draft takes it that there is none."""
        return _of_order.rare(self._connection, {"order_id": order_id}) is not None

    def make_due(self, order_id: str) -> None:
        """Make the payments of an order that wait due now, as if they were new."""
        statement = (
            sa.update(payment_inbox)
            .where(payment_inbox.c.order_id == order_id, _unapplied)
            .values(due_at=None, attempts=0)
        )
        self._connection.execute(statement)

    def unapplied(self, *, received_before: datetime) -> Sequence[Unsettled]:
        """Read unapplied payments that are old or have a problem, oldest first."""
        columns = payment_inbox.c
        query = (
            sa.select(payment_inbox)
            .where(_unapplied, sa.or_(columns.received_at < received_before, columns.problem != ""))
            .order_by(columns.received_at)
        )
        return [
            Unsettled(
                what="payment",
                id=row.payment_id,
                order_id=row.order_id,
                since=row.received_at,
                attempts=row.attempts,
                problem=row.problem,
            )
            for row in self._connection.execute(query)
        ]

    def queue(self) -> Queue:
        """Count the unapplied payments and find the oldest."""
        received_at = payment_inbox.c.received_at
        oldest = sa.func.min(received_at, type_=received_at.type)
        query = sa.select(sa.func.count(), oldest).where(_unapplied)
        return Queue(*self._connection.execute(query).one())

    def _unpaid(self, payments: Sequence[ReceivedPayment]) -> list[ReceivedPayment]:
        # Most payments are made through their orders, which have them by the time they are told
        # of, and never lose them again.
        if not payments:
            return []
        ids = {"payment_ids": [payment.payment_id for payment in payments]}
        paid = {tuple(row) for row in self._connection.execute(_paid, ids)}
        return [p for p in payments if (p.payment_id, p.order_id) not in paid]

    def _update(self, payment_id: str, **values: object) -> None:
        # Nothing to do if it was applied meanwhile.
        statement = (
            sa.update(payment_inbox)
            .where(payment_inbox.c.payment_id == payment_id, _unapplied)
            .values(**values)
        )
        self._connection.execute(statement)
