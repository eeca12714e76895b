"""The outcome of a payment operation, written down: order, operation, audit and reply together.

The same whether the handler that began it does so, a repeat with the same key, or somebody who
found it left behind.
"""

from datetime import timedelta
from typing import Final, assert_never

from order_service.application.ports import (
    ChargeAnswer,
    Declined,
    NoPayment,
    PaymentFacts,
    Payments,
    RefundAnswer,
    Refunded,
    RefundRefused,
    Replies,
    SealAnswer,
    Store,
    Succeeded,
    Unknown,
    Voided,
    Work,
)
from order_service.domain.audit import AuditEntry
from order_service.domain.errors import (
    PaymentDeclined,
    PaymentInvariantBroken,
    PaymentOutcomeUnknown,
    Refusal,
)
from order_service.domain.order import Order
from order_service.domain.payment_operation import (
    OperationKind,
    OperationStatus,
    PaymentOperation,
)
from order_service.domain.state_machine import OrderAction, OrderStatus
from service_kit.clock import CLOCK_SKEW_MAX, Clock
from service_kit.errors import ConcurrentUpdate, StorageUnavailable
from service_kit.idempotency.record import KeyedRequest, Reply

ABANDONED_AFTER: Final = timedelta(seconds=5)

Answer = ChargeAnswer | SealAnswer | RefundAnswer
Known = Succeeded | Declined | Voided | NoPayment | Refunded | RefundRefused


