"""Every RPC, what it is asked for, and what each kind of caller gets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tests.builders import money, new_key, new_order_items
from tests.checkout import Checkout
from tests.client import ALICE, BOB, OPERATIONS, ORDER_SERVICE, SHOP, Caller
from tests.system.stages import fulfilled

OK: Final = "OK"
# Answered, with nothing of somebody else's in it.
NOTHING: Final = "nothing of it"
DENIED: Final = "ROLE_NOT_ALLOWED"
NO_ORDER: Final = "ORDER_NOT_FOUND"
NO_PAYMENT: Final = "PAYMENT_NOT_FOUND"
NO_TICKET: Final = "PAYMENT_TICKET_INVALID"

# Everything that is asked for is Alice's.
CALLERS: Final[Mapping[str, Caller]] = MappingProxyType(
    {
        "owner": ALICE,
        "other customer": BOB,
        "service": SHOP,
        "operations": OPERATIONS,
        "order service": ORDER_SERVICE,
    }
)

Fields = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """An RPC: the fields of a request for what is Alice's, and what each caller gets.

    `find` says which ids in a response are hers; only lists may leave them out.
    """

    fields: Callable[[Checkout, Caller], Fields]
    gets: Mapping[str, str]
    find: Callable[[Any], set[str]]


def lists_nothing(_response: Any) -> set[str]:
    """Find nothing: the RPC lists nothing."""
    return set()


def _row(
    fields: Callable[[Checkout, Caller], Fields],
    *gets: str,
    find: Callable[[Any], set[str]] = lists_nothing,
) -> Row:
    return Row(fields, MappingProxyType(dict(zip(CALLERS, gets, strict=True))), find)


def _new_order(_checkout: Checkout, caller: Caller) -> Fields:
    # A customer's order is their own; anybody else says whose it is.
    whose = {} if caller.role == "customer" else {"customer_id": ALICE.id}
    return {"items": new_order_items(), **whose}


def _order(checkout: Checkout, _caller: Caller) -> Fields:
    return {"order_id": checkout.place().id}


def _paid_order(checkout: Checkout, _caller: Caller) -> Fields:
    return {"order_id": checkout.paid().id}


def _fulfilled_order(checkout: Checkout, _caller: Caller) -> Fields:
    return {"order_id": fulfilled(checkout).id}


def _token(checkout: Checkout, caller: Caller) -> Fields:
    return {**_order(checkout, caller), "payment_token": "tok_visa"}


def _transaction(checkout: Checkout, _caller: Caller) -> Fields:
    order = checkout.place()
    return {"order_id": order.id, "transaction_id": checkout.process(order).id}


def _ticket(checkout: Checkout, _caller: Caller) -> Fields:
    return {"payment_ticket": checkout.place().payment_ticket, "payment_token": "tok_visa"}


def _payment(checkout: Checkout, _caller: Caller) -> Fields:
    return {"payment_id": checkout.process(checkout.place()).id}


def _refund(checkout: Checkout, caller: Caller) -> Fields:
    return {**_payment(checkout, caller), "amount": money(1000)}


def _payments_of_an_order(checkout: Checkout, _caller: Caller) -> Fields:
    return {"order_id": checkout.process(checkout.place()).order_id}


def _operation(checkout: Checkout, caller: Caller) -> Fields:
    return {**_order(checkout, caller), "payment_idempotency_key": new_key()}


def _nothing(_checkout: Checkout, _caller: Caller) -> Fields:
    return {}


def _orders_in(response: Any) -> set[str]:
    return {order.id for order in response.orders}


def _payments_in(response: Any) -> set[str]:
    return {payment.order_id for payment in response.payments}


# In the order of CALLERS: owner, other customer, service, operations, order service.
ROWS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "CreateOrder": _row(_new_order, OK, OK, OK, DENIED, DENIED),
        "GetOrder": _row(_order, OK, NO_ORDER, OK, OK, DENIED),
        "ListOrders": _row(_nothing, OK, NOTHING, OK, OK, DENIED, find=_orders_in),
        "PayOrder": _row(_token, OK, NO_ORDER, OK, DENIED, DENIED),
        "MarkOrderPaid": _row(_transaction, OK, NO_ORDER, OK, OK, DENIED),
        "CancelOrder": _row(_order, OK, NO_ORDER, OK, OK, DENIED),
        "FulfillOrder": _row(_paid_order, DENIED, DENIED, OK, OK, DENIED),
        "RefundOrder": _row(_paid_order, DENIED, DENIED, DENIED, OK, DENIED),
        "ArchiveOrder": _row(_fulfilled_order, DENIED, DENIED, OK, OK, DENIED),
        "ListOrderAuditEntries": _row(_order, DENIED, DENIED, OK, OK, DENIED),
        "WatchOrderEvents": _row(_nothing, DENIED, DENIED, OK, OK, DENIED),
        "ProcessPayment": _row(_ticket, OK, NO_TICKET, OK, DENIED, OK),
        "GetPayment": _row(_payment, OK, NO_PAYMENT, OK, OK, OK),
        "ListPayments": _row(_payments_of_an_order, OK, NOTHING, OK, OK, OK, find=_payments_in),
        "RefundPayment": _row(_refund, DENIED, DENIED, DENIED, DENIED, OK),
        "ResolvePayment": _row(_operation, DENIED, DENIED, DENIED, DENIED, OK),
        "SealOrder": _row(_order, DENIED, DENIED, DENIED, DENIED, OK),
        "ListPaymentAuditEntries": _row(_order, DENIED, DENIED, DENIED, OK, OK),
    }
)
