"""What an order can refuse, as facts.

    OrderError
    ├── Refusal                   a final answer: stored under its key and in the audit trail
    │   ├── InvalidTransition         the status does not permit the action
    │   ├── PaymentDeclined           the gateway declined the charge
    │   ├── PaymentMismatch           the payment is another order's
    │   ├── PaymentNotSucceeded       the payment took no money
    │   ├── RefundDeclined            the gateway declined the refund
    │   └── RefundExceedsPayment      more than what is left
    ├── OrderNotFound             no such order, or somebody else's
    ├── PaymentNotFound           no such payment, or somebody else's
    ├── PaymentInProgress         a charge or cancellation is under way
    ├── RefundInProgress          a refund is under way
    ├── EtagMismatch              the status has changed since it was read
    ├── PaymentOutcomeUnknown     money may have moved; the same key finds out
    ├── PaymentServiceUnavailable nothing was started
    └── PaymentInvariantBroken    the payment contradicts its order: our bug

The sentence of an exception is for the log; a client gets its attributes.
"""

from typing import ClassVar

from order_service.domain.audit import EventType


class OrderError(Exception):
    """Superclass of everything below. Never raised itself."""


class Refusal(OrderError):
    """A final answer. A repeat with the same key gets it again.

    `reason` and `event_type` are what the audit trail says of it, `payment_id` the payment it
    is about, if any.
    """

    reason: ClassVar[str]
    event_type: ClassVar[EventType]
    payment_id: str = ""


class InvalidTransition(Refusal):
    """The order's status does not permit the action."""

    reason = "INVALID_TRANSITION"
    event_type = EventType.INVALID_TRANSITION_ATTEMPTED

    def __init__(
        self, *, order_id: str, status: str, action: str, allowed: tuple[str, ...]
    ) -> None:
        super().__init__(f"order {order_id} is {status}: cannot {action}")
        self.order_id = order_id
        self.status = status
        self.action = action
        self.allowed = allowed


class PaymentDeclined(Refusal):
    """The gateway declined the charge; no money moved."""

    reason = "PAYMENT_DECLINED"
    event_type = EventType.PAYMENT_FAILED

    def __init__(self, *, order_id: str, payment_id: str, decline_code: str) -> None:
        super().__init__(f"payment {payment_id} of order {order_id} was declined: {decline_code}")
        self.order_id = order_id
        self.payment_id = payment_id
        self.decline_code = decline_code


class PaymentMismatch(Refusal):
    """The payment was made for another order, amount or currency."""

    reason = "PAYMENT_MISMATCH"
    event_type = EventType.PAYMENT_REFUSED

    def __init__(self, *, order_id: str, payment_id: str) -> None:
        super().__init__(f"payment {payment_id} is not for order {order_id}")
        self.order_id = order_id
        self.payment_id = payment_id


class PaymentNotSucceeded(Refusal):
    """The payment ended without taking money."""

    reason = "PAYMENT_NOT_SUCCEEDED"
    event_type = EventType.PAYMENT_REFUSED

    def __init__(self, *, payment_id: str, status: str) -> None:
        super().__init__(f"payment {payment_id} is {status}")
        self.payment_id = payment_id
        self.status = status


class RefundDeclined(Refusal):
    """The gateway declined the refund; no money moved."""

    reason = "REFUND_DECLINED"
    event_type = EventType.REFUND_FAILED

    def __init__(self, *, order_id: str, decline_code: str) -> None:
        super().__init__(f"the refund of order {order_id} was declined: {decline_code}")
        self.order_id = order_id
        self.decline_code = decline_code


class RefundExceedsPayment(Refusal):
    """The refund is more than what is left of the payment, in minor units."""

    reason = "REFUND_EXCEEDS_PAYMENT"
    event_type = EventType.REFUND_REFUSED

    def __init__(
        self, *, payment_id: str, currency_code: str, refundable: int, requested: int
    ) -> None:
        super().__init__(f"{requested} is more than the {refundable} left of payment {payment_id}")
        self.payment_id = payment_id
        self.currency_code = currency_code
        self.refundable = refundable
        self.requested = requested


class OrderNotFound(OrderError):
    """There is no such order, or it is another customer's."""

    def __init__(self, *, order_id: str) -> None:
        super().__init__(f"order {order_id} was not found")
        self.order_id = order_id


class PaymentNotFound(OrderError):
    """There is no such payment, or it is another customer's."""

    def __init__(self, *, payment_id: str) -> None:
        super().__init__(f"payment {payment_id} was not found")
        self.payment_id = payment_id


class PaymentInProgress(OrderError):
    """A charge or a cancellation of the order is under way. Nothing was changed."""

    def __init__(self, *, order_id: str, operation: str) -> None:
        super().__init__(f"a {operation} of order {order_id} is under way")
        self.order_id = order_id
        self.operation = operation


class RefundInProgress(OrderError):
    """A refund of the order is under way. Nothing was changed."""

    def __init__(self, *, order_id: str) -> None:
        super().__init__(f"a refund of order {order_id} is under way")
        self.order_id = order_id


class EtagMismatch(OrderError):
    """The order's status has changed since the caller read it."""

    def __init__(self, *, order_id: str, current_etag: str) -> None:
        super().__init__(f"order {order_id} has changed: its etag is {current_etag}")
        self.order_id = order_id
        self.current_etag = current_etag


class PaymentOutcomeUnknown(OrderError):
    """Money may or may not have moved; the same request with the same key finds out."""

    def __init__(self, *, order_id: str, operation: str) -> None:
        super().__init__(f"the outcome of the {operation} of order {order_id} is not known yet")
        self.order_id = order_id
        self.operation = operation


class PaymentServiceUnavailable(OrderError):
    """The payment service cannot be reached, and nothing was started."""

    def __init__(self) -> None:
        super().__init__("the payment service cannot be reached; nothing was started")


class PaymentInvariantBroken(OrderError):
    """A payment contradicts the order it was made for: our bug, for a person to look at."""

    def __init__(self, *, order_id: str, payment_id: str) -> None:
        super().__init__(f"payment {payment_id} contradicts order {order_id}")
        self.order_id = order_id
        self.payment_id = payment_id
