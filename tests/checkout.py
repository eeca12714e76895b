"""Both services in this process, on real sockets, over real databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import grpc
import sqlalchemy as sa

import order_service.bootstrap
import order_service.config
import payment_service.bootstrap
import payment_service.config
from checkout.money.v1 import money_pb2
from checkout.order.v1 import order_audit_pb2, order_pb2
from checkout.payment.v1 import payment_audit_pb2, payment_pb2
from order_service.application.watch_order_events import HEARTBEAT_SECONDS
from service_kit.database import Database
from service_kit.migrations import upgrade
from service_kit.secrets import SecretKey
from tests.builders import new_order_items
from tests.client import (
    ALICE,
    OPERATIONS,
    ORDER_SERVICE_NAME,
    PAYMENT_SERVICE_NAME,
    SHOP,
    Caller,
    Client,
)
from tests.clock import MovableClock
from tests.ledger import Ledger
from tests.waiting import eventually

SECRET = "a secret of the tests, 32 characters or more"

# A service that was stopped and started is called again without a wait of seconds.
_FOUND_AGAIN_SOON: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)


class Checkout:
    """Both services, running, and the ways to call them and to look inside."""

    def __init__(
        self,
        *,
        order_settings: order_service.config.Settings,
        payment_settings: payment_service.config.Settings,
        clock: MovableClock,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.clock = clock
        self._heartbeat_seconds = heartbeat_seconds
        self._order_port = order_settings.port
        self.order_settings = order_settings
        self.payment_settings = payment_settings
        self.order_database = Database(order_settings.effective_database_url())
        self.payment_database = Database(payment_settings.effective_database_url())
        self.ledger = Ledger(payment_settings.effective_gateway_ledger())
        self.start_payments()
        self.start_orders()
        self.order_channel = grpc.insecure_channel(self.order_server.address)
        self.payment_channel = grpc.insecure_channel(
            self.payment_server.address, options=_FOUND_AGAIN_SOON
        )

    def start_orders(self) -> None:
        """Start the order service, again at the address where it was before."""
        settings = self.order_settings.model_copy(update={"port": self._order_port})
        # A test that names a target has put something between the two.
        if "payment_target" not in settings.model_fields_set:
            target = {"payment_target": self.payment_server.address}
            settings = settings.model_copy(update=target)
        self.order_server = order_service.bootstrap.build(
            settings, clock=self.clock, heartbeat_seconds=self._heartbeat_seconds
        )
        self.order_server.start()
        self._order_port = self.order_server.port

    def start_payments(self) -> None:
        """Start the payment service, again at the address where it was before."""
        self.payment_server = payment_service.bootstrap.build(
            self.payment_settings, clock=self.clock
        )
        self.payment_server.start()
        again = {"port": self.payment_server.port}
        self.payment_settings = self.payment_settings.model_copy(update=again)

    def bring_payments_back(self) -> None:
        """Start the payment service again, and wait until everybody has found it."""
        self.start_payments()
        task = self.order_server.workers._tasks["read-payments"]
        payments = task.run._payments  # type: ignore[attr-defined]
        eventually(lambda: payments.answers() and not payments._broken)
        grpc.channel_ready_future(self.payment_channel).result(30)

    def stop_payments(self) -> None:
        """Stop the payment service."""
        self.payment_server.stop()

    def stop(self) -> None:
        """Stop both services, and look inside no more."""
        for channel in (self.order_channel, self.payment_channel):
            channel.close()
        self.order_server.stop()
        self.payment_server.stop()
        self.order_database.close()
        self.payment_database.close()

    def orders(self, caller: Caller = ALICE) -> Client:
        """Return a client of the order service."""
        return Client(self.order_channel, ORDER_SERVICE_NAME, caller)

    def payments(self, caller: Caller = ALICE) -> Client:
        """Return a client of the payment service."""
        return Client(self.payment_channel, PAYMENT_SERVICE_NAME, caller)

    # Steps of a checkout that must succeed.

    def place(self, caller: Caller = ALICE, **fields: Any) -> order_pb2.Order:
        """Place an order and return it."""
        fields.setdefault("items", new_order_items())
        return _order(self.orders(caller).CreateOrder(**fields))

    def process(
        self, order: order_pb2.Order, token: str = "tok_visa", caller: Caller = ALICE
    ) -> payment_pb2.Payment:
        """Pay an order's ticket at the payment service and return the payment."""
        response = self.payments(caller).ProcessPayment(
            payment_ticket=order.payment_ticket, payment_token=token
        )
        payment: payment_pb2.Payment = response.payment
        return payment

    def pay(
        self, order: order_pb2.Order, token: str = "tok_visa", caller: Caller = ALICE
    ) -> order_pb2.Order:
        """Pay an order in one call and return it."""
        return _order(self.orders(caller).PayOrder(order_id=order.id, payment_token=token))

    def cancel(self, order: order_pb2.Order, caller: Caller = ALICE) -> order_pb2.Order:
        """Cancel an order and return it."""
        return _order(self.orders(caller).CancelOrder(order_id=order.id))

    def fulfill(self, order: order_pb2.Order) -> order_pb2.Order:
        """Fulfil an order and return it."""
        return _order(self.orders(SHOP).FulfillOrder(order_id=order.id))

    def archive(self, order: order_pb2.Order) -> order_pb2.Order:
        """Archive an order and return it."""
        return _order(self.orders(SHOP).ArchiveOrder(order_id=order.id))

    def refund(
        self, order: order_pb2.Order, amount: money_pb2.Money | None = None
    ) -> order_pb2.Order:
        """Refund an amount, or all that is left, and return the order."""
        return _order(self.orders(OPERATIONS).RefundOrder(order_id=order.id, amount=amount))

    def paid(self, token: str = "tok_visa", caller: Caller = ALICE) -> order_pb2.Order:
        """Place an order, pay it, and return it."""
        return self.pay(self.place(caller), token, caller)

    # What can be seen afterwards.

    def order(self, order_id: str) -> order_pb2.Order:
        """Read an order."""
        return _order(self.orders(OPERATIONS).GetOrder(order_id=order_id))

    def payment(self, payment_id: str) -> payment_pb2.Payment:
        """Read a payment."""
        payment: payment_pb2.Payment = (
            self.payments(OPERATIONS).GetPayment(payment_id=payment_id).payment
        )
        return payment

    def history(self, order_id: str = "") -> list[order_audit_pb2.OrderAuditEntry]:
        """Read the history of one order, or the beginning of that of all."""
        response = self.orders(OPERATIONS).ListOrderAuditEntries(order_id=order_id, page_size=100)
        return list(response.entries)

    def events(self, order_id: str) -> list[str]:
        """List what has happened to an order."""
        return [entry.event_type for entry in self.history(order_id)]

    def payment_history(self, order_id: str = "") -> list[payment_audit_pb2.PaymentAuditEntry]:
        """Read the payment history of one order, or the beginning of that of all."""
        response = self.payments(OPERATIONS).ListPaymentAuditEntries(
            order_id=order_id, page_size=100
        )
        return list(response.entries)


