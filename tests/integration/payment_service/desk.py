"""The payment service alone in this process, on a real socket, over a real database."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import jwt
import sqlalchemy as sa
from sqlalchemy.engine import Row

from checkout.payment.v1 import payment_audit_pb2, payment_pb2
from checkout.payment.v1 import payment_service_pb2 as pb
from payment_service import bootstrap
from payment_service.application.gateway_time import LEASE_MAX
from payment_service.application.ports import Gateway
from payment_service.config import Settings
from payment_service.gateways.simulated_ledger import (
    LedgerCharge,
    LedgerRefund,
    SimulatedLedger,
)
from payment_service.storage.tables import payments, refunds
from service_kit.database import Database
from service_kit.ids import new_id
from service_kit.secrets import SecretKey
from service_kit.server import Server
from tests.builders import money, new_key
from tests.checkout import SECRET, migrate_payments
from tests.client import ORDER_SERVICE, PAYMENT_SERVICE_NAME, Caller, Client
from tests.clock import MovableClock

T = TypeVar("T")

_TICKET_KEY = SecretKey(SECRET.encode()).derive("payment-ticket")


def ticket(**claims: Any) -> str:
    """Sign a ticket as the order service does; of an order of its own unless one is named."""
    stated = {
        "iss": "order-service",
        "aud": "payment-service",
        "order_id": claims.pop("order_id", None) or new_id("ord_"),
        "customer_id": "alice",
        "currency_code": "EUR",
        "minor_units": 4000,
    }
    key = claims.pop("key", _TICKET_KEY)
    algorithm = claims.pop("algorithm", "HS256")
    return jwt.encode({**stated, **claims}, key, algorithm=algorithm)


@dataclass
class Desk:
    """The running service, and the ways to call it and to look inside."""

    server: Server
    database: Database
    clock: MovableClock
    ledger: SimulatedLedger
    channel: grpc.Channel

    def as_(self, caller: Caller) -> Client:
        """Return a client that calls as somebody."""
        return Client(self.channel, PAYMENT_SERVICE_NAME, caller)

    @property
    def calls(self) -> Client:
        """A client that calls as the order service."""
        return self.as_(ORDER_SERVICE)

    def process(self, token: str = "tok_visa", **fields: Any) -> payment_pb2.Payment:
        """Charge an order, which is a new one unless it is named."""
        request = self.process_request(token, **fields)
        payment: payment_pb2.Payment = self.calls.ProcessPayment(request).payment
        return payment

    @staticmethod
    def process_request(
        token: str = "tok_visa", *, key: str = "", **claims: Any
    ) -> pb.ProcessPaymentRequest:
        """Build a request to charge an order."""
        return pb.ProcessPaymentRequest(
            idempotency_key=key or new_key(), payment_ticket=ticket(**claims), payment_token=token
        )

    def refund(
        self, payment: payment_pb2.Payment, minor_units: int, *, key: str = ""
    ) -> pb.RefundPaymentResponse:
        """Give back part of a payment."""
        response: pb.RefundPaymentResponse = self.calls.RefundPayment(
            self.refund_request(payment, minor_units, key=key)
        )
        return response

    @staticmethod
    def refund_request(
        payment: payment_pb2.Payment, minor_units: int, *, key: str = ""
    ) -> pb.RefundPaymentRequest:
        """Build a request to give back part of a payment."""
        return pb.RefundPaymentRequest(
            idempotency_key=key or new_key(), payment_id=payment.id, amount=money(minor_units)
        )

    def seal(self, order_id: str) -> payment_pb2.Payment | None:
        """Seal an order. Returns its live payment, or None."""
        response = self.calls.SealOrder(pb.SealOrderRequest(order_id=order_id))
        return response.payment if response.HasField("payment") else None

    def resolve(self, order_id: str, key: str) -> payment_pb2.Payment:
        """Ask what became of a call."""
        request = pb.ResolvePaymentRequest(order_id=order_id, payment_idempotency_key=key)
        payment: payment_pb2.Payment = self.calls.ResolvePayment(request).payment
        return payment

    def get(self, payment_id: str) -> payment_pb2.Payment:
        """Read a payment."""
        request = pb.GetPaymentRequest(payment_id=payment_id)
        payment: payment_pb2.Payment = self.calls.GetPayment(request).payment
        return payment

    def history(self, order_id: str = "") -> list[payment_audit_pb2.PaymentAuditEntry]:
        """Read the history, of one order or of all."""
        request = pb.ListPaymentAuditEntriesRequest(order_id=order_id, page_size=100)
        return list(self.calls.ListPaymentAuditEntries(request).entries)

    def events(self, order_id: str) -> list[str]:
        """Read what happened to an order's payments, in order."""
        return [entry.event_type for entry in self.history(order_id)]

    def charges(self, order_id: str) -> list[LedgerCharge]:
        """Read, at the gateway, how often an order's money was taken."""
        with self.ledger.transaction() as books:
            return [charge for charge in books.charges(order_id) if not charge.decline_code]

    def given_back(self, payment: payment_pb2.Payment) -> list[LedgerRefund]:
        """Read, at the gateway, what was given back of a payment."""
        reference = self.payment_row(payment.id).gateway_reference
        with self.ledger.transaction() as books:
            return [refund for refund in books.refunds(reference) if not refund.decline_code]

    def payment_row(self, payment_id: str) -> Row[Any]:
        """Read a payment as it is stored."""
        query = sa.select(payments).where(payments.c.id == payment_id)
        return self.database.read(lambda connection: connection.execute(query).one())

    def payment_rows(self, order_id: str) -> list[Row[Any]]:
        """Read an order's payments as they are stored."""
        query = sa.select(payments).where(payments.c.order_id == order_id)
        return list(self.database.read(lambda connection: connection.execute(query).all()))

    def lease(self, payment_id: str) -> None:
        """Leave a payment behind as a call does that dies while it asks the gateway."""
        self.write(
            sa.update(payments)
            .where(payments.c.id == payment_id)
            .values(lease_until=self.clock.now() + LEASE_MAX)
        )

    def write(self, statement: sa.Executable) -> None:
        """Execute a statement that the service never would."""
        self.database.transact(lambda connection: connection.execute(statement))

    def refund_rows(self, payment_id: str) -> list[Row[Any]]:
        """Read a payment's refunds as they are stored."""
        query = sa.select(refunds).where(refunds.c.payment_id == payment_id)
        return list(self.database.read(lambda connection: connection.execute(query).all()))


