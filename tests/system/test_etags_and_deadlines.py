"""Changes that are only wanted under a condition, or within a time."""

from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2
from tests.assertions import refused
from tests.builders import money
from tests.checkout import Checkout
from tests.client import ALICE, OPERATIONS, SHOP
from tests.system.unknown_outcomes import (
    outcome_unknown,
    pay_request,
)


@pytest.mark.requirement("FR-225")
class TestAnEtag:
    def test_changes_with_the_status_and_with_nothing_else(self, checkout: Checkout) -> None:
        order = checkout.place()
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_DECLINED"):
            checkout.pay(order, "tok_chargeDeclined")
        assert checkout.order(order.id).etag == order.etag
        paid = checkout.pay(order)
        assert paid.etag != order.etag
        assert checkout.refund(order, money(1)).etag == paid.etag
        assert checkout.refund(order).etag not in {order.etag, paid.etag}

    def test_that_is_right_lets_the_change_through(self, checkout: Checkout) -> None:
        order = checkout.place()
        paid = checkout.orders().PayOrder(**pay_request(order), etag=order.etag).order
        assert paid.status == order_pb2.ORDER_STATUS_PAID

    def test_that_is_old_stops_it_and_is_told_the_new_one(self, checkout: Checkout) -> None:
        order = checkout.place()
        paid = checkout.pay(order)
        with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH") as refusal:
            checkout.orders(SHOP).FulfillOrder(order_id=order.id, etag=order.etag)
        assert refusal.metadata == {"order_id": order.id, "current_etag": paid.etag}
        assert refusal.status.details[1:] == []

    def test_is_not_asked_for_again_by_a_repeat(self, checkout: Checkout) -> None:
        """The change it was sent with has made it old."""
        order = checkout.place()
        request = pay_request(order, "tok_timeoutAfterCharge") | {"etag": order.etag}
        outcome_unknown(checkout, "PayOrder", request)
        first = checkout.orders().answer("PayOrder", **request)
        assert checkout.orders().answer("PayOrder", **request).body == first.body


@pytest.mark.requirement("FR-234")
class TestADeadlineThatIsTooShort:
    @pytest.mark.parametrize("rpc", ["PayOrder", "CancelOrder", "RefundOrder", "MarkOrderPaid"])
    def test_starts_nothing_at_the_order_service(self, checkout: Checkout, rpc: str) -> None:
        order = checkout.paid() if rpc == "RefundOrder" else checkout.place()
        fields: dict[str, Any] = {
            "PayOrder": {"payment_token": "tok_visa"},
            "MarkOrderPaid": {"transaction_id": "pay_1"},
        }.get(rpc, {})
        client = checkout.orders(OPERATIONS if rpc == "RefundOrder" else ALICE)
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT") as refusal:
            client.answer(rpc, timeout=0.95, order_id=order.id, **fields)
        assert refusal.metadata == {"minimum_seconds": "1.0"}
        assert checkout.order(order.id) == order

    def test_starts_nothing_at_the_payment_service(self, checkout: Checkout) -> None:
        order = checkout.place()
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT") as refusal:
            checkout.payments().ProcessPayment(
                payment_ticket=order.payment_ticket, payment_token="tok_visa", timeout=0.45
            )
        assert refusal.metadata == {"minimum_seconds": "0.5"}
        assert checkout.payment_history(order.id) == []
