"""What is sent in each case, to a gRPC service and to the REST peer, and what it leaves behind."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from google.protobuf.message import Message

from bench.bulk import (
    CUSTOMER,
    OF_THE_REST_PEER,
    OF_THE_SERVICES,
    PAGE_SIZE,
    SHARE,
    fill,
    token_of_page,
)
from bench.load import GRPC, Load
from bench.subjects import Subject, count_rows, send
from checkout.money.v1.money_pb2 import Money
from checkout.order.v1 import order_pb2
from checkout.order.v1 import order_service_pb2 as pb
from checkout.payment.v1 import payment_pb2
from checkout.payment.v1 import payment_service_pb2 as payment_pb
from service_kit.ids import new_id

_ORDERS: Final = "/checkout.order.v1.OrderService/"
_PAYMENTS: Final = "/checkout.payment.v1.PaymentService/"
_ORDER_REPLIES: Final = "checkout.order.v1.order_service_pb2:"
_PAYMENT_REPLIES: Final = "checkout.payment.v1.payment_service_pb2:"
# A backend: a customer may not call as often.
HEADERS: Final = (("x-actor-role", "service"), ("x-actor-id", "shop-backend"))
DEEP_PAGE: Final = 1_000
VISA: Final = "tok_visa"
# Which the simulated gateway answers as late as its settings say.
SLOW: Final = "tok_slow"
_STOCK_CONCURRENCY: Final = 16
_ITEMS: Final = (("MUG-1", "Mug", 2, 1250), ("TEA-7", "Tea, loose, 100 g", 1, 890))


# How many rows a call leaves, by database and table.
Rows = Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class Placed:
    """An order to be read or paid: its id and its ticket, and the payment if there is one."""

    order_id: str
    ticket: str = ""
    payment_id: str = ""


class Workload:
    """A kind of call. `rows` says how many rows one leaves in which table of which database."""

    rows: ClassVar[Rows] = {}
    # What is needed beforehand: an order for each call, or a payment of one, or many pages of them.
    needs = ""
    # So many calls may use one order.
    shares_orders = False

    def load(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        """Make the calls, each with a key of its own. Concurrency and warm-up are set later."""
        return (
            self._grpc(subject, stock, calls)
            if subject.protocol == GRPC
            else self._http(subject, stock, calls)
        )

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        raise NotImplementedError

    def _http(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        raise NotImplementedError


class CreateOrder(Workload):
    """Places an order of two items."""

    rows: ClassVar[Rows] = {
        ("orders", "orders"): 1,
        ("orders", "order_items"): len(_ITEMS),
    }

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        items = [
            pb.NewOrderItem(
                sku=sku,
                name=name,
                quantity=quantity,
                unit_price=Money(currency_code="EUR", minor_units=price),
            )
            for sku, name, quantity, price in _ITEMS
        ]
        return _order_load(
            subject,
            "CreateOrder",
            [
                pb.CreateOrderRequest(
                    idempotency_key=new_id("key-"), customer_id=CUSTOMER, items=items
                )
                for _ in range(calls)
            ],
            {"order.status": order_pb2.ORDER_STATUS_CREATED},
        )

    def _http(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        items = [
            {"sku": sku, "name": name, "quantity": quantity, "unit_price": price}
            for sku, name, quantity, price in _ITEMS
        ]
        order = {"customer_id": CUSTOMER, "currency": "EUR", "items": items}
        bodies = [{"idempotency_key": new_id("key-"), **order} for _ in range(calls)]
        return _http_load(subject, "POST /orders", bodies, {"status": "created"})


class GetOrder(Workload):
    """Reads an order, each time another one."""

    needs = "order"
    shares_orders = True

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        return _order_load(
            subject,
            "GetOrder",
            [pb.GetOrderRequest(order_id=_of(stock, number).order_id) for number in range(calls)],
            {"order.status": order_pb2.ORDER_STATUS_CREATED},
        )

    def _http(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        paths = [f"/{_of(stock, number).order_id}" for number in range(calls)]
        return _http_load(
            subject, "GET /orders", [None] * calls, {"status": "created"}, paths=paths
        )


class ListOrders(Workload):
    """Reads a customer's newest twenty orders."""

    needs = "order"
    shares_orders = True

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        return self._pages(subject, calls)

    def _pages(self, subject: Subject, calls: int, token: str = "") -> Load:
        request = pb.ListOrdersRequest(customer_id=CUSTOMER, page_size=PAGE_SIZE, page_token=token)
        expected = {"orders.19.customer_id": CUSTOMER}
        return _order_load(subject, "ListOrders", [request] * calls, expected)

    def _http(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        return self._http_pages(subject, calls, 1)

    def _http_pages(self, subject: Subject, calls: int, page: int) -> Load:
        path = f"GET /orders?customer_id={CUSTOMER}&page_size={PAGE_SIZE}&page={page}"
        expected = {"orders.19.customer_id": CUSTOMER}
        return _http_load(subject, path, [None] * calls, expected)


class DeepPage(ListOrders):
    """Reads the customer's thousandth page of twenty orders."""

    needs = "pages"

    def __init__(self) -> None:
        self._tokens: dict[str, str] = {}

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        token = self._tokens.get(subject.address)
        if token is None:
            token = self._tokens[subject.address] = token_of_page(subject.address, DEEP_PAGE)
        return self._pages(subject, calls, token)

    def _http(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        return self._http_pages(subject, calls, DEEP_PAGE)


class ProcessPayment(Workload):
    """Charges an order's ticket at the payment service."""

    needs = "order"
    rows: ClassVar[Rows] = {
        ("payments", "payments"): 1,
        ("payments", "payment_audit_entries"): 2,
    }

    def __init__(self, token: str = VISA) -> None:
        self._token = token

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        return _grpc_load(
            subject.payment_address,
            f"{_PAYMENTS}ProcessPayment",
            [
                payment_pb.ProcessPaymentRequest(
                    idempotency_key=new_id("key-"),
                    payment_ticket=_of(stock, number).ticket,
                    payment_token=self._token,
                )
                for number in range(calls)
            ],
            f"{_PAYMENT_REPLIES}ProcessPaymentResponse",
            {"payment.status": payment_pb2.PAYMENT_STATUS_SUCCEEDED},
        )


class PayOrder(Workload):
    """Charges an order's total and marks it paid, through both services."""

    needs = "order"
    rows: ClassVar[Rows] = {
        ("orders", "payment_operations"): 1,
        ("payments", "payments"): 1,
    }

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        return _order_load(
            subject,
            "PayOrder",
            [
                pb.PayOrderRequest(
                    idempotency_key=new_id("key-"),
                    order_id=_of(stock, number).order_id,
                    payment_token=VISA,
                )
                for number in range(calls)
            ],
            {"order.status": order_pb2.ORDER_STATUS_PAID},
        )


class MarkOrderPaid(Workload):
    """Marks an order paid by a payment that was made directly."""

    needs = "payment"

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        return _order_load(
            subject,
            "MarkOrderPaid",
            [
                pb.MarkOrderPaidRequest(
                    idempotency_key=new_id("key-"),
                    order_id=_of(stock, number).order_id,
                    transaction_id=_of(stock, number).payment_id,
                )
                for number in range(calls)
            ],
            {"order.status": order_pb2.ORDER_STATUS_PAID},
        )

    def _http(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        bodies = [{"transaction_id": _of(stock, number).payment_id} for number in range(calls)]
        paths = [f"/{_of(stock, number).order_id}/pay" for number in range(calls)]
        return _http_load(subject, "PATCH /orders", bodies, {"status": "paid"}, paths=paths)


class Replay(CreateOrder):
    """Sends one request again and again: everything but the first is answered from memory."""

    rows: ClassVar[Rows] = {}

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        load = super()._grpc(subject, stock, 1)
        return replace(load, bodies=[load.bodies[0]] * calls, warm_up=1)

    def _http(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        load = super()._http(subject, stock, 1)
        return replace(load, bodies=[load.bodies[0]] * calls, warm_up=1)


class Refused(Workload):
    """Asks for a change that the order's status does not allow, which is recorded too."""

    needs = "order"
    shares_orders = True
    rows: ClassVar[Rows] = {("orders", "order_audit_entries"): 1}

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        load = _order_load(
            subject,
            "FulfillOrder",
            [
                pb.FulfillOrderRequest(
                    idempotency_key=new_id("key-"), order_id=_of(stock, number).order_id
                )
                for number in range(calls)
            ],
            {},
        )
        return replace(load, code="FAILED_PRECONDITION", headers=_OPERATIONS)


class Nothing(Workload):
    """Asks for nothing."""

    def _grpc(self, subject: Subject, stock: Sequence[Placed], calls: int) -> Load:
        request = pb.GetOrderRequest(order_id=new_id("ord_"))
        return _order_load(subject, "GetOrder", [request] * calls, {})


_OPERATIONS: Final = (("x-actor-role", "operations"), ("x-actor-id", "olga"))


def place(subject: Subject, count: int) -> list[Placed]:
    """Have a subject hold so many more orders."""
    load = replace(CreateOrder().load(subject, [], count), concurrency=_STOCK_CONCURRENCY)
    if subject.protocol == GRPC:
        wanted = ["order.id", "order.payment_ticket"]
        return [Placed(*values) for values in send(replace(load, collect=wanted))[0].collected]
    return [Placed(*values) for values in send(replace(load, collect=["id"]))[0].collected]


def pay_directly(subject: Subject, placed: Sequence[Placed]) -> list[Placed]:
    """Pay orders without the order service."""
    if subject.protocol == GRPC:
        load, field_ = ProcessPayment().load(subject, placed, len(placed)), "payment.id"
    else:
        bodies = [
            {
                "idempotency_key": new_id("key-"),
                "order_id": order.order_id,
                "payment_token": VISA,
            }
            for order in placed
        ]
        load, field_ = _http_load(subject, "POST /pay", bodies, {"status": "succeeded"}), "id"
    paid = send(replace(load, concurrency=_STOCK_CONCURRENCY, collect=[field_]))[0].collected
    return [
        Placed(order.order_id, order.ticket, payment_id)
        for order, [payment_id] in zip(placed, paid, strict=True)
    ]


def stock_for(workload: Workload, subject: Subject, calls: int) -> list[Placed]:
    """Make what calls of a kind need beforehand."""
    if not workload.needs:
        return []
    if workload.needs == "pages":
        _fill_pages(subject)
        return []
    placed = place(subject, min(calls, 200) if workload.shares_orders else calls)
    return pay_directly(subject, placed) if workload.needs == "payment" else placed


def _fill_pages(subject: Subject) -> None:
    """Have so many orders, once, that the deep page is not the last one."""
    wanted = SHARE * PAGE_SIZE * (DEEP_PAGE + 1)
    orders = subject.databases["orders"]
    if count_rows(orders, "orders") < wanted:
        with_ = OF_THE_SERVICES if subject.protocol == GRPC else OF_THE_REST_PEER
        fill(orders, after=0, up_to=wanted, with_=with_)


def _of(stock: Sequence[Placed], number: int) -> Placed:
    return stock[number % len(stock)]


def _order_load(
    subject: Subject, rpc: str, requests: Sequence[Message], expect: Mapping[str, Any]
) -> Load:
    reply = f"{_ORDER_REPLIES}{rpc}Response"
    return _grpc_load(subject.address, f"{_ORDERS}{rpc}", requests, reply, expect)


def _grpc_load(
    target: str, method: str, requests: Sequence[Message], reply: str, expect: Mapping[str, Any]
) -> Load:
    return Load(
        protocol=GRPC,
        target=target,
        method=method,
        bodies=[base64.b64encode(request.SerializeToString()).decode() for request in requests],
        concurrency=1,
        reply=reply,
        expect=expect,
        headers=HEADERS,
    )


def _http_load(
    subject: Subject,
    method: str,
    bodies: Sequence[Any],
    expect: Mapping[str, Any],
    *,
    paths: Sequence[str] = (),
) -> Load:
    return Load(
        protocol=subject.protocol,
        target=subject.address,
        method=method,
        bodies=[
            "" if b is None else base64.b64encode(json.dumps(b).encode()).decode() for b in bodies
        ],
        paths=paths,
        concurrency=1,
        expect=expect,
        headers=HEADERS,
    )
