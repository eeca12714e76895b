"""The whole checkout: order, payment, both histories, one trace."""

from pathlib import Path

import pytest

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from tests.builders import new_key, new_order_items, new_trace_id
from tests.checkout import running_checkout
from tests.client import ALICE


@pytest.mark.requirement("FR-101", "FR-201", "FR-217", "FR-227", "FR-228", "FR-232")
def test_complete_checkout_flow(tmp_path: Path) -> None:
    trace_id = new_trace_id()
    alice = ALICE.with_metadata(("x-trace-id", trace_id))
    with running_checkout(tmp_path) as checkout:
        placing = {"idempotency_key": new_key(), "items": new_order_items(total=4000)}
        order = checkout.orders(alice).CreateOrder(**placing).order
        assert checkout.orders(alice).CreateOrder(**placing).order == order

        payment = checkout.process(order, "tok_visa", alice)
        assert payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
        assert payment.order_id == order.id
        assert payment.amount == order.total_amount

        marking = {"order_id": order.id, "transaction_id": payment.id}
        paid = checkout.orders(alice).MarkOrderPaid(**marking).order
        assert paid.status == order_pb2.ORDER_STATUS_PAID
        assert checkout.orders(alice).GetOrder(order_id=order.id).order == paid
        assert list(checkout.orders(alice).ListOrders().orders) == [paid]

        assert checkout.ledger.charges(order.id) == [4000]
        assert checkout.events(order.id) == ["order_created", "order_paid"]
        for history in (checkout.history(order.id), checkout.payment_history(order.id)):
            assert {(e.actor_id, e.trace_id) for e in history} == {("alice", trace_id)}
