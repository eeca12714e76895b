"""The use cases of the order service over a real database, called as the servicer calls them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import sqlalchemy as sa
from sqlalchemy.engine import Row

from checkout.order.v1 import order_pb2, order_service_pb2
from order_service.application.archive_order import ArchiveOrder
from order_service.application.cancel_order import CancelOrder
from order_service.application.create_order import CreateOrder
from order_service.application.fulfill_order import FulfillOrder
from order_service.application.get_order import GetOrder
from order_service.application.list_order_audit_entries import ListOrderAuditEntries
from order_service.application.list_orders import ListOrders
from order_service.application.mark_order_paid import MarkOrderPaid
from order_service.application.once import Once
from order_service.application.pay_order import PayOrder
from order_service.application.payment_operations import PaymentOperations
from order_service.application.refund_order import RefundOrder
from order_service.application.settlement import Settlement
from order_service.application.watch_order_events import WatchOrderEvents
from order_service.domain.audit import Actor, AuditEntry
from order_service.domain.order import Order
from order_service.domain.state_machine import OrderStatus
from order_service.gateways.tickets import ticket_signer
from order_service.rpc.codec import Codec
from order_service.rpc.servicer import UseCases
from order_service.storage.store import SqlStore
from order_service.storage.tables import idempotency_keys, payment_operations
from service_kit.call import serving
from service_kit.database import Database
from service_kit.idempotency.memory import NoReplyMemory, ReplyMemory
from service_kit.idempotency.record import Reply
from service_kit.paging import PageTokens
from service_kit.status import parse
from tests.assertions import Refusal, told
from tests.builders import CHAIN_KEY, money, new_key, new_order_items, new_request
from tests.clock import MovableClock
from tests.integration.order_service.scripted_payments import ScriptedPayments
from tests.unit.order_service.builders import ALICE, KEY_OF_TESTS, OLGA, SHOP, new_call

# Older than this and an operation counts as left behind; than the other, and so does a call.
ABANDONED = timedelta(seconds=5.1)
LEASE_OVER = timedelta(seconds=15.1)


@dataclass
class MovableHead:
    """How far the history is whole: as far as a test says."""

    sequence: int = 0


@dataclass(frozen=True)
class Desk:
    """The use cases, the payment service they call, and the ways to look inside."""

    database: Database
    store: SqlStore
    head: MovableHead
    payments: ScriptedPayments
    clock: MovableClock
    codec: Codec
    settlement: Settlement
    use_cases: UseCases

    # Calls. Each goes by a key of its own, unless one is given.

    def call(self, rpc: str, *, by: Actor = ALICE, seconds: float = 30.0, **fields: Any) -> Reply:
        """Call a mutating RPC and return the reply's bytes."""
        change = self.codec.change_order
        decode: Any = {
            "CreateOrder": self.codec.create_order,
            "PayOrder": self.codec.pay_order,
            "MarkOrderPaid": self.codec.mark_order_paid,
            "CancelOrder": change,
            "FulfillOrder": change,
            "RefundOrder": self.codec.refund_order,
            "ArchiveOrder": change,
        }[rpc]
        use_case: Any = {
            "CreateOrder": self.use_cases.create_order,
            "PayOrder": self.use_cases.pay_order,
            "MarkOrderPaid": self.use_cases.mark_order_paid,
            "CancelOrder": self.use_cases.cancel_order,
            "FulfillOrder": self.use_cases.fulfill_order,
            "RefundOrder": self.use_cases.refund_order,
            "ArchiveOrder": self.use_cases.archive_order,
        }[rpc]
        with serving(new_call(rpc, by, seconds=seconds)) as call:
            reply: Reply = use_case(decode(new_request(rpc, **fields), call))
        return reply

    def place(self, total: int = 4000, *, by: Actor = ALICE, **fields: Any) -> Order:
        """Place an order and return it."""
        fields.setdefault("items", new_order_items(total))
        return self.order(ok(self.call("CreateOrder", by=by, **fields)).id)

    def place_paid(self, total: int = 4000) -> Order:
        """Place an order, pay it and return it."""
        order = self.place(total)
        ok(self.pay(order))
        return self.order(order.id)

    def pay(self, order: Order, *, key: str = "", **more: Any) -> Reply:
        """Call PayOrder."""
        more = {"payment_token": "tok_visa", **more}
        return self.call("PayOrder", order_id=order.id, idempotency_key=key or new_key(), **more)

    def mark_paid(self, order: Order, payment_id: str, *, key: str = "", **more: Any) -> Reply:
        """Call MarkOrderPaid."""
        more = {"transaction_id": payment_id, "idempotency_key": key or new_key(), **more}
        return self.call("MarkOrderPaid", order_id=order.id, **more)

    def cancel(self, order: Order, *, key: str = "", **more: Any) -> Reply:
        """Call CancelOrder."""
        return self.call("CancelOrder", order_id=order.id, idempotency_key=key or new_key(), **more)

    def fulfill(self, order: Order, *, key: str = "", **more: Any) -> Reply:
        """Call FulfillOrder."""
        more = {"by": SHOP, "idempotency_key": key or new_key(), **more}
        return self.call("FulfillOrder", order_id=order.id, **more)

    def refund(
        self,
        order: Order,
        amount: int | None = None,
        *,
        currency: str = "EUR",
        key: str = "",
        **more: Any,
    ) -> Reply:
        """Call RefundOrder for so many minor units, or for the rest."""
        if amount is not None:
            more = {"amount": money(amount, currency), **more}
        more = {"by": OLGA, "idempotency_key": key or new_key(), **more}
        return self.call("RefundOrder", order_id=order.id, **more)

    def archive(self, order: Order, *, key: str = "", **more: Any) -> Reply:
        """Call ArchiveOrder."""
        more = {"by": SHOP, "idempotency_key": key or new_key(), **more}
        return self.call("ArchiveOrder", order_id=order.id, **more)

    # What there is.

    def order(self, order_id: str) -> Order:
        """Read an order."""
        order = self.store.read(lambda work: work.orders.get(order_id))
        assert order is not None
        return order

    def status(self, order: Order) -> OrderStatus:
        """Read where an order stands."""
        return self.order(order.id).status

    def history(self, order: Order) -> list[AuditEntry]:
        """Read an order's audit entries."""
        stored = self.store.audit_entries(after=0, order_id=order.id, limit=100)
        return [entry.entry for entry in stored]

    def events(self, order: Order) -> list[str]:
        """Read an order's history as event types."""
        return [entry.event_type.value for entry in self.history(order)]

    def operations(self, order: Order) -> list[Row[Any]]:
        """Read an order's operations, oldest first."""
        table = payment_operations
        query = sa.select(table).where(table.c.order_id == order.id).order_by(table.c.id)
        return list(self.database.read(lambda connection: connection.execute(query).all()))

    def key(self, key: str) -> Row[Any] | None:
        """Read the row of an idempotency key."""
        query = sa.select(idempotency_keys).where(idempotency_keys.c.idempotency_key == key)
        return self.database.read(lambda connection: connection.execute(query).one_or_none())


