"""Give back part or all of an order's money."""

from dataclasses import dataclass

from order_service.application.once import ChangeOrder
from order_service.application.payment_operations import PaymentOperations
from order_service.application.ports import Payments
from order_service.domain.errors import RefundExceedsPayment
from order_service.domain.money import Money
from order_service.domain.order import Order
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import OrderAction
from service_kit.errors import FieldViolation, InvalidRequest
from service_kit.idempotency.record import Reply


class RefundOrder:
    """Gives money back; the order is refunded once all of it is."""

    actions = (OrderAction.REFUND,)

    @dataclass(frozen=True)
    class Command(ChangeOrder):
        """Which order, and how much of it; no amount means all that is left."""

        amount: Money | None

    def __init__(self, *, operations: PaymentOperations, payments: Payments) -> None:
        self._operations = operations
        self._payments = payments

    def __call__(self, command: Command) -> Reply:
        """Refund the order.

        Raises OrderNotFound, EtagMismatch, RefundInProgress, PaymentOutcomeUnknown,
        PaymentServiceUnavailable, IdempotencyKeyReused, RequestInProgress, DeadlineTooShort,
        and InvalidRequest for another currency than the order's.
        """
        return self._operations.run(
            command,
            OperationKind.REFUND,
            check=lambda order: _amount(order, command.amount),
            ask=lambda opened: self._payments.refund(opened.operation),
        )


def _amount(order: Order, wanted: Money | None) -> Money:
    order.require(OrderAction.REFUND)
    # What is left is certain only while no other refund is in flight.
    order.require_nothing_pending()
    amount = wanted or order.refundable
    currency = order.total.currency_code
    if amount.currency_code != currency:
        violation = FieldViolation("amount.currency_code", f"must be the order's, {currency}")
        raise InvalidRequest(violations=[violation])
    if amount.minor_units > order.refundable.minor_units:
        raise RefundExceedsPayment(
            payment_id=order.payment_id,
            currency_code=currency,
            refundable=order.refundable.minor_units,
            requested=amount.minor_units,
        )
    return amount
