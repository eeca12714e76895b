"""Mark an order paid by a payment that was made without it, trusting nobody."""

from dataclasses import dataclass

from order_service.application.once import ChangeOrder, Once
from order_service.application.payment_operations import require_time_left
from order_service.application.ports import PaymentFacts, Payments
from order_service.domain.errors import (
    PaymentInProgress,
    PaymentMismatch,
    PaymentNotFound,
    PaymentNotSucceeded,
)
from order_service.domain.order import Change, Order
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import OrderAction
from service_kit.call import CUSTOMER
from service_kit.clock import Clock
from service_kit.idempotency.record import Reply


class MarkOrderPaid:
    """Asks the payment service whether that payment is this order's, and succeeded."""

    actions = (OrderAction.PAY,)

    @dataclass(frozen=True)
    class Command(ChangeOrder):
        """Which order, and the payment that is said to have paid for it."""

        payment_id: str

    class _AskPayment(Exception):
        """The order's own state does not answer: the payment has to be asked for."""

    def __init__(self, *, once: Once, payments: Payments, clock: Clock) -> None:
        self._once = once
        self._payments = payments
        self._clock = clock

    def __call__(self, command: Command) -> Reply:
        """Mark the order paid.

        Raises OrderNotFound, EtagMismatch, PaymentNotFound, PaymentInProgress,
        PaymentServiceUnavailable, IdempotencyKeyReused, DeadlineTooShort.
        """
        require_time_left()
        try:
            return self._once.change(command, lambda order: self._decide(order, command, None))
        except self._AskPayment:
            payment = self._payments.get(command.payment_id, by=command.actor)
        # Everything is checked once more: the order may have changed meanwhile.
        return self._once.change(command, lambda order: self._decide(order, command, payment))

    def _decide(
        self, order: Order, command: Command, payment: PaymentFacts | None
    ) -> Change | None:
        if order.payment_id == command.payment_id:
            return None
        order.require(OrderAction.PAY)
        order.require_nothing_pending()
        if payment is None:
            raise self._AskPayment
        _require_payment_of(order, payment, command)
        return order.pay(payment_id=payment.id, by=command.actor, at=self._clock.now())


def _require_payment_of(
    order: Order, payment: PaymentFacts, command: MarkOrderPaid.Command
) -> None:
    if command.actor.role == CUSTOMER and payment.customer_id != command.actor.id:
        raise PaymentNotFound(payment_id=payment.id)
    if payment.order_id != order.id:
        raise PaymentMismatch(order_id=order.id, payment_id=payment.id)
    if payment.status == "pending":
        raise PaymentInProgress(order_id=order.id, operation=OperationKind.CHARGE.value)
    if payment.status != "succeeded":
        raise PaymentNotSucceeded(payment_id=payment.id, status=payment.status)
    if payment.amount != order.total:
        raise PaymentMismatch(order_id=order.id, payment_id=payment.id)
