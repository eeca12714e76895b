"""Payment operation rows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from order_service.application.ports import Queue, Unsettled
from order_service.domain.audit import Actor
from order_service.domain.money import Money
from order_service.domain.payment_operation import (
    OperationKind,
    OperationStatus,
    PaymentOperation,
)
from order_service.storage.tables import payment_operations
from service_kit.clock import CLOCK_SKEW_MAX
from service_kit.database import Database, RaceLost
from service_kit.due import is_due, next_try, one_less
from service_kit.statements import Session, Statement, insert_all, new, parameter

_PAGE: Final = 1000

operation_columns: Final = tuple(
    column.label(f"operation_{column.name}") for column in payment_operations.c
)
_by_id: Final = Statement(
    sa.select(*operation_columns).where(payment_operations.c.id == sa.bindparam("operation_id"))
)
# Of what comes later the database has its own beginnings.
_insert: Final = Statement(
    insert_all(payment_operations, but=("ended_at", "due_at", "attempts", "problem"))
)
_end: Final = Statement(
    sa.update(payment_operations)
    .where(
        payment_operations.c.id == sa.bindparam("operation_id"),
        payment_operations.c.status == OperationStatus.IN_FLIGHT.value,
    )
    .values(
        status=parameter(payment_operations.c.status),
        ended_at=parameter(payment_operations.c.ended_at),
    )
)


class StoredOperations:
    """The payment operations, within one transaction."""

    def __init__(self, connection: Session) -> None:
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
        _insert.change(self._connection, new(values))

    def get(self, operation_id: str) -> PaymentOperation:
        """Read an operation. Whoever changes it holds its order's lock."""
        row = _by_id.first(self._connection, {"operation_id": operation_id})
        assert row is not None  # operations are never deleted
        return operation_of(row)

    def end(self, operation: PaymentOperation, *, at: datetime) -> None:
        """Write an outcome. Raises RaceLost if there is one already."""
        values = new({"status": operation.status.value, "ended_at": at})
        if _end.change(self._connection, {"operation_id": operation.id, **values}) != 1:
            raise RaceLost

    def waiting(self, *, started_before: datetime, now: datetime) -> bool:
        """Say whether there is something to take."""
        query = sa.select(sa.exists().where(*_is_waiting(started_before, now)))
        return bool(self._connection.execute(query).scalar_one())

    def take(
        self, *, started_before: datetime, until: datetime, now: datetime
    ) -> PaymentOperation | None:
        """Take the oldest operation that nobody else is taking."""
        query = (
            sa.select(*operation_columns)
            .where(*_is_waiting(started_before, now))
            # What was in vain stands behind what was not tried yet.
            .order_by(payment_operations.c.attempts, payment_operations.c.started_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        row = self._connection.execute(query).first()
        if row is None:
            return None
        self._update(row.operation_id, due_at=until, attempts=payment_operations.c.attempts + 1)
        return operation_of(row)

    def postpone(self, operation_id: str, *, problem: str, now: datetime) -> None:
        """Set when it is due, by the number of its attempts."""
        query = sa.select(payment_operations.c.attempts).where(
            payment_operations.c.id == operation_id
        )
        attempts = self._connection.execute(query).scalar_one()
        self._update(operation_id, due_at=next_try(attempts, now), problem=problem)

    def put_back(self, operation_id: str) -> None:
        """Take back what `take` wrote."""
        self._update(operation_id, due_at=None, attempts=one_less(payment_operations.c.attempts))

    def unsettled(self, *, started_before: datetime) -> Sequence[Unsettled]:
        """Read operations in flight that are old or have a problem, oldest first."""
        columns = payment_operations.c
        query = (
            sa.select(payment_operations)
            .where(_in_flight, sa.or_(columns.started_at < started_before, columns.problem != ""))
            .order_by(columns.started_at)
        )
        return [
            Unsettled(
                what=row.kind,
                id=row.id,
                order_id=row.order_id,
                since=row.started_at,
                attempts=row.attempts,
                problem=row.problem,
            )
            for row in self._connection.execute(query)
        ]

    def in_flight(self) -> Mapping[OperationKind, Queue]:
        """Count the operations in flight and find the oldest, of each kind."""
        columns = payment_operations.c
        oldest = sa.func.min(columns.started_at, type_=columns.started_at.type)
        query = (
            sa.select(columns.kind, sa.func.count(), oldest)
            .where(_in_flight)
            .group_by(columns.kind)
        )
        rows = self._connection.execute(query)
        return {OperationKind(kind): Queue(count, since) for kind, count, since in rows}

    def _update(self, operation_id: str, **values: object) -> None:
        # Nothing to do if it has ended meanwhile.
        statement = (
            sa.update(payment_operations)
            .where(payment_operations.c.id == operation_id, _in_flight)
            .values(**values)
        )
        self._connection.execute(statement)


def forget_callers(database: Database, ended_before: datetime) -> None:
    """Forget who began the operations that ended before then, and for whom.

    Their keys must have been forgotten long ago: they are named by their callers.
    """
    columns = payment_operations.c
    forget = (
        sa.update(payment_operations)
        .where(columns.id == sa.bindparam("operation"))
        .values(caller="", on_behalf_of="")
    )

    def forget_some(connection: Connection, last: str) -> str:
        # A page is of operations, whether they end here or not: no statement has more to look at.
        query = (
            sa.select(columns.id, columns.ended_at, columns.caller)
            .where(columns.id > last)
            .order_by(columns.id)
            .limit(_PAGE)
        )
        page = connection.execute(query).all()
        old = [
            {"operation": row.id}
            for row in page
            if row.caller and row.ended_at and row.ended_at < ended_before
        ]
        if old:
            connection.execute(forget, old)
        return page[-1].id if page else ""

    last = ""
    while last := database.transact(partial(forget_some, last=last)):
        pass


# Written out: PostgreSQL does not use a partial index for a value that it is told later.
_in_flight: Final = payment_operations.c.status == sa.literal_column(
    f"'{OperationStatus.IN_FLIGHT.value}'"
)


def _is_waiting(started_before: datetime, now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    columns = payment_operations.c
    # What begins in the future was begun by a clock that has been set back.
    is_old = sa.or_(columns.started_at <= started_before, columns.started_at > now + CLOCK_SKEW_MAX)
    return _in_flight, is_old, is_due(columns.due_at, now)


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
