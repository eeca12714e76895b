"""What callers leave unfinished is finished without them, by the services as they run."""

from collections.abc import Iterator

import grpc
import pytest

from checkout.order.v1 import order_pb2
from tests.assertions import refused
from tests.checkout import Checkout
from tests.system.checkouts import BOTH, Checkouts
from tests.system.unknown_outcomes import LOST, TOTAL, outcome_unknown, pay_request
from tests.waiting import eventually

PAID = order_pb2.ORDER_STATUS_PAID
CANCELLED = order_pb2.ORDER_STATUS_CANCELLED
REFUNDED = order_pb2.ORDER_STATUS_REFUNDED


@pytest.fixture(scope="module", params=BOTH)
def working(request: pytest.FixtureRequest, checkouts: Checkouts) -> Iterator[Checkout]:
    """A checkout whose workers run, on each database."""
    with checkouts.running(request.param, background_work=True) as running:
        yield running


def becomes(checkout: Checkout, order: order_pb2.Order, status: int) -> None:
    eventually(lambda: checkout.order(order.id).status == status)


@pytest.mark.requirement("FR-132", "FR-237")
class TestACallerThatNeverComesBack:
    def test_has_its_charge_settled(self, working: Checkout) -> None:
        orders = {token: working.place() for token in LOST}
        requests = {token: pay_request(order, token) for token, order in orders.items()}
        for fields in requests.values():
            outcome_unknown(working, "PayOrder", fields)

        for order in orders.values():
            becomes(working, order, PAID)
            assert working.ledger.charges(order.id) == [TOTAL]
        for fields in requests.values():
            answer = working.orders().answer("PayOrder", **fields)
            assert answer.replayed, "the key has its reply although nobody asked for it"

    def test_has_its_cancellation_settled(self, working: Checkout) -> None:
        order = working.place()
        working.stop_payments()
        with pytest.raises(grpc.RpcError):
            working.orders().CancelOrder(order_id=order.id)
        working.bring_payments_back()
        # Refused before the intent, or begun and left behind.
        if working.order(order.id).HasField("pending_operation"):
            becomes(working, order, CANCELLED)
        assert working.ledger.charges(order.id) == []

    def test_has_its_refund_settled(self, working: Checkout) -> None:
        order = working.paid("tok_refundTimeoutAfter")
        fields = {"idempotency_key": "give-it-back", "order_id": order.id}
        outcome_unknown(working, "RefundOrder", fields)

        becomes(working, order, REFUNDED)

        assert working.ledger.refunds(order.id) == [TOTAL]


@pytest.mark.requirement("FR-238")
class TestAPaymentMadeDirectly:
    def test_marks_its_order_paid(self, working: Checkout) -> None:
        order = working.place()
        payment = working.process(order)

        becomes(working, order, PAID)

        assert working.order(order.id).payment_transaction_id == payment.id
        entry = working.history(order.id)[-1]
        assert (entry.event_type, entry.actor_id) == ("order_paid", "order-service")
        assert entry.on_behalf_of == order.customer_id

    def test_whose_answer_was_lost_does_too(self, working: Checkout) -> None:
        order = working.place()
        working.process(order, "tok_timeoutAfterCharge")
        becomes(working, order, PAID)
        assert working.ledger.charges(order.id) == [TOTAL]

    def test_is_not_marked_twice(self, working: Checkout) -> None:
        order = working.place()
        payment = working.process(order)
        becomes(working, order, PAID)
        working.orders().MarkOrderPaid(order_id=order.id, transaction_id=payment.id)
        assert working.events(order.id) == ["order_created", "order_paid"]

    def test_cannot_be_made_after_the_order_was_cancelled(self, working: Checkout) -> None:
        order = working.place()
        working.cancel(order)
        payment = working.process(order)
        assert payment.void_reason
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            working.orders().MarkOrderPaid(order_id=order.id, transaction_id=payment.id)
