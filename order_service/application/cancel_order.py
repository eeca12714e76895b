"""Give up an order that is not paid, and make sure that nobody pays for it any more."""

from order_service.application.once import ChangeOrder
from order_service.application.payment_operations import PaymentOperations
from order_service.application.ports import Payments
from order_service.domain.order import Order
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import OrderAction
from service_kit.idempotency.record import Reply


class CancelOrder:
    """Seals an order's payments, then cancels it; or finds that it has been paid."""

    # A payment that the seal finds pays for the order instead.
    actions = (OrderAction.CANCEL, OrderAction.PAY)

    def __init__(self, *, operations: PaymentOperations, payments: Payments) -> None:
        self._operations = operations
        self._payments = payments

    def __call__(self, command: ChangeOrder) -> Reply:
        """Cancel the order.

        Raises OrderNotFound, EtagMismatch, PaymentInProgress, PaymentOutcomeUnknown,
        PaymentServiceUnavailable, IdempotencyKeyReused, RequestInProgress, DeadlineTooShort.
        """

        def check(order: Order) -> None:
            order.require(OrderAction.CANCEL)

        return self._operations.run(
            command,
            OperationKind.CANCEL,
            check=check,
            ask=lambda opened: self._payments.seal(opened.operation),
        )
