"""What the payment service can refuse, as facts.

    PaymentError
    ├── Refusal                   a final answer: stored under its key and in the audit trail
    │   ├── PaymentNotSucceeded       the payment took no money that could be given back
    │   └── RefundExceedsPayment      more than what is left
    ├── PaymentNotFound           no such payment, or somebody else's
    ├── PaymentMismatch           the key's payment is for another order
    └── PaymentTicketInvalid      not the order service's, altered, or somebody else's

The sentence of an exception is for the log; a client gets its attributes.
"""

from typing import ClassVar


class PaymentError(Exception):
    """Superclass of everything below. Never raised itself."""


class Refusal(PaymentError):
    """A final answer. A repeat with the same key gets it again.

    `reason` is what the audit trail says of it.
    """

    reason: ClassVar[str]


class PaymentNotSucceeded(Refusal):
    """The payment has not succeeded, so there is nothing to give back."""

    reason = "PAYMENT_NOT_SUCCEEDED"

    def __init__(self, *, payment_id: str, status: str) -> None:
        super().__init__(f"payment {payment_id} is {status}")
        self.payment_id = payment_id
        self.status = status


class RefundExceedsPayment(Refusal):
    """The refund is more than what is left of the payment, in minor units."""

    reason = "REFUND_EXCEEDS_PAYMENT"

    def __init__(
        self, *, payment_id: str, currency_code: str, refundable: int, requested: int
    ) -> None:
        super().__init__(f"{requested} is more than the {refundable} left of payment {payment_id}")
        self.payment_id = payment_id
        self.currency_code = currency_code
        self.refundable = refundable
        self.requested = requested


class PaymentNotFound(PaymentError):
    """There is no such payment, or it is another customer's."""

    def __init__(self, *, payment_id: str) -> None:
        super().__init__(f"payment {payment_id} was not found")
        self.payment_id = payment_id


class PaymentMismatch(PaymentError):
    """The payment under the key was made for another order."""

    def __init__(self, *, order_id: str, payment_id: str) -> None:
        super().__init__(f"payment {payment_id} is not for order {order_id}")
        self.order_id = order_id
        self.payment_id = payment_id


class PaymentTicketInvalid(PaymentError):
    """The ticket was not issued by the order service, was altered, or is somebody else's."""

    def __init__(self) -> None:
        super().__init__("the payment ticket is not valid for this caller")
