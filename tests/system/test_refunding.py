"""Giving money back: in parts, never more than was taken, never twice."""

from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from tests.assertions import refused
from tests.builders import money, new_key
from tests.checkout import Checkout
from tests.client import OPERATIONS
from tests.system.unknown_outcomes import (
    TOTAL,
    outcome_unknown,
)


class TestRefundOrder:
    @pytest.mark.requirement("FR-222", "FR-116")
    def test_in_parts_leaves_the_order_paid_until_all_is_back(
        self, each_checkout: Checkout
    ) -> None:
        checkout, order = each_checkout, each_checkout.paid()
        once = checkout.refund(order, money(1500))
        assert once.status == order_pb2.ORDER_STATUS_PAID
        assert once.refunded_amount == money(1500)
        assert once.etag == order.etag
        rest = checkout.refund(order)
        assert rest.status == order_pb2.ORDER_STATUS_REFUNDED
        assert rest.refunded_amount == rest.total_amount == money(TOTAL)
        assert rest.payment_transaction_id == order.payment_transaction_id
        payment = checkout.payment(order.payment_transaction_id)
        assert payment.refunded_amount == money(TOTAL)
        assert payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
        assert checkout.ledger.refunds(order.id) == [1500, 2500]
        assert checkout.events(order.id) == [
            "order_created",
            "order_paid",
            "order_partially_refunded",
            "order_refunded",
        ]

    @pytest.mark.requirement("FR-222", "FR-117")
    def test_of_more_than_is_left_says_how_much_that_is(self, checkout: Checkout) -> None:
        order = checkout.paid()
        checkout.refund(order, money(1500))
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "REFUND_EXCEEDS_PAYMENT") as refusal:
            checkout.refund(order, money(2501))
        assert refusal.metadata == {
            "payment_id": order.payment_transaction_id,
            "currency_code": "EUR",
            "refundable_minor_units": "2500",
            "requested_minor_units": "2501",
        }
        assert checkout.events(order.id)[-1] == "refund_refused"
        assert checkout.ledger.refunds(order.id) == [1500]

    @pytest.mark.requirement("FR-222")
    @pytest.mark.parametrize(
        "amount",
        [money(1000, "USD"), money(0), money(-1)],
        ids=["another currency", "nothing", "less"],
    )
    def test_of_an_amount_that_cannot_be_is_not_stored(
        self, checkout: Checkout, amount: Any
    ) -> None:
        order, key = checkout.paid(), new_key()
        client = checkout.orders(OPERATIONS)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            client.RefundOrder(idempotency_key=key, order_id=order.id, amount=amount)
        assert all(field.startswith("amount.") for field in refusal.violations)
        client.RefundOrder(idempotency_key=key, order_id=order.id, amount=money(1000))
        assert checkout.ledger.refunds(order.id) == [1000]

    @pytest.mark.requirement("FR-223", "FR-118")
    def test_that_is_declined_leaves_the_order_as_it_was(self, checkout: Checkout) -> None:
        order = checkout.paid("tok_refundFail")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "REFUND_DECLINED") as refusal:
            checkout.refund(order)
        assert refusal.metadata == {"order_id": order.id, "decline_code": "refund_failed"}
        now = checkout.order(order.id)
        assert (now.status, now.refunded_amount) == (order.status, money(0))
        assert not now.HasField("pending_operation")
        assert checkout.events(order.id)[-1] == "refund_failed"
        assert checkout.fulfill(order).status == order_pb2.ORDER_STATUS_FULFILLED

    @pytest.mark.requirement("FR-223", "FR-119")
    def test_whose_answer_is_lost_gives_back_once(self, each_checkout: Checkout) -> None:
        checkout, order = each_checkout, each_checkout.paid("tok_refundTimeoutAfter")
        request: dict[str, Any] = {
            "idempotency_key": new_key(),
            "order_id": order.id,
            "amount": money(1000),
        }
        refusal = outcome_unknown(checkout, "RefundOrder", request)
        assert refusal.metadata == {"order_id": order.id, "operation": "refund"}
        client = checkout.orders(OPERATIONS)
        first = client.answer("RefundOrder", **request)
        again = client.answer("RefundOrder", **request)
        assert again.body == first.body
        assert first.message.order.refunded_amount == money(1000)
        assert checkout.ledger.refunds(order.id) == [1000]

    @pytest.mark.requirement("FR-119")
    def test_that_is_slow_is_waited_for(self, checkout: Checkout) -> None:
        order = checkout.paid("tok_refundSlow")
        assert checkout.refund(order).status == order_pb2.ORDER_STATUS_REFUNDED
        assert checkout.ledger.refunds(order.id) == [TOTAL]