def open_desk(
    database: Database,
    *,
    payments: ScriptedPayments | None = None,
    clock: MovableClock | None = None,
    memory: ReplyMemory | None = None,
) -> Desk:
    """Put the use cases together as the service does."""
    payments = payments or ScriptedPayments()
    clock = clock or MovableClock()
    store = SqlStore(database, chain_key=CHAIN_KEY)
    codec = Codec(sign_ticket=ticket_signer(KEY_OF_TESTS), page_tokens=PageTokens(KEY_OF_TESTS))
    settlement = Settlement(store=store, payments=payments, replies=codec, clock=clock)
    once = Once(
        store=store,
        memory=memory or NoReplyMemory(),
        replies=codec,
        settlement=settlement,
        clock=clock,
    )
    operations = PaymentOperations(
        store=store, payments=payments, settlement=settlement, once=once, clock=clock
    )
    head = MovableHead()
    return Desk(
        database=database,
        store=store,
        head=head,
        payments=payments,
        clock=clock,
        codec=codec,
        settlement=settlement,
        use_cases=UseCases(
            create_order=CreateOrder(once=once, clock=clock),
            get_order=GetOrder(store=store),
            list_orders=ListOrders(store=store),
            pay_order=PayOrder(operations=operations, payments=payments),
            mark_order_paid=MarkOrderPaid(once=once, payments=payments, clock=clock),
            cancel_order=CancelOrder(operations=operations, payments=payments),
            fulfill_order=FulfillOrder(once=once, clock=clock),
            refund_order=RefundOrder(operations=operations, payments=payments),
            archive_order=ArchiveOrder(once=once, clock=clock),
            list_order_audit_entries=ListOrderAuditEntries(store=store),
            watch_order_events=WatchOrderEvents(store=store, head=head),
        ),
    )


def ok(reply: Reply) -> order_pb2.Order:
    """Read the order of a reply that is OK."""
    assert reply.ok, parse(reply.body)
    # Every mutating RPC answers with the order in field 1.
    return order_service_pb2.PayOrderResponse.FromString(reply.body).order


def refusal(reply: Reply, reason: str) -> Refusal:
    """Read a reply that is a refusal for this reason."""
    assert not reply.ok
    return told(parse(reply.body), grpc.StatusCode.FAILED_PRECONDITION, reason)