@contextmanager
def running_desk(
    folder: Path, url: str, *, gateway: Gateway | None = None, migrate: bool = True, **settings: Any
) -> Iterator[Desk]:
    """Run the service over a database; several may run over the same one."""
    if migrate:
        migrate_payments(url)
    chosen = Settings(
        **{
            "database_url": url,
            "data_dir": folder,
            "secret_key": SECRET,
            "port": 0,
            "metrics_port": None,
            "reflection": False,
            "gateway_slow_seconds": 0.4,
            "threads": 16,
            "background_work": False,
            **settings,
        }
    )
    clock = MovableClock()
    server = bootstrap.build(chosen, clock=clock, gateway=gateway)
    server.start()
    channel = grpc.insecure_channel(server.address)
    desk = Desk(
        server=server,
        database=Database(url),
        clock=clock,
        ledger=SimulatedLedger(chosen.effective_gateway_ledger()),
        channel=channel,
    )
    try:
        yield desk
    finally:
        channel.close()
        server.stop()
        desk.database.close()
        desk.ledger.close()


def at_once(actions: Sequence[Callable[[], T]]) -> list[T]:
    """Do everything at the same time, each on a thread of its own."""
    with ThreadPoolExecutor(len(actions)) as threads:
        return [future.result() for future in [threads.submit(action) for action in actions]]


@contextmanager
def meanwhile(action: Callable[[], T]) -> Iterator[Future[T]]:
    """Do something on another thread during the block; it is over when the block is."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(action)
