"""Payment rows. Each is also the record of its idempotency key, and is kept for ever."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Row

from payment_service.application.ports import PaymentFilter, PaymentRecord, Queue
from payment_service.domain.money import Money
from payment_service.domain.payment import Payment, VoidReason
from payment_service.domain.state_machine import LIVE_PAYMENT_STATUSES, PaymentStatus
from payment_service.storage.orders import StoredOrders
from payment_service.storage.pending import PendingRows
from payment_service.storage.tables import payments
from service_kit.audit.chain import Head
from service_kit.database import RaceLost
from service_kit.recent import Recent
from service_kit.statements import Draft, Session, Statement, insert_all, new, parameter

_by_id: Final = Statement(sa.select(payments).where(payments.c.id == sa.bindparam("payment_id")))
_by_reference: Final = Statement(
    sa.select(payments).where(payments.c.gateway_reference == sa.bindparam("reference"))
)
_by_key: Final = Statement(
    sa.select(payments).where(
        payments.c.caller_role == sa.bindparam("role"),
        payments.c.caller == sa.bindparam("caller"),
        payments.c.idempotency_key == sa.bindparam("key"),
    )
)
_live: Final = Statement(
    sa.select(payments).where(
        payments.c.order_id == sa.bindparam("order_id"),
        sa.or_(*(payments.c.status == status.value for status in LIVE_PAYMENT_STATUSES)),
    )
)
_insert: Final = Statement(insert_all(payments, but=("due_at", "attempts")))
_of_id: Final = payments.c.id == sa.bindparam("payment_id")
_is_pending: Final = payments.c.status == PaymentStatus.PENDING.value
_lease: Final = Statement(
    sa.update(payments)
    .where(_of_id, _is_pending)
    .values(lease_until=parameter(payments.c.lease_until)),
    needs_lock=True,
)
_progressing: Final = (
    *("status", "decline_code", "void_reason", "gateway_reference", "payment_token"),
    *("lease_until", "reply", "updated_at"),
)
_settle: Final = Statement(
    sa.update(payments)
    .where(_of_id, _is_pending)
    .values({name: parameter(payments.c[name]) for name in _progressing})
)
_give_back: Final = Statement(
    sa.update(payments)
    .where(_of_id)
    .values(
        refunded_minor=parameter(payments.c.refunded_minor),
        updated_at=parameter(payments.c.updated_at),
    ),
    needs_lock=True,
)


# A pending payment as it was written, and where the history of its order ended then.
Known: TypeAlias = tuple[PaymentRecord, Head]


class StoredPayments:
    """The payments, within one transaction.

    `recent` has payments as this process left them: a draft begins with those.
    """

    def __init__(
        self, connection: Session, orders: StoredOrders, recent: Recent[str, Known]
    ) -> None:
        self._connection = connection
        self._pending = PendingRows(connection, payments)
        self._orders = orders
        self._recent = recent
        self._added: list[PaymentRecord] = []

    def add(self, record: PaymentRecord) -> None:
        """Insert a new payment."""
        payment, amount = record.payment, record.payment.amount
        values = {
            "id": payment.id,
            "order_id": payment.order_id,
            "customer_id": payment.customer_id,
            "currency_code": amount.currency_code if amount else None,
            "amount_minor": amount.minor_units if amount else None,
            "refunded_minor": payment.refunded.minor_units if payment.refunded else None,
            "gateway": payment.gateway or None,
            "caller_role": record.role,
            "caller": record.caller,
            "idempotency_key": record.key,
            "fingerprint": record.fingerprint,
            "created_at": payment.created_at,
            **_progress(record),
        }
        _insert.change(self._connection, new(values))
        self._added.append(record)

    def leave(self) -> None:
        """Leave the new payments to whoever writes the gateway's answer down."""
        for record in self._added:
            if record.reply is None:
                head = self._orders.heads[record.payment.order_id]
                # The token is for the gateway alone.
                known = replace(record, payment_token=None), head
                self._recent.leave(record.payment.id, known)

    def get(self, payment_id: str) -> PaymentRecord | None:
        """Read a payment without locking anything."""
        return self._first(_by_id, payment_id=payment_id)

    def lock(self, payment_id: str, *, order_id: str = "") -> PaymentRecord | None:
        """Lock the payment's order, then read it: what a wait for the lock saw before is stale.

        `order_id`, where it is known, saves one look at the payment.
        """
        if isinstance(self._connection, Draft) and (known := self._recent.take(payment_id)):
            record, head = known
            self._orders.expect(self._connection, record.payment.order_id, head)
            return record
        if not order_id:
            found = self.get(payment_id)
            if found is None:
                return None
            order_id = found.payment.order_id
        self._orders.lock(order_id)
        return self.get(payment_id)

    def by_key(self, role: str, caller: str, key: str) -> PaymentRecord | None:
        """Read the payment under a caller's key. A draft takes the key to be new."""
        row = _by_key.rare(self._connection, {"role": role, "caller": caller, "key": key})
        return _record(row) if row else None

    def live(self, order_id: str) -> PaymentRecord | None:
        """Read the order's payment that is pending or succeeded."""
        if order_id in self._orders.begun:
            return None  # every payment has its order's row
        return self._first(_live, order_id=order_id)

    def lease(self, payment_id: str, until: datetime) -> None:
        """Set the lease of a pending payment. Raises RaceLost if it is final."""
        self._change(_lease, payment_id, lease_until=until)

    def release(self, payment_id: str, until: datetime, *, now: datetime) -> None:
        """Clear the lease if it is still the one taken until then, and set when it is due."""
        self._pending.release(payment_id, until, now)

    def waiting(self, now: datetime) -> bool:
        """Say whether one is due and nobody asks about it."""
        return self._pending.exist(now)

    def lock_due(self, now: datetime) -> PaymentRecord | None:
        """Lock the oldest of those."""
        row = self._pending.lock_oldest(now)
        return _record(row) if row else None

    def make_due(self) -> None:
        """End the waiting of all that are pending."""
        self._pending.make_due()

    def pending_since(self, before: datetime) -> Sequence[PaymentRecord]:
        """Read those that have been pending for long."""
        return [_record(row) for row in self._pending.since(before)]

    def pending(self) -> Queue:
        """Count those that are pending."""
        return self._pending.queue()

    def by_reference(self, reference: str) -> PaymentRecord | None:
        """Read the one with the gateway's reference."""
        return self._first(_by_reference, reference=reference)

    def settle(self, record: PaymentRecord) -> None:
        """Write the outcome of a pending payment. Raises RaceLost if it is final already."""
        self._change(_settle, record.payment.id, **_progress(record))

    def give_back(self, payment: Payment) -> None:
        """Write how much of the payment was given back."""
        assert payment.refunded is not None  # it has succeeded
        self._change(
            _give_back,
            payment.id,
            refunded_minor=payment.refunded.minor_units,
            updated_at=payment.updated_at,
        )

    def page(self, wanted: PaymentFilter, *, before: str, limit: int) -> Sequence[Payment]:
        """Read payments with smaller ids than `before`, greatest first."""
        query = sa.select(payments).order_by(payments.c.id.desc()).limit(limit)
        if wanted.customer_id:
            query = query.where(payments.c.customer_id == wanted.customer_id)
        if wanted.status:
            query = query.where(payments.c.status == wanted.status.value)
        if wanted.order_id:
            query = query.where(payments.c.order_id == wanted.order_id)
        if before:
            query = query.where(payments.c.id < before)
        return [_payment(row) for row in self._connection.execute(query)]

    def _first(self, query: Statement, **values: str) -> PaymentRecord | None:
        row = query.first(self._connection, values)
        return _record(row) if row else None

    def _change(self, statement: Statement, payment_id: str, **values: object) -> None:
        if statement.change(self._connection, {"payment_id": payment_id, **new(values)}) != 1:
            raise RaceLost


