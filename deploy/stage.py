"""What the demo's story is told with: both services, the gateway's ledger, and expectations."""

import json
import secrets
import sqlite3
import time
from contextlib import closing
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
from google.protobuf.message import Message

from checkout.money.v1 import money_pb2
from checkout.order.v1 import order_pb2, order_service_pb2, order_service_pb2_grpc
from checkout.payment.v1 import payment_pb2, payment_service_pb2_grpc
from deploy.client import Answer, Caller, Refused, call
from deploy.processes import Pair, ServiceProcess
from deploy.screen import Screen

ALICE: Final = Caller("customer", "alice")
BOB: Final = Caller("customer", "bob")
NOBODY: Final = Caller("", "")
OLGA: Final = Caller("operations", "olga")

# What a call leaves behind that dies is waited for as long as its caller would have waited.
_SHORT_SECONDS: Final = 2.5
_POLL_SECONDS: Final = 0.01

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


class Unexpected(Exception):
    """Something is not as it should be."""

    def __init__(self, *, fact: str, expected: object, came: object) -> None:
        super().__init__(f"{fact}: expected {expected}, came {came}")
        self.fact = fact
        self.expected = expected
        self.came = came


class Stage:
    """Calls the services, shows what they answer, and insists on what it should be."""

    def __init__(self, pair: Pair, screen: Screen) -> None:
        self.pair = pair
        self.screen = screen
        self._channels = [pair.connections.channel(process.address) for process in pair.processes]
        self.orders = order_service_pb2_grpc.OrderServiceStub(self._channels[0])
        self.payments = payment_service_pb2_grpc.PaymentServiceStub(self._channels[1])

    def __enter__(self) -> Self:
        """Nothing to do: channels connect when they are used."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the channels."""
        for channel in self._channels:
            channel.close()

    def expect(self, fact: str, expected: object, came: object) -> None:
        """Show that a fact holds. Raises Unexpected if it does not."""
        _require(fact, expected, came)
        self.screen.kept(fact)

    def call(
        self, rpc: "grpc.UnaryUnaryMultiCallable[Q, R]", request: Q, caller: Caller = ALICE
    ) -> Answer[R]:
        """Call and return the answer. Raises Unexpected if the call is refused."""
        try:
            return call(rpc, request, self.pair.connections.metadata(caller))
        except Refused as refused:
            fact = f"{method_of(request)} is answered"
            raise Unexpected(fact=fact, expected="OK", came=refused) from None

    def refused(
        self, rpc: "grpc.UnaryUnaryMultiCallable[Q, R]", request: Q, caller: Caller = ALICE
    ) -> Refused:
        """Call and return the refusal. Raises Unexpected if the call is answered."""
        try:
            call(rpc, request, self.pair.connections.metadata(caller))
        except Refused as refused:
            self.screen.refused(method_of(request), refused.code.name, refused.reason)
            return refused
        fact = f"{method_of(request)} is refused"
        raise Unexpected(fact=fact, expected="a refusal", came="OK")

    def crash_during(
        self, request: order_service_pb2.PayOrderRequest, order: order_pb2.Order
    ) -> None:
        """Kill both services while PayOrder waits for the gateway, and start them again.

        Raises Unexpected if the call is answered all the same.
        """
        under_way = self.orders.PayOrder.future(
            request,
            metadata=self.pair.connections.metadata(ALICE),
            timeout=_SHORT_SECONDS,
        )
        while not self.taken(order) and not under_way.done():
            time.sleep(_POLL_SECONDS)
        for process in self.pair.processes:
            process.kill()
        error = under_way.exception()
        if not isinstance(error, grpc.RpcError):
            raise Unexpected(fact="PayOrder is cut off", expected="no answer", came=error or "OK")
        refused = Refused(error)
        self.screen.refused(method_of(request), refused.code.name, "no answer")
        self.pair.start()

    def place(self, *items: order_service_pb2.NewOrderItem) -> order_pb2.Order:
        """Place an order and show it."""
        request = order_service_pb2.CreateOrderRequest(idempotency_key=new_key(), items=items)
        order = self.call(self.orders.CreateOrder, request).message.order
        self.show("CreateOrder", order, "created")
        return order

    def read(self, order: order_pb2.Order) -> order_pb2.Order:
        """Read an order as it stands now."""
        request = order_service_pb2.GetOrderRequest(order_id=order.id)
        return self.call(self.orders.GetOrder, request).message.order

    def show(self, method: str, thing: order_pb2.Order | payment_pb2.Payment, status: str) -> None:
        """Show how a call left an order or a payment. Raises Unexpected for another status."""
        _require(f"{method} leaves it {status}", status, status_of(thing))
        self.screen.answered(method, f"{thing.id}  {status}")

    def was_logged(self, process: ServiceProcess, method: str, trace_id: str) -> bool:
        """Say whether a service logged a call of the method in the trace."""
        lines = (json.loads(line) for line in process.log().splitlines() if line.startswith("{"))
        return any(
            line.get("trace_id") == trace_id and line.get("method", "").endswith(f"/{method}")
            for line in lines
        )

    def taken(self, order: order_pb2.Order) -> list[int]:
        """Read the gateway's own ledger: every amount it charged for the order."""
        return self._booked(
            "SELECT amount_minor FROM charges WHERE decline_code = '' AND order_id = ?", order
        )

    def given_back(self, order: order_pb2.Order) -> list[int]:
        """Read the gateway's own ledger: every amount it gave back for the order."""
        return self._booked(
            "SELECT refunds.amount_minor FROM refunds JOIN charges"
            " ON refunds.charge_reference = charges.reference"
            " WHERE refunds.decline_code = '' AND charges.order_id = ?",
            order,
        )

    def _booked(self, statement: str, order: order_pb2.Order) -> list[int]:
        with closing(sqlite3.connect(self.pair.ledger)) as ledger:
            return [minor_units for (minor_units,) in ledger.execute(statement, (order.id,))]


def _require(fact: str, expected: object, came: object) -> None:
    if came != expected:
        raise Unexpected(fact=fact, expected=expected, came=came)


def new_key() -> str:
    """Make an idempotency key: one per thing that somebody wants done."""
    return f"demo-{secrets.token_hex(8)}x"


def euro(minor_units: int) -> money_pb2.Money:
    """Build an amount."""
    return money_pb2.Money(currency_code="EUR", minor_units=minor_units)


def status_of(thing: order_pb2.Order | payment_pb2.Payment) -> str:
    """Name the status as people do."""
    if isinstance(thing, order_pb2.Order):
        name, prefix = order_pb2.OrderStatus.Name(thing.status), "ORDER_STATUS_"
    else:
        name, prefix = payment_pb2.PaymentStatus.Name(thing.status), "PAYMENT_STATUS_"
    return name.removeprefix(prefix).lower()


def method_of(request: Message) -> str:
    """Name the method that takes the request."""
    return request.DESCRIPTOR.name.removesuffix("Request")
