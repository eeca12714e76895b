"""The limits of every request field, under the names that the contract gives them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from service_kit.validation import Amount, Choice, Identifier, Items, Rule, Text, Whole

UNIT_PRICE_MAX: Final = 10_000_000_000
TOTAL_MAX: Final = 1_000_000_000_000
PAGE_SIZE_DEFAULT: Final = 20
PAGE_SIZE_MAX: Final = 100
# Orders may be long, and gRPC clients read no message over 4 MB unless they are told to.
PAGE_BYTES_MAX: Final = 1024 * 1024

_KEY: Final = Identifier()
_ORDER_ID: Final = Identifier()
_ETAG: Final = Text(0, 64)
_PAGE_SIZE: Final = Whole(0, PAGE_SIZE_MAX)

_BY_MESSAGE: Final[Mapping[str, Mapping[str, Rule]]] = {
    "CreateOrderRequest": {
        "idempotency_key": _KEY,
        "customer_id": Text(0, 256),
        "items": Items(1, 100),
    },
    "NewOrderItem": {
        "sku": Text(1, 256),
        "name": Text(1, 256),
        "quantity": Whole(1, 10_000),
        "unit_price": Amount(0, UNIT_PRICE_MAX),
    },
    "GetOrderRequest": {"order_id": _ORDER_ID},
    "ListOrdersRequest": {
        "page_size": _PAGE_SIZE,
        "page_token": Text(0, 1024),
        "customer_id": Text(0, 256),
        "status": Choice(),
    },
    "PayOrderRequest": {
        "idempotency_key": _KEY,
        "order_id": _ORDER_ID,
        "payment_token": Text(1, 256),
        "etag": _ETAG,
    },
    "MarkOrderPaidRequest": {
        "idempotency_key": _KEY,
        "order_id": _ORDER_ID,
        "transaction_id": Identifier(),
        "etag": _ETAG,
    },
    "CancelOrderRequest": {"idempotency_key": _KEY, "order_id": _ORDER_ID, "etag": _ETAG},
    "FulfillOrderRequest": {"idempotency_key": _KEY, "order_id": _ORDER_ID, "etag": _ETAG},
    "RefundOrderRequest": {
        "idempotency_key": _KEY,
        "order_id": _ORDER_ID,
        "amount": Amount(1, TOTAL_MAX, required=False, maximum_words="what is left of the payment"),
        "etag": _ETAG,
    },
    "ArchiveOrderRequest": {"idempotency_key": _KEY, "order_id": _ORDER_ID, "etag": _ETAG},
    "ListOrderAuditEntriesRequest": {
        "after_sequence": Whole(0),
        "page_size": _PAGE_SIZE,
        "order_id": Identifier(required=False),
    },
    "WatchOrderEventsRequest": {
        "after_sequence": Whole(0),
        "order_id": Identifier(required=False),
    },
}

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        f"checkout.order.v1.{message}.{field}": rule
        for message, fields in _BY_MESSAGE.items()
        for field, rule in fields.items()
    }
)