def _progress(record: PaymentRecord) -> dict[str, Any]:
    """Name the columns that change when a payment becomes final."""
    payment = record.payment
    return {
        "status": payment.status.value,
        "decline_code": payment.decline_code or None,
        "void_reason": payment.void_reason.value if payment.void_reason else None,
        "gateway_reference": payment.gateway_reference or None,
        "payment_token": record.payment_token,
        "lease_until": record.lease_until,
        "reply": record.reply,
        "updated_at": payment.updated_at,
    }


def _record(row: Row[Any]) -> PaymentRecord:
    return PaymentRecord(
        payment=_payment(row),
        role=row.caller_role,
        caller=row.caller,
        key=row.idempotency_key,
        fingerprint=_bytes(row.fingerprint),
        payment_token=row.payment_token,
        lease_until=row.lease_until,
        asked_in_vain=row.attempts,
        reply=_bytes(row.reply),
    )


def _payment(row: Row[Any]) -> Payment:
    amount = refunded = None
    if row.amount_minor is not None:
        amount = Money(row.currency_code, row.amount_minor)
        refunded = Money(row.currency_code, row.refunded_minor)
    return Payment(
        id=row.id,
        order_id=row.order_id,
        customer_id=row.customer_id,
        amount=amount,
        refunded=refunded,
        status=PaymentStatus(row.status),
        gateway=row.gateway or "",
        created_at=row.created_at,
        updated_at=row.updated_at,
        decline_code=row.decline_code or "",
        void_reason=VoidReason(row.void_reason) if row.void_reason else None,
        gateway_reference=row.gateway_reference or "",
    )


def _bytes(value: bytes | memoryview | None) -> bytes | None:
    return None if value is None else bytes(value)
