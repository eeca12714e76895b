"""One call of each RPC that takes an idempotency key."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from checkout.order.v1 import order_pb2
from tests.builders import money, new_key, new_order_item, new_order_items
from tests.checkout import Checkout
from tests.client import ALICE, OPERATIONS, ORDER_SERVICE, SHOP, Answer, Client
from tests.system.stages import fulfilled


@dataclass(frozen=True)
class KeyedCall:
    """A call that can be made again, with the same fields or with others that are as valid."""

    client: Client
    rpc: str
    fields: Mapping[str, Any]
    other_fields: Mapping[str, Any]

    def __call__(self) -> Answer:
        """Make the call."""
        return self.client.answer(self.rpc, **self.fields)

    def with_other_fields(self) -> Answer:
        """Make a call with the same key that asks for something else."""
        return self.client.answer(self.rpc, **{**self.fields, **self.other_fields})


def _of_order(
    rpc: str, order: order_pb2.Order, client: Client, other: dict[str, Any], **fields: Any
) -> KeyedCall:
    return KeyedCall(
        client, rpc, {"idempotency_key": new_key(), "order_id": order.id, **fields}, other
    )


def _create_order(checkout: Checkout) -> KeyedCall:
    fields = {"idempotency_key": new_key(), "items": new_order_items()}
    other = {"items": [new_order_item(quantity=3)]}
    return KeyedCall(checkout.orders(), "CreateOrder", fields, other)


def _pay_order(checkout: Checkout) -> KeyedCall:
    other = {"payment_token": "tok_amex"}
    return _of_order(
        "PayOrder", checkout.place(), checkout.orders(), other, payment_token="tok_visa"
    )


def _mark_order_paid(checkout: Checkout) -> KeyedCall:
    order = checkout.place()
    payment = checkout.process(order)
    other = {"transaction_id": checkout.process(checkout.place()).id}
    return _of_order(
        "MarkOrderPaid", order, checkout.orders(ALICE), other, transaction_id=payment.id
    )


def _cancel_order(checkout: Checkout) -> KeyedCall:
    return _of_order(
        "CancelOrder", checkout.place(), checkout.orders(), {"order_id": checkout.place().id}
    )


def _fulfill_order(checkout: Checkout) -> KeyedCall:
    return _of_order(
        "FulfillOrder", checkout.paid(), checkout.orders(SHOP), {"order_id": checkout.paid().id}
    )


def _refund_order(checkout: Checkout) -> KeyedCall:
    other = {"amount": money(1001)}
    return _of_order(
        "RefundOrder", checkout.paid(), checkout.orders(OPERATIONS), other, amount=money(1000)
    )


def _archive_order(checkout: Checkout) -> KeyedCall:
    other = {"etag": "1"}
    return _of_order("ArchiveOrder", fulfilled(checkout), checkout.orders(SHOP), other)


def _process_payment(checkout: Checkout) -> KeyedCall:
    fields = {
        "idempotency_key": new_key(),
        "payment_ticket": checkout.place().payment_ticket,
        "payment_token": "tok_visa",
    }
    return KeyedCall(
        checkout.payments(), "ProcessPayment", fields, {"payment_token": "tok_mastercard"}
    )


def _refund_payment(checkout: Checkout) -> KeyedCall:
    fields = {
        "idempotency_key": new_key(),
        "payment_id": checkout.process(checkout.place()).id,
        "amount": money(1000),
    }
    client = checkout.payments(ORDER_SERVICE)
    return KeyedCall(client, "RefundPayment", fields, {"amount": money(1001)})


KEYED_CALLS: Final[Mapping[str, Callable[[Checkout], KeyedCall]]] = MappingProxyType(
    {
        "CreateOrder": _create_order,
        "PayOrder": _pay_order,
        "MarkOrderPaid": _mark_order_paid,
        "CancelOrder": _cancel_order,
        "FulfillOrder": _fulfill_order,
        "RefundOrder": _refund_order,
        "ArchiveOrder": _archive_order,
        "ProcessPayment": _process_payment,
        "RefundPayment": _refund_payment,
    }
)
