"""The life of an order, from the outside."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from checkout.order.v1 import order_pb2
from tests.assertions import refused
from tests.builders import money, new_key, new_order_item
from tests.checkout import Checkout, running_checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Both services, shared by the tests of this module."""
    folder: Path = tmp_path_factory.mktemp("checkout")
    with running_checkout(folder) as running:
        yield running


@pytest.mark.requirement("FR-201")
def test_create_order_success(checkout: Checkout) -> None:
    order = checkout.place(
        items=[
            new_order_item(sku="MUG-1", quantity=3, unit_price=money(1250)),
            new_order_item(sku="TEE-M", quantity=1, unit_price=money(1999)),
        ]
    )
    assert order.id.startswith("ord_")
    assert order.customer_id == "alice"
    assert order.status == order_pb2.ORDER_STATUS_CREATED
    assert [item.line_total for item in order.items] == [money(3750), money(1999)]
    assert order.total_amount == money(5749)
    assert order.payment_ticket
    assert order.payment_transaction_id == ""
    assert checkout.order(order.id) == order
    assert checkout.events(order.id) == ["order_created"]


@pytest.mark.requirement("FR-205", "FR-206")
def test_create_order_idempotency(checkout: Checkout) -> None:
    key, items = new_key(), [new_order_item()]
    first = checkout.orders().answer("CreateOrder", idempotency_key=key, items=items)
    again = checkout.orders().answer("CreateOrder", idempotency_key=key, items=items)
    assert again.body == first.body
    assert (first.replayed, again.replayed) == (False, True)
    other = [new_order_item(quantity=7)]
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED"):
        checkout.orders().CreateOrder(idempotency_key=key, items=other)
    assert checkout.events(first.message.order.id) == ["order_created"]


@pytest.mark.requirement("FR-217")
def test_mark_order_paid(checkout: Checkout) -> None:
    order = checkout.place()
    payment = checkout.process(order)
    paid = checkout.orders().MarkOrderPaid(order_id=order.id, transaction_id=payment.id).order
    assert paid.status == order_pb2.ORDER_STATUS_PAID
    assert paid.payment_transaction_id == payment.id
    assert paid.payment_ticket == ""
    assert paid.etag != order.etag
    assert checkout.events(order.id) == ["order_created", "order_paid"]


@pytest.mark.requirement("FR-204", "FR-219")
def test_cannot_pay_cancelled_order(checkout: Checkout) -> None:
    order = checkout.place()
    checkout.cancel(order)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION") as refusal:
        checkout.pay(order)
    assert refusal.metadata == {
        "order_id": order.id,
        "current_status": "cancelled",
        "attempted": "pay",
        "allowed": "",
    }
    assert checkout.ledger.charges(order.id) == []


@pytest.mark.requirement("FR-218")
def test_double_payment_rejected(checkout: Checkout) -> None:
    order, other = checkout.place(), checkout.place()
    payment, another = checkout.process(order), checkout.process(other)
    checkout.orders().MarkOrderPaid(order_id=order.id, transaction_id=payment.id)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
        checkout.orders().MarkOrderPaid(order_id=order.id, transaction_id=another.id)
    assert checkout.order(order.id).payment_transaction_id == payment.id
    assert checkout.ledger.charges(order.id) == [order.total_amount.minor_units]
