"""Whatever touches money: intent committed, remote call, outcome committed.

The remote call stands between two transactions and in neither.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from order_service.application.once import ChangeOrder, Once, locked
from order_service.application.ports import Payments, Rejected, Store, Voided, Work
from order_service.application.settlement import Answer, Settlement
from order_service.domain.errors import PaymentInProgress, PaymentOutcomeUnknown, Refusal
from order_service.domain.money import Money
from order_service.domain.order import Order
from order_service.domain.payment_operation import (
    OperationKind,
    OperationStatus,
    PaymentOperation,
)
from service_kit import call
from service_kit.clock import Clock
from service_kit.errors import ConcurrentUpdate, DeadlineTooShort, InvalidRequest
from service_kit.idempotency.record import Reply
from service_kit.ids import new_id

# Less than this and the payment service, and behind it the gateway, could not answer in time.
DEADLINE_MIN_SECONDS: Final = 1.0

# What a call may take beyond its deadline to write its outcome down.
OVERTIME: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Opened:
    """An operation in flight, committed, and the order it belongs to."""

    operation: PaymentOperation
    order: Order


Ask = Callable[[Opened], Answer | Rejected]


def require_time_left() -> None:
    """Raise DeadlineTooShort before anything is started that could not be finished."""
    if call.current().remaining_seconds() < DEADLINE_MIN_SECONDS:
        raise DeadlineTooShort(minimum_seconds=DEADLINE_MIN_SECONDS)


class PaymentOperations:
    """Runs charges, cancellations and refunds."""

    def __init__(
        self,
        *,
        store: Store,
        payments: Payments,
        settlement: Settlement,
        once: Once,
        clock: Clock,
    ) -> None:
        self._store = store
        self._payments = payments
        self._settlement = settlement
        self._once = once
        self._clock = clock

    def run(
        self,
        command: ChangeOrder,
        kind: OperationKind,
        *,
        check: Callable[[Order], Money | None],
        ask: Ask,
    ) -> Reply:
        """Begin the operation or continue the one under this key, and return the final reply.

        `check` decides under the order's lock whether the operation may begin and returns the
        amount of a refund; a Refusal that it raises is recorded and replied. `ask` makes the
        remote call.

        Raises PaymentOutcomeUnknown if the outcome is not known yet, PaymentInProgress or
        RefundInProgress if another operation is in the way, DeadlineTooShort.
        """
        return self._once.remembered(command.request, lambda: self._run(command, kind, check, ask))

    def _run(
        self,
        command: ChangeOrder,
        kind: OperationKind,
        check: Callable[[Order], Money | None],
        ask: Ask,
    ) -> Reply:
        def begin() -> Reply | Opened:
            # Each time anew: what was in the way may have taken long to settle.
            require_time_left()
            try:
                return self._store.change(open_)
            except ConcurrentUpdate:
                self._require_not_begun(command, kind)
                raise

        def open_(work: Work) -> Reply | Opened:
            return self._open(work, command, kind, check, owner_id)

        owner_id = new_id("run_")
        opened = self._once.unblocked(command.order_id, begin)
        if isinstance(opened, Reply):
            return opened
        answer = ask(opened)
        if isinstance(answer, Rejected):
            return self._rejected(opened, answer)
        return self._final(opened, self._settlement.settle(opened.operation, answer))

    def _require_not_begun(self, command: ChangeOrder, kind: OperationKind) -> None:
        """Raise PaymentOutcomeUnknown if there is an operation under the key: money may move."""
        claim = self._store.read(lambda work: work.keys.find(command.request))
        if claim.operation_id:
            raise PaymentOutcomeUnknown(order_id=command.order_id, operation=kind.value)

    def _open(
        self,
        work: Work,
        command: ChangeOrder,
        kind: OperationKind,
        check: Callable[[Order], Money | None],
        owner_id: str,
    ) -> Reply | Opened:
        now = self._clock.now()
        # A repeat waits for this call only as long as this call can last.
        lease = timedelta(seconds=call.current().remaining_seconds()) + OVERTIME
        claim = work.keys.claim(command.request, owner_id=owner_id, now=now, lease=lease)
        if claim.reply:
            return claim.reply
        order = locked(work, command.order_id, command.actor)
        if claim.operation_id:
            return Opened(work.operations.get(claim.operation_id), order)
        order.require_etag(command.etag)
        try:
            amount = check(order)
        except Refusal as refusal:
            return self._once.refused(work, command, order, refusal)
        order.require_nothing_pending()
        if kind is OperationKind.CHARGE and work.inbox.holds(order.id):
            # It has been paid directly, which an operation would only keep from being applied.
            raise PaymentInProgress(order_id=order.id, operation=kind.value)
        self._payments.require_available()
        operation = PaymentOperation(
            id=new_id("op_"),
            order_id=order.id,
            kind=kind,
            status=OperationStatus.IN_FLIGHT,
            actor=command.actor,
            method=command.request.method,
            idempotency_key=command.request.key,
            fingerprint=command.request.fingerprint,
            started_at=now,
            amount=amount,
            payment_id=order.payment_id,
        )
        order = order.begun(operation)
        work.orders.save(order)
        work.operations.add(operation)
        work.keys.record_operation(command.request, operation.id)
        return Opened(operation, order)

    def _rejected(self, opened: Opened, rejected: Rejected) -> Reply:
        """End an operation whose request the payment service refused to read.

        An earlier try under the same id may still have charged: only a void is an end.
        """
        answer = self._payments.resolve(opened.operation)
        reply = self._settlement.settle(opened.operation, answer)
        if isinstance(answer, Voided):
            raise InvalidRequest(violations=rejected.violations)
        return self._final(opened, reply)

    def _final(self, opened: Opened, reply: Reply | None) -> Reply:
        if reply is None:
            raise PaymentInProgress(order_id=opened.order.id, operation=opened.operation.kind.value)
        return reply
