"""Requests with everything filled in; a test names what matters to it."""

import secrets
from typing import Any, Final

from google.protobuf.message import Message

from checkout.money.v1 import money_pb2
from checkout.order.v1 import order_service_pb2
from checkout.payment.v1 import payment_service_pb2
from service_kit.audit.chain import ChainKey

CHAIN_KEY: Final = ChainKey(b"a key of the tests, of 32 bytes..")


def new_key() -> str:
    """Make an idempotency key that nobody has used."""
    # The letter at the end keeps digits alone from passing for a card number.
    return f"key-{secrets.token_hex(8)}x"


def new_trace_id() -> str:
    """Make a trace id that nobody has used."""
    return secrets.token_hex(16)


def money(minor_units: int, currency_code: str = "EUR") -> money_pb2.Money:
    """Build an amount."""
    return money_pb2.Money(currency_code=currency_code, minor_units=minor_units)


def new_order_item(**fields: Any) -> order_service_pb2.NewOrderItem:
    """Build one line of a new order."""
    given = {"sku": "MUG-1", "name": "Mug", "quantity": 2, "unit_price": money(1250)}
    return order_service_pb2.NewOrderItem(**{**given, **fields})


def new_order_items(total: int = 4000) -> list[order_service_pb2.NewOrderItem]:
    """Build the two lines of an order of `total` minor units."""
    return [
        new_order_item(quantity=1, unit_price=money(total - 1500)),
        new_order_item(sku="TEE-M", name="T-shirt, M", quantity=2, unit_price=money(750)),
    ]


def request_type(rpc: str) -> type[Message]:
    """Return the class of an RPC's requests; names are unique across the two services."""
    name = f"{rpc}Request"
    found: type[Message] = getattr(order_service_pb2, name, None) or getattr(
        payment_service_pb2, name
    )
    return found


def new_request(rpc: str, **fields: Any) -> Any:
    """Build a request, with a new key unless one is given or the RPC takes none."""
    kind = request_type(rpc)
    if "idempotency_key" in kind.DESCRIPTOR.fields_by_name:
        fields.setdefault("idempotency_key", new_key())
    return kind(**fields)
