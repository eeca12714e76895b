"""How each error reason is provoked, over the wire and for real.

Each function brings a checkout to the point and makes the call that is refused. Some make the
PostgreSQL behind it fail and one stops the payment service: they need a checkout of their own.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, Final

import grpc
import sqlalchemy as sa

from checkout.order.v1 import order_pb2
from service_kit.database import Database
from tests.builders import money, new_key
from tests.checkout import Checkout
from tests.client import ALICE, SHOP, Caller
from tests.system.simultaneously import wait_until

Provocation = Callable[[Checkout], object]

CARD_NUMBER: Final = "4242 4242 4242 4242"


def a_field_out_of_its_limit(checkout: Checkout) -> object:
    return checkout.orders().GetOrder(order_id="no such id!")


def a_card_number(checkout: Checkout) -> object:
    return checkout.orders().PayOrder(order_id="ord_1", payment_token=CARD_NUMBER)


def a_page_token_of_nobody(checkout: Checkout) -> object:
    return checkout.orders().ListOrders(page_token="made-up")


def a_key_for_another_request(checkout: Checkout) -> object:
    key = new_key()
    checkout.place(idempotency_key=key)
    return checkout.orders().CancelOrder(idempotency_key=key, order_id="ord_1")


def a_ticket_of_nobody(checkout: Checkout) -> object:
    return checkout.payments().ProcessPayment(payment_ticket="a.b.c", payment_token="tok_visa")


def no_identity(checkout: Checkout) -> object:
    return checkout.orders(Caller("customer", "")).ListOrders()


def a_role_that_may_not(checkout: Checkout) -> object:
    return checkout.orders(ALICE).RefundOrder(order_id="ord_1")


def an_unknown_order(checkout: Checkout) -> object:
    return checkout.orders().GetOrder(order_id="ord_unknown")


def an_unknown_payment(checkout: Checkout) -> object:
    return checkout.payments().GetPayment(payment_id="pay_unknown")


def an_arrow_that_is_not_there(checkout: Checkout) -> object:
    return checkout.cancel(checkout.paid())


def a_declined_charge(checkout: Checkout) -> object:
    return checkout.pay(checkout.place(), "tok_chargeDeclinedInsufficientFunds")


def a_payment_of_another_order(checkout: Checkout) -> object:
    payment = checkout.process(checkout.place())
    return mark_paid(checkout, checkout.place(), payment.id)


def a_payment_that_failed(checkout: Checkout) -> object:
    order = checkout.place()
    return mark_paid(checkout, order, checkout.process(order, "tok_chargeDeclined").id)


def a_declined_refund(checkout: Checkout) -> object:
    return checkout.refund(checkout.paid("tok_refundFail"))


def a_refund_of_too_much(checkout: Checkout) -> object:
    return checkout.refund(checkout.paid(), money(4001))


def a_second_payment_while_one_is_pending(checkout: Checkout) -> object:
    order = checkout.place()
    with contextlib.suppress(grpc.RpcError):
        checkout.pay(order, "tok_timeoutBeforeCharge")
    return checkout.pay(order)


def a_second_refund_while_one_is_pending(checkout: Checkout) -> object:
    order = checkout.paid("tok_refundTimeoutAfter")
    with contextlib.suppress(grpc.RpcError):
        checkout.refund(order, money(1000))
    return checkout.refund(order, money(500))


def the_same_request_while_it_runs(checkout: Checkout) -> object:
    order = checkout.place()
    fields = {"idempotency_key": new_key(), "order_id": order.id, "payment_token": "tok_slow"}
    with ThreadPoolExecutor(1) as other:
        first = other.submit(checkout.orders().PayOrder, **fields)
        wait_until(lambda: checkout.order(order.id).HasField("pending_operation"))
        try:
            return checkout.orders().PayOrder(**fields)
        finally:
            first.result()


def an_etag_of_yesterday(checkout: Checkout) -> object:
    order = checkout.place()
    checkout.pay(order)
    return checkout.orders(SHOP).FulfillOrder(order_id=order.id, etag=order.etag)


def a_gateway_that_does_not_answer(checkout: Checkout) -> object:
    return checkout.pay(checkout.place(), "tok_timeoutAfterCharge")


def a_deadline_that_is_too_short(checkout: Checkout) -> object:
    order = checkout.place()
    return checkout.orders().PayOrder(order_id=order.id, payment_token="tok_visa", timeout=0.9)


def a_payment_service_that_is_stopped(checkout: Checkout) -> object:
    order = checkout.place()
    checkout.stop_payments()
    return mark_paid(checkout, order, "pay_unknown")


def one_stream_too_many(checkout: Checkout) -> object:
    client = checkout.orders(SHOP)
    with contextlib.ExitStack() as watchers:
        for _ in range(checkout.order_settings.threads // 4):
            # The first message says that it is open.
            next(watchers.enter_context(client.stream("WatchOrderEvents")))
        return client.WatchOrderEvents()


def a_customer_that_asks_too_often(checkout: Checkout) -> object:
    client = checkout.orders(ALICE)
    for _ in range(checkout.order_settings.customer_burst):
        client.ListOrders()
    return client.ListOrders()


def a_server_that_stops(checkout: Checkout) -> object:
    with checkout.orders(SHOP).stream("WatchOrderEvents") as events, ThreadPoolExecutor(1) as other:
        next(events)
        stopping = other.submit(checkout.order_server.stop)
        try:
            return list(events)
        finally:
            stopping.result()


def rows_that_keep_changing(checkout: Checkout) -> object:
    with refusing_inserts(checkout.order_database, "orders", sqlstate="40001"):
        return checkout.place()


def a_database_that_is_full(checkout: Checkout) -> object:
    with refusing_inserts(checkout.order_database, "orders", sqlstate="53100"):
        return checkout.place()


def a_bug(checkout: Checkout) -> object:
    with refusing_inserts(checkout.order_database, "orders", sqlstate="P0001"):
        return checkout.place()


def mark_paid(checkout: Checkout, order: order_pb2.Order, transaction_id: str) -> object:
    return checkout.orders().MarkOrderPaid(order_id=order.id, transaction_id=transaction_id)


@contextlib.contextmanager
def refusing_inserts(database: Database, table: str, *, sqlstate: str) -> Iterator[None]:
    """Have PostgreSQL fail every insert with this SQLSTATE."""
    with database.engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN RAISE SQLSTATE '{sqlstate}'; END $$"
            )
        )
        connection.execute(
            sa.text(
                f"CREATE TRIGGER failing BEFORE INSERT ON {table}"
                " FOR EACH ROW EXECUTE FUNCTION fail()"
            )
        )
    try:
        yield
    finally:
        with database.engine.begin() as connection:
            connection.execute(sa.text("DROP FUNCTION fail CASCADE"))


PROVOCATIONS: Final[Mapping[str, Provocation]] = MappingProxyType(
    {
        "VALIDATION_FAILED": a_field_out_of_its_limit,
        "CARD_DATA_NOT_ACCEPTED": a_card_number,
        "INVALID_PAGE_TOKEN": a_page_token_of_nobody,
        "IDEMPOTENCY_KEY_REUSED": a_key_for_another_request,
        "PAYMENT_TICKET_INVALID": a_ticket_of_nobody,
        "CREDENTIALS_MISSING": no_identity,
        "ROLE_NOT_ALLOWED": a_role_that_may_not,
        "ORDER_NOT_FOUND": an_unknown_order,
        "PAYMENT_NOT_FOUND": an_unknown_payment,
        "INVALID_TRANSITION": an_arrow_that_is_not_there,
        "PAYMENT_DECLINED": a_declined_charge,
        "PAYMENT_MISMATCH": a_payment_of_another_order,
        "PAYMENT_NOT_SUCCEEDED": a_payment_that_failed,
        "REFUND_DECLINED": a_declined_refund,
        "REFUND_EXCEEDS_PAYMENT": a_refund_of_too_much,
        "PAYMENT_IN_PROGRESS": a_second_payment_while_one_is_pending,
        "REFUND_IN_PROGRESS": a_second_refund_while_one_is_pending,
        "REQUEST_IN_PROGRESS": the_same_request_while_it_runs,
        "CONCURRENT_UPDATE": rows_that_keep_changing,
        "ETAG_MISMATCH": an_etag_of_yesterday,
        "PAYMENT_OUTCOME_UNKNOWN": a_gateway_that_does_not_answer,
        "PAYMENT_SERVICE_UNAVAILABLE": a_payment_service_that_is_stopped,
        "STORAGE_UNAVAILABLE": a_database_that_is_full,
        "DEADLINE_TOO_SHORT": a_deadline_that_is_too_short,
        "OVERLOADED": one_stream_too_many,
        "SERVER_DRAINING": a_server_that_stops,
        "RATE_LIMITED": a_customer_that_asks_too_often,
        "INTERNAL": a_bug,
    }
)

NEED_THEIR_OWN_POSTGRESQL: Final = frozenset(
    {"CONCURRENT_UPDATE", "STORAGE_UNAVAILABLE", "INTERNAL"}
)
# With the settings that these have then.
NEED_THEIR_OWN_SERVICES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "PAYMENT_SERVICE_UNAVAILABLE": {},
        "SERVER_DRAINING": {},
        "RATE_LIMITED": {"customer_rate": 0.5, "customer_burst": 1},
    }
)
