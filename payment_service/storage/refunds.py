"""Refund rows. Each is also the record of its idempotency key, and is kept for ever."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Row

from payment_service.application.ports import Queue, RefundRecord
from payment_service.domain.money import Money
from payment_service.domain.refund import Refund
from payment_service.domain.state_machine import RESERVING_REFUND_STATUSES, RefundStatus
from payment_service.storage.pending import PendingRows
from payment_service.storage.tables import refunds
from service_kit.database import RaceLost
from service_kit.idempotency.record import KeyedRequest, Reply
from service_kit.statements import Session, Statement

# The only method whose requests are recorded here.
METHOD: Final = "RefundPayment"

_by_id: Final = Statement(sa.select(refunds).where(refunds.c.id == sa.bindparam("refund_id")))
_by_reference: Final = Statement(
    sa.select(refunds).where(refunds.c.gateway_reference == sa.bindparam("reference"))
)
_by_key: Final = Statement(
    sa.select(refunds).where(
        refunds.c.caller_role == sa.bindparam("role"),
        refunds.c.caller == sa.bindparam("caller"),
        refunds.c.idempotency_key == sa.bindparam("key"),
    )
)
_reserved: Final = sa.select(sa.func.coalesce(sa.func.sum(refunds.c.amount_minor), 0)).where(
    refunds.c.payment_id == sa.bindparam("payment_id"),
    refunds.c.status.in_([status.value for status in RESERVING_REFUND_STATUSES]),
)
_is_pending: Final = refunds.c.status == RefundStatus.PENDING.value


class StoredRefunds:
    """The refunds, within one transaction."""

    def __init__(self, connection: Session) -> None:
        self._connection = connection
        self._pending = PendingRows(connection, refunds)

    def add(self, record: RefundRecord) -> None:
        """Insert a new refund, or the refusal of one."""
        refund, request = record.refund, record.request
        values = {
            "id": refund.id,
            "payment_id": refund.payment_id,
            "order_id": refund.order_id,
            "currency_code": refund.amount.currency_code,
            "amount_minor": refund.amount.minor_units,
            "caller_role": request.role,
            "caller": request.caller,
            "idempotency_key": request.key,
            "fingerprint": request.fingerprint,
            "created_at": refund.created_at,
            **_progress(record),
        }
        self._connection.execute(sa.insert(refunds), values)

    def get(self, refund_id: str) -> RefundRecord | None:
        """Read a refund."""
        return self._first(_by_id, refund_id=refund_id)

    def by_key(self, role: str, caller: str, key: str) -> RefundRecord | None:
        """Read the refund under a caller's key. A draft takes the key to be new."""
        row = _by_key.rare(self._connection, {"role": role, "caller": caller, "key": key})
        return _record(row) if row else None

    def reserved(self, payment_id: str) -> int:
        """Add up what was given back or still may be, in minor units."""
        return int(self._connection.execute(_reserved, {"payment_id": payment_id}).scalar_one())

    def lease(self, refund_id: str, until: datetime) -> None:
        """Set the lease of a pending refund. Raises RaceLost if it is final."""
        self._update(refunds.c.id == refund_id, _is_pending, lease_until=until)

    def release(self, refund_id: str, until: datetime, *, now: datetime) -> None:
        """Clear the lease if it is still the one taken until then, and set when it is due."""
        self._pending.release(refund_id, until, now)

    def waiting(self, now: datetime) -> bool:
        """Say whether one is due and nobody asks about it."""
        return self._pending.exist(now)

    def lock_due(self, now: datetime) -> RefundRecord | None:
        """Lock the oldest of those."""
        row = self._pending.lock_oldest(now)
        return _record(row) if row else None

    def make_due(self) -> None:
        """End the waiting of all that are pending."""
        self._pending.make_due()

    def pending_since(self, before: datetime) -> Sequence[RefundRecord]:
        """Read those that have been pending for long."""
        return [_record(row) for row in self._pending.since(before)]

    def pending(self) -> Queue:
        """Count those that are pending."""
        return self._pending.queue()

    def by_reference(self, reference: str) -> RefundRecord | None:
        """Read the one with the gateway's reference."""
        return self._first(_by_reference, reference=reference)

    def settle(self, record: RefundRecord) -> None:
        """Write the outcome of a pending refund. Raises RaceLost if it is final already."""
        self._update(refunds.c.id == record.refund.id, _is_pending, **_progress(record))

    def _first(self, query: Statement, **values: str) -> RefundRecord | None:
        row = query.first(self._connection, values)
        return _record(row) if row else None

    def _update(self, *which: sa.ColumnElement[bool], **values: object) -> None:
        statement = sa.update(refunds).where(*which).values(**values)
        if self._connection.execute(statement).rowcount != 1:
            raise RaceLost


def _progress(record: RefundRecord) -> dict[str, Any]:
    """Name the columns that change when a refund becomes final."""
    refund, reply = record.refund, record.reply
    return {
        "status": refund.status.value,
        "decline_code": refund.decline_code or None,
        "gateway_reference": refund.gateway_reference or None,
        "lease_until": record.lease_until,
        "reply_ok": reply.ok if reply else None,
        "reply": reply.body if reply else None,
        "updated_at": refund.updated_at,
    }


def _record(row: Row[Any]) -> RefundRecord:
    return RefundRecord(
        refund=Refund(
            id=row.id,
            payment_id=row.payment_id,
            order_id=row.order_id,
            amount=Money(row.currency_code, row.amount_minor),
            status=RefundStatus(row.status),
            created_at=row.created_at,
            updated_at=row.updated_at,
            decline_code=row.decline_code or "",
            gateway_reference=row.gateway_reference or "",
        ),
        request=KeyedRequest(
            role=row.caller_role,
            caller=row.caller,
            key=row.idempotency_key,
            method=METHOD,
            fingerprint=bytes(row.fingerprint),
        ),
        lease_until=row.lease_until,
        asked_in_vain=row.attempts,
        reply=None if row.reply is None else Reply(ok=row.reply_ok, body=bytes(row.reply)),
    )
