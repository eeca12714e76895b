"""Payment tickets: what an order costs, signed by the order service, for us to charge.

A JSON Web Token (RFC 7519, HS256) without a time in it. What ends a ticket is the order's seal.
"""

from typing import Any, Final

import jwt

from payment_service.domain.errors import PaymentTicketInvalid
from payment_service.domain.money import Money
from payment_service.domain.ticket import PaymentTicket

ISSUER: Final = "order-service"
AUDIENCE: Final = "payment-service"
KEY_PURPOSE: Final = "payment-ticket"

_CLAIMS: Final = {"iss", "aud", "order_id", "customer_id", "currency_code", "minor_units"}


class TicketReader:
    """Reads tickets whose signature is right."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def read(self, ticket: str) -> PaymentTicket:
        """Return what the ticket states. Raises PaymentTicketInvalid."""
        try:
            # One algorithm, named here: the ticket's own header is not believed.
            claims: dict[str, Any] = jwt.decode(
                ticket, self._key, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER
            )
        except jwt.InvalidTokenError:
            raise PaymentTicketInvalid from None
        # A statement that says more or less than we read was not made for us to charge.
        if set(claims) != _CLAIMS:
            raise PaymentTicketInvalid
        return PaymentTicket(
            order_id=claims["order_id"],
            customer_id=claims["customer_id"],
            amount=Money(claims["currency_code"], claims["minor_units"]),
        )
