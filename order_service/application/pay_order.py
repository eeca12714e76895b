"""Charge an order's total and mark the order paid, in one call."""

from dataclasses import dataclass

from order_service.application.once import ChangeOrder
from order_service.application.payment_operations import Opened, PaymentOperations
from order_service.application.ports import ChargeAnswer, Payments, Rejected
from order_service.domain.order import Order
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import OrderAction
from service_kit.idempotency.record import Reply


class PayOrder:
    """Charges a payment token with the order's total."""

    actions = (OrderAction.PAY,)

    @dataclass(frozen=True)
    class Command(ChangeOrder):
        """Which order to pay, and with what."""

        payment_token: str

    def __init__(self, *, operations: PaymentOperations, payments: Payments) -> None:
        self._operations = operations
        self._payments = payments

    def __call__(self, command: Command) -> Reply:
        """Pay the order.

        Raises OrderNotFound, EtagMismatch, PaymentInProgress, PaymentOutcomeUnknown,
        PaymentServiceUnavailable, IdempotencyKeyReused, RequestInProgress, DeadlineTooShort,
        and InvalidRequest for a token that the gateway does not know.
        """

        def check(order: Order) -> None:
            order.require(OrderAction.PAY)

        def charge(opened: Opened) -> ChargeAnswer | Rejected:
            return self._payments.charge(
                opened.operation, opened.order, payment_token=command.payment_token
            )

        return self._operations.run(command, OperationKind.CHARGE, check=check, ask=charge)
