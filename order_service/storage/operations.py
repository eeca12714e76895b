"""Payment operation rows."""

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from order_service.domain.audit import Actor
from order_service.domain.money import Money
from order_service.domain.payment_operation import (
    OperationKind,
    OperationStatus,
    PaymentOperation,
)
from order_service.storage.tables import payment_operations
from service_kit.database import RaceLost

operation_columns: Final = tuple(
    column.label(f"operation_{column.name}") for column in payment_operations.c
)
_by_id: Final = sa.select(*operation_columns).where(
    payment_operations.c.id == sa.bindparam("operation_id")
)


class StoredOperations:
    """The payment operations, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, operation: PaymentOperation) -> None:
        """Insert an intent."""
        amount = operation.amount
        values = {
            "id": operation.id,
            "order_id": operation.order_id,
            "kind": operation.kind.value,
            "status": operation.status.value,
            "amount_minor": amount.minor_units if amount else None,
            "currency_code": amount.currency_code if amount else None,
            "payment_id": operation.payment_id or None,
            "caller_role": operation.actor.role,
            "caller": operation.actor.id,
            "on_behalf_of": operation.actor.on_behalf_of,
            "trace_id": operation.actor.trace_id,
            "method": operation.method,
            "idempotency_key": operation.idempotency_key,
            "fingerprint": operation.fingerprint,
            "started_at": operation.started_at,
        }
        self._connection.execute(sa.insert(payment_operations), values)

    def get(self, operation_id: str) -> PaymentOperation:
        """Read an operation. Whoever changes it holds its order's lock."""
        return operation_of(self._connection.execute(_by_id, {"operation_id": operation_id}).one())

    def end(self, operation: PaymentOperation, *, at: datetime) -> None:
        """Write an outcome. Raises RaceLost if there is one already."""
        statement = (
            sa.update(payment_operations)
            .where(
                payment_operations.c.id == operation.id,
                payment_operations.c.status == OperationStatus.IN_FLIGHT.value,
            )
            .values(status=operation.status.value, ended_at=at)
        )
        if self._connection.execute(statement).rowcount != 1:
            raise RaceLost


def operation_of(row: Row[Any]) -> PaymentOperation:
    """Build the operation from a row of `operation_columns`."""
    amount = None
    if row.operation_amount_minor is not None:
        amount = Money(row.operation_currency_code, row.operation_amount_minor)
    return PaymentOperation(
        id=row.operation_id,
        order_id=row.operation_order_id,
        kind=OperationKind(row.operation_kind),
        status=OperationStatus(row.operation_status),
        actor=Actor(
            role=row.operation_caller_role,
            id=row.operation_caller,
            on_behalf_of=row.operation_on_behalf_of,
            trace_id=row.operation_trace_id,
        ),
        method=row.operation_method,
        idempotency_key=row.operation_idempotency_key,
        fingerprint=bytes(row.operation_fingerprint),
        started_at=row.operation_started_at,
        amount=amount,
        payment_id=row.operation_payment_id or "",
    )