class Settlement:
    """Settles payment operations. `settle` may be repeated: what is settled stays as it is."""

    def __init__(self, *, store: Store, payments: Payments, replies: Replies, clock: Clock) -> None:
        self._store = store
        self._payments = payments
        self._replies = replies
        self._clock = clock

    def settle(self, operation: PaymentOperation, answer: Answer) -> Reply | None:
        """Write the outcome down and return the reply of the operation's key.

        Returns None if the operation is VOIDED: its key may begin another.

        Raises PaymentOutcomeUnknown if the answer is unknown, or if the outcome could not be
        written yet; PaymentInvariantBroken if it contradicts the order.
        """
        unknown = PaymentOutcomeUnknown(order_id=operation.order_id, operation=operation.kind.value)
        try:
            if isinstance(answer, Unknown):
                self._store.transact(lambda work: self._release(work, operation))
                raise unknown
            return self._store.change(lambda work: self._write(work, operation, answer))
        except (ConcurrentUpdate, StorageUnavailable):
            # The intent is committed and the remote call was made: not "nothing was changed".
            raise unknown from None

    def settle_abandoned(self, order_id: str) -> bool:
        """Settle an operation that has been in flight for more than five seconds.

        Says whether there is none in flight any more.
        """
        order = self._store.read(lambda work: work.orders.get(order_id))
        operation = order.pending if order else None
        if operation is None:
            return True
        age = self._clock.now() - operation.started_at
        # What begins in the future was begun by a clock that has been set back.
        if -CLOCK_SKEW_MAX <= age <= ABANDONED_AFTER:
            return False
        try:
            self.settle(operation, self.ask(operation))
        except (PaymentOutcomeUnknown, PaymentInvariantBroken):
            # Whoever it is in the way of has no part in it.
            return False
        return True

    def ask(self, operation: PaymentOperation) -> Answer:
        """Ask what became of an operation whose caller is not there to send it again."""
        match operation.kind:
            case OperationKind.CHARGE:
                # The token is not kept here: the charge cannot be sent again, only asked for.
                return self._payments.resolve(operation)
            case OperationKind.CANCEL:
                return self._payments.seal(operation)
            case OperationKind.REFUND:
                return self._payments.refund(operation)
            case _:
                assert_never(operation.kind)

    def _release(self, work: Work, operation: PaymentOperation) -> None:
        request = _request(operation)
        if work.keys.lock(request).operation_id == operation.id:
            work.keys.release(request, now=self._clock.now())

    def _write(self, work: Work, operation: PaymentOperation, answer: Known) -> Reply | None:
        # Always in this order: key, order, operation.
        claim = work.keys.lock(_request(operation))
        order = work.orders.lock(operation.order_id)
        if order is None or order.pending is None or order.pending.id != operation.id:
            return claim.reply  # it has been settled
        match answer:
            case Succeeded(payment):
                return self._paid(work, operation, order, payment)
            case Declined(payment):
                declined = PaymentDeclined(
                    order_id=order.id, payment_id=payment.id, decline_code=payment.decline_code
                )
                return self._refused(work, operation, order, declined)
            case Voided():
                self._voided(work, operation, order)
                return None
            case NoPayment():
                change = order.cancel(by=operation.actor, at=self._clock.now())
                return self._done(work, operation, *change)
            case Refunded():
                assert operation.amount is not None
                change = order.refund(operation.amount, by=operation.actor, at=self._clock.now())
                return self._done(work, operation, *change)
            case RefundRefused(refusal):
                return self._refused(work, operation, order, refusal)
            case _:
                assert_never(answer)

    def _paid(
        self, work: Work, operation: PaymentOperation, order: Order, payment: PaymentFacts
    ) -> Reply:
        paid_by_it = order.payment_id == payment.id
        fits = paid_by_it or order.status is OrderStatus.CREATED
        if not fits or (payment.order_id, payment.amount) != (order.id, order.total):
            raise PaymentInvariantBroken(order_id=order.id, payment_id=payment.id)
        entries: tuple[AuditEntry, ...] = ()
        if not paid_by_it:
            now = self._clock.now()
            order, entry = order.pay(payment_id=payment.id, by=operation.actor, at=now)
            entries = (entry,)
        if operation.kind is OperationKind.CHARGE:
            return self._done(work, operation, order, *entries)
        # A cancellation that came too late: the money is there, so the order is paid.
        try:
            order.require(OrderAction.CANCEL)
        except Refusal as refusal:
            return self._refused(work, operation, order, refusal, *entries)
        raise AssertionError("a paid order that can be cancelled")

    def _done(
        self, work: Work, operation: PaymentOperation, order: Order, *entries: AuditEntry
    ) -> Reply:
        order = order.settled(at=self._clock.now())
        reply = Reply(ok=True, body=self._replies.response(operation.method, order))
        work.keys.finish(_request(operation), reply, now=order.updated_at)
        self._end(work, operation.ended(OperationStatus.SUCCEEDED), order, entries)
        return reply

    def _refused(
        self,
        work: Work,
        operation: PaymentOperation,
        order: Order,
        refusal: Refusal,
        *entries: AuditEntry,
    ) -> Reply:
        order = order.settled(at=self._clock.now())
        refused = order.refused(refusal, by=operation.actor, at=order.updated_at)
        reply = Reply(ok=False, body=self._replies.refusal(refusal))
        work.keys.finish(_request(operation), reply, now=order.updated_at)
        self._end(work, operation.ended(OperationStatus.FAILED), order, (*entries, refused))
        return reply

    def _voided(self, work: Work, operation: PaymentOperation, order: Order) -> None:
        order = order.settled(at=self._clock.now())
        self._end(work, operation.ended(OperationStatus.VOIDED), order, ())
        # The key stays bound to its fields and is free to begin another operation.
        request = _request(operation)
        work.keys.record_operation(request, None)
        work.keys.release(request, now=order.updated_at)
        # The payment that was in this one's way is not kept waiting by callers who try again.
        work.inbox.make_due(order.id)

    def _end(
        self,
        work: Work,
        operation: PaymentOperation,
        order: Order,
        entries: tuple[AuditEntry, ...],
    ) -> None:
        work.orders.save(order, *entries)
        work.operations.end(operation, at=order.updated_at)


def _request(operation: PaymentOperation) -> KeyedRequest:
    return KeyedRequest(
        role=operation.actor.role,
        caller=operation.actor.id,
        key=operation.idempotency_key,
        method=operation.method,
        fingerprint=operation.fingerprint,
    )
