"""Both services in this process, on real sockets, over real databases."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc

import order_service.bootstrap
import order_service.config
import payment_service.bootstrap
import payment_service.config
from checkout.order.v1 import order_pb2, order_service_pb2, order_service_pb2_grpc
from checkout.payment.v1 import payment_pb2, payment_service_pb2, payment_service_pb2_grpc
from service_kit.database import Database
from service_kit.migrations import upgrade
from service_kit.server import Server
from tests.builders import new_key, new_order_items
from tests.clock import MovableClock

SECRET = "a secret of the tests, 32 characters or more"

Metadata = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Caller:
    """Who calls, as the metadata of a call."""

    role: str
    id: str
    extra: Metadata = ()

    def metadata(self) -> list[tuple[str, str]]:
        """Return the metadata of a call by this caller."""
        return [("x-actor-role", self.role), ("x-actor-id", self.id), *self.extra]

    def with_metadata(self, *pairs: tuple[str, str]) -> "Caller":
        """Return the caller with more metadata."""
        return replace(self, extra=(*self.extra, *pairs))


ALICE = Caller("customer", "alice")
BOB = Caller("customer", "bob")
SHOP = Caller("service", "shop-backend")
OPERATIONS = Caller("operations", "olga")
ORDER_SERVICE = Caller("order_service", "order-service")


@dataclass(frozen=True)
class Answer:
    """A response with the metadata that came with it."""

    message: Any
    initial: dict[str, Any]
    trailers: dict[str, Any]

    @property
    def replayed(self) -> bool:
        """Say whether it is a stored reply."""
        return self.trailers.get("idempotency-replayed") == "true"


class Client:
    """A stub that calls as somebody: `client.PayOrder(request)`, or `.answer("PayOrder", …)`."""

    def __init__(self, stub: Any, caller: Caller) -> None:
        self._stub = stub
        self._caller = caller

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(request: Any, *, timeout: float | None = 20) -> Any:
            return self.answer(method, request, timeout=timeout).message

        return call

    def answer(self, method: str, request: Any, *, timeout: float | None = 20) -> Answer:
        """Call the method and return the response with its metadata."""
        rpc = getattr(self._stub, method)
        message, call = rpc.with_call(request, metadata=self._caller.metadata(), timeout=timeout)
        return Answer(message, dict(call.initial_metadata()), dict(call.trailing_metadata()))


@dataclass
class Checkout:
    """Both services, running, and the ways to call them and to look inside."""

    order_server: Server
    payment_server: Server
    order_database: Database
    payment_database: Database
    clock: MovableClock
    ledger: Path
    channels: list[grpc.Channel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channels = [
            grpc.insecure_channel(self.order_server.address),
            grpc.insecure_channel(self.payment_server.address),
        ]
        self._orders = order_service_pb2_grpc.OrderServiceStub(self.channels[0])
        self._payments = payment_service_pb2_grpc.PaymentServiceStub(self.channels[1])

    def orders(self, caller: Caller = ALICE) -> Client:
        """Return a client of the order service."""
        return Client(self._orders, caller)

    def payments(self, caller: Caller = ALICE) -> Client:
        """Return a client of the payment service."""
        return Client(self._payments, caller)

    def place(self, caller: Caller = ALICE, **fields: Any) -> order_pb2.Order:
        """Place an order and return it."""
        fields.setdefault("items", new_order_items())
        fields.setdefault("idempotency_key", new_key())
        request = order_service_pb2.CreateOrderRequest(**fields)
        order: order_pb2.Order = self.orders(caller).CreateOrder(request).order
        return order

    def order(self, order_id: str) -> order_pb2.Order:
        """Read an order."""
        request = order_service_pb2.GetOrderRequest(order_id=order_id)
        order: order_pb2.Order = self.orders(OPERATIONS).GetOrder(request).order
        return order

    def process(
        self, order: order_pb2.Order, token: str = "tok_visa", caller: Caller = ALICE
    ) -> payment_pb2.Payment:
        """Pay an order's ticket at the payment service and return the payment."""
        request = payment_service_pb2.ProcessPaymentRequest(
            idempotency_key=new_key(), payment_ticket=order.payment_ticket, payment_token=token
        )
        payment: payment_pb2.Payment = self.payments(caller).ProcessPayment(request).payment
        return payment

    def pay(
        self, order: order_pb2.Order, token: str = "tok_visa", caller: Caller = ALICE
    ) -> order_pb2.Order:
        """Pay an order in one call and return it."""
        request = order_service_pb2.PayOrderRequest(
            idempotency_key=new_key(), order_id=order.id, payment_token=token
        )
        paid: order_pb2.Order = self.orders(caller).PayOrder(request).order
        return paid

    def history(self, order_id: str = "") -> list[Any]:
        """Read the order history, of one order or of all."""
        request = order_service_pb2.ListOrderAuditEntriesRequest(order_id=order_id, page_size=100)
        return list(self.orders(OPERATIONS).ListOrderAuditEntries(request).entries)


@contextmanager
def running_checkout(
    folder: Path,
    *,
    order_url: str = "",
    payment_url: str = "",
    redis_url: str = "",
    migrate: bool = True,
    **settings: Any,
) -> Iterator[Checkout]:
    """Run both services; without URLs on SQLite files in the folder.

    `settings` go to both, those that begin with `order_` or `payment_` to one.
    """
    clock = MovableClock()
    shared = {"data_dir": folder, "secret_key": SECRET, "redis_url": redis_url, "port": 0}
    shared |= {k: v for k, v in settings.items() if not k.startswith(("order_", "payment_"))}
    payment_settings = payment_service.config.Settings(
        **shared, database_url=payment_url, **_own(settings, "payment_")
    )
    if migrate:
        upgrade(payment_settings.effective_database_url(), payment_service.bootstrap.MIGRATIONS)
    payment_server = payment_service.bootstrap.build(payment_settings, clock=clock)
    payment_server.start()
    order_settings = order_service.config.Settings(
        **shared,
        database_url=order_url,
        payment_target=payment_server.address,
        **_own(settings, "order_"),
    )
    if migrate:
        upgrade(order_settings.effective_database_url(), order_service.bootstrap.MIGRATIONS)
    order_server = order_service.bootstrap.build(order_settings, clock=clock)
    order_server.start()
    checkout = Checkout(
        order_server=order_server,
        payment_server=payment_server,
        order_database=Database(order_settings.effective_database_url()),
        payment_database=Database(payment_settings.effective_database_url()),
        clock=clock,
        ledger=folder / "gateway.db",
    )
    try:
        yield checkout
    finally:
        for channel in checkout.channels:
            channel.close()
        order_server.stop()
        payment_server.stop()
        checkout.order_database.close()
        checkout.payment_database.close()


def _own(settings: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}


def new_secret() -> str:
    """Make another secret."""
    return secrets.token_hex(32)