@contextmanager
def running_checkout(
    folder: Path,
    *,
    order_url: str = "",
    payment_url: str = "",
    redis_url: str = "",
    migrate: bool = True,
    clock: MovableClock | None = None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    kind: type[Checkout] = Checkout,
    **settings: Any,
) -> Iterator[Checkout]:
    """Run both services; without URLs on SQLite files in the folder.

    `settings` go to both, those that begin with `order_` or `payment_` to one.
    """
    shared: dict[str, Any] = {
        # What is left unfinished stays so, for a test to see, unless it asks for the opposite.
        "background_work": False,
        "data_dir": folder,
        "secret_key": SECRET,
        "redis_url": redis_url,
        "port": 0,
        "metrics_port": None,
        # Tests call as often as they like, unless they ask for the opposite.
        "customer_rate": 0,
        "customer_calls": 0,
    }
    shared |= {k: v for k, v in settings.items() if not k.startswith(("order_", "payment_"))}
    payment_settings = payment_service.config.Settings(
        **(shared | {"database_url": payment_url} | _own(settings, "payment_"))
    )
    order_settings = order_service.config.Settings(
        **(shared | {"database_url": order_url} | _own(settings, "order_"))
    )
    if migrate:
        migrate_orders(order_settings.effective_database_url())
        migrate_payments(payment_settings.effective_database_url())
    checkout = kind(
        order_settings=order_settings,
        payment_settings=payment_settings,
        clock=clock or MovableClock(),
        heartbeat_seconds=heartbeat_seconds,
    )
    try:
        yield checkout
    finally:
        checkout.stop()


def migrate_orders(url: str) -> None:
    """Bring an order database to its schema."""
    _migrate(url, order_service.bootstrap.MIGRATIONS)


def migrate_payments(url: str) -> None:
    """Bring a payment database to its schema."""
    _migrate(url, payment_service.bootstrap.MIGRATIONS)


def _migrate(url: str, package: str) -> None:
    parsed = sa.make_url(url)
    file = Path(parsed.database or "")
    if parsed.get_backend_name() == "sqlite" and not file.exists():
        # Migrating takes longer than copying what was migrated once; copies share the id that was
        # drawn then, as those of a template on PostgreSQL do.
        file.write_bytes(_migrated_file(package))
    else:
        upgrade(url, package, secret=_secret)


@cache
def _migrated_file(package: str) -> bytes:
    with TemporaryDirectory(prefix="checkout-template-") as folder:
        file = Path(folder, "migrated.db")
        url = sa.URL.create("sqlite", database=str(file)).render_as_string()
        upgrade(url, package, secret=_secret)
        assert [path.suffix for path in file.parent.glob("migrated.db*")] == [".db"]
        return file.read_bytes()


def _secret() -> SecretKey:
    return SecretKey(SECRET.encode())


def _own(settings: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}


def _order(response: Any) -> order_pb2.Order:
    order: order_pb2.Order = response.order
    return order
