"""Payment tickets: what an order costs, signed, for the payment service to charge.

A JSON Web Token (RFC 7519, HS256) without a time in it: the same order always has the same
ticket, so replies that carry it stay the same byte for byte.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import jwt

from order_service.domain.order import Order

ISSUER: Final = "order-service"
AUDIENCE: Final = "payment-service"
KEY_PURPOSE: Final = "payment-ticket"


class _Unescaped(json.JSONEncoder):
    """Writes every character as itself: escaped, a long name might not fit into the ticket."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "ensure_ascii": False})


def ticket_signer(key: bytes) -> Callable[[Order], str]:
    """Return the function that signs an order's ticket with the key."""

    def sign(order: Order) -> str:
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "order_id": order.id,
            "customer_id": order.customer_id,
            "currency_code": order.total.currency_code,
            "minor_units": order.total.minor_units,
        }
        return jwt.encode(claims, key, algorithm="HS256", json_encoder=_Unescaped)

    return sign
