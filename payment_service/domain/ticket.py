"""What a payment ticket states: which order to charge for, whose it is, and how much."""

from dataclasses import dataclass

from payment_service.domain.money import Money


@dataclass(frozen=True)
class PaymentTicket:
    """The claims of a ticket whose signature is the order service's."""

    order_id: str
    customer_id: str
    amount: Money
