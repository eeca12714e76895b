"""Cancelling an order: nobody pays for it any more, or it has been paid."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from tests.assertions import refused
from tests.builders import new_key
from tests.checkout import Checkout
from tests.system.checkouts import Checkouts
from tests.system.simultaneously import wait_until
from tests.system.unknown_outcomes import (
    LOST,
    TOTAL,
    outcome_unknown,
)


class TestCancelOrder:
    @pytest.mark.requirement("FR-219", "FR-111")
    def test_ends_the_ticket(self, checkout: Checkout) -> None:
        order = checkout.place()
        cancelled = checkout.cancel(order)
        assert cancelled.payment_ticket == ""
        payment = checkout.process(order)
        assert payment.status == payment_pb2.PAYMENT_STATUS_VOIDED
        assert payment.void_reason == payment_pb2.VOID_REASON_ORDER_SEALED
        assert checkout.ledger.requests(order.id) == 0

    @pytest.mark.requirement("FR-220")
    def test_that_finds_the_money_makes_the_order_paid(self, checkout: Checkout) -> None:
        order = checkout.place()
        payment = checkout.process(order)
        request = {"idempotency_key": new_key(), "order_id": order.id}
        for attempt in range(2):
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION") as refusal:
                checkout.orders().CancelOrder(**request)
            assert refusal.metadata["current_status"] == "paid"
            assert refusal.is_replayed == bool(attempt)
        assert checkout.order(order.id).payment_transaction_id == payment.id
        assert checkout.events(order.id) == [
            "order_created",
            "order_paid",
            "invalid_transition_attempted",
        ]

    @pytest.mark.requirement("FR-220", "FR-112")
    def test_after_a_declined_payment_is_an_ordinary_one(self, checkout: Checkout) -> None:
        order = checkout.place()
        checkout.process(order, "tok_chargeDeclined")
        assert checkout.cancel(order).status == order_pb2.ORDER_STATUS_CANCELLED

    @pytest.mark.requirement("FR-220", "FR-112")
    @pytest.mark.parametrize("token", LOST)
    def test_that_finds_a_pending_payment_asks_the_gateway_about_it(
        self, checkout: Checkout, token: str
    ) -> None:
        order = checkout.place()
        assert checkout.process(order, token).status == payment_pb2.PAYMENT_STATUS_PENDING
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            checkout.cancel(order)
        assert checkout.order(order.id).status == order_pb2.ORDER_STATUS_PAID
        assert checkout.ledger.charges(order.id) == [TOTAL]

    @pytest.mark.requirement("FR-220")
    def test_that_finds_a_payment_at_the_gateway_stays_under_way(
        self, checkouts: Checkouts
    ) -> None:
        with (
            checkouts.running(payment_gateway_slow_seconds=3) as checkout,
            ThreadPoolExecutor(1) as other,
        ):
            order = checkout.place()
            request = {"idempotency_key": new_key(), "order_id": order.id}
            processing = other.submit(checkout.process, order, "tok_slow")
            wait_until(lambda: bool(checkout.payment_history(order.id)))

            refusal = outcome_unknown(checkout, "CancelOrder", request)
            assert refusal.metadata == {"order_id": order.id, "operation": "cancel"}
            pending = checkout.order(order.id).pending_operation
            assert pending.kind == order_pb2.PAYMENT_OPERATION_KIND_CANCEL
            with refused(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS") as busy:
                checkout.pay(order)
            assert busy.metadata == {"order_id": order.id, "operation": "cancel"}

            payment = processing.result()
            assert payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
                checkout.orders().CancelOrder(**request)
            assert checkout.order(order.id).payment_transaction_id == payment.id
            assert checkout.ledger.charges(order.id) == [TOTAL]
