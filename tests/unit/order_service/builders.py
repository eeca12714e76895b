"""Orders and what belongs to them, with everything filled in; a test names what matters to it."""

import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from order_service.application.ports import PaymentFacts
from order_service.domain.audit import Actor
from order_service.domain.money import Money
from order_service.domain.order import Order, OrderItem
from order_service.domain.payment_operation import (
    OperationKind,
    OperationStatus,
    PaymentOperation,
)
from order_service.domain.state_machine import OrderStatus
from service_kit.call import Call, Principal
from service_kit.ids import new_id
from service_kit.tracing import TraceContext

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 12, 0, 7, tzinfo=UTC)

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
ALICE = Actor(role="customer", id="alice", on_behalf_of="", trace_id=TRACE_ID)
SHOP = Actor(role="service", id="shop-backend", on_behalf_of="alice", trace_id=TRACE_ID)
OLGA = Actor(role="operations", id="olga", on_behalf_of="", trace_id=TRACE_ID)

KEY_OF_TESTS = b"a key of the tests, of 32 bytes.."


def eur(minor_units: int) -> Money:
    """Build an amount of euros."""
    return Money("EUR", minor_units)


def items_of(total: int, currency_code: str = "EUR") -> tuple[OrderItem, ...]:
    """Build two lines that cost `total` together."""
    first = OrderItem("MUG-1", "Mug", 2, Money(currency_code, 500))
    rest = OrderItem("TEE-M", "T-shirt, M", 1, Money(currency_code, total - 1000))
    return (first, rest)


def new_order(status: OrderStatus = OrderStatus.CREATED, **fields: Any) -> Order:
    """Build an order of 40 euros in any status, as its life would have left it."""
    order, _ = Order.place(
        order_id=new_id("ord_"), customer_id="alice", items=items_of(4000), by=ALICE, at=AT
    )
    order = replace(order, status=status)
    if status not in (OrderStatus.CREATED, OrderStatus.CANCELLED):
        order = replace(order, payment_id=new_id("pay_"))
    if status is OrderStatus.REFUNDED:
        order = replace(order, refunded=order.total)
    return replace(order, **fields)


def new_operation(
    kind: OperationKind = OperationKind.CHARGE, *, order: Order | None = None, **fields: Any
) -> PaymentOperation:
    """Build an operation in flight on the order."""
    order = order or new_order()
    operation = PaymentOperation(
        id=new_id("op_"),
        order_id=order.id,
        kind=kind,
        status=OperationStatus.IN_FLIGHT,
        actor=ALICE,
        method="PayOrder",
        idempotency_key=f"key-{secrets.token_hex(8)}x",
        fingerprint=b"f" * 32,
        started_at=AT,
    )
    if kind is OperationKind.REFUND:
        refund = {"payment_id": order.payment_id, "amount": order.refundable}
        operation = replace(operation, method="RefundOrder", **refund)  # type: ignore[arg-type]
    return replace(operation, **fields)


def payment_of(order: Order, status: str = "succeeded", **fields: Any) -> PaymentFacts:
    """Build a payment of the order's total."""
    facts = PaymentFacts(
        id=order.payment_id or new_id("pay_"),
        order_id=order.id,
        customer_id=order.customer_id,
        status=status,
        amount=order.total,
    )
    return replace(facts, **fields)


def new_call(
    method: str = "GetOrder", actor: Actor = ALICE, *, seconds: float = 10.0, **fields: Any
) -> Call:
    """Build a call of the order service by the actor, with so many seconds left."""
    call = Call(
        method=f"/checkout.order.v1.OrderService/{method}",
        principal=Principal(actor.role, actor.id),
        on_behalf_of=actor.on_behalf_of,
        trace=TraceContext(trace_id=actor.trace_id, span_id="00f067aa0ba902b7"),
        deadline=time.monotonic() + seconds,
    )
    return replace(call, **fields)
