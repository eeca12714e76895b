"""The limits of every request field, under the names that the contract gives them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from service_kit.validation import Amount, Choice, Identifier, Rule, Text, Whole

AMOUNT_MAX: Final = 1_000_000_000_000
PAGE_SIZE_DEFAULT: Final = 20
PAGE_SIZE_MAX: Final = 100

_KEY: Final = Identifier()
_ORDER_ID: Final = Identifier()
_PAYMENT_ID: Final = Identifier()
_PAGE_SIZE: Final = Whole(0, PAGE_SIZE_MAX)

_BY_MESSAGE: Final[Mapping[str, Mapping[str, Rule]]] = {
    "ProcessPaymentRequest": {
        "idempotency_key": _KEY,
        "payment_ticket": Text(1, 2048),
        "payment_token": Text(1, 256),
    },
    "GetPaymentRequest": {"payment_id": _PAYMENT_ID},
    "ListPaymentsRequest": {
        "page_size": _PAGE_SIZE,
        "page_token": Text(0, 1024),
        "customer_id": Text(0, 256),
        "status": Choice(),
        "order_id": Identifier(required=False),
    },
    "RefundPaymentRequest": {
        "idempotency_key": _KEY,
        "payment_id": _PAYMENT_ID,
        "amount": Amount(1, AMOUNT_MAX, maximum_words="what is left of the payment"),
    },
    "ResolvePaymentRequest": {"order_id": _ORDER_ID, "payment_idempotency_key": _KEY},
    "SealOrderRequest": {"order_id": _ORDER_ID},
    "ListPaymentAuditEntriesRequest": {
        "after_sequence": Whole(0),
        "page_size": _PAGE_SIZE,
        "order_id": Identifier(required=False),
    },
}

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        f"checkout.payment.v1.{message}.{field}": rule
        for message, fields in _BY_MESSAGE.items()
        for field, rule in fields.items()
    }
)
