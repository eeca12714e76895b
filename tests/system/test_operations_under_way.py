"""A charge, a cancellation or a refund whose outcome is not known yet."""

from datetime import timedelta
from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2
from tests.assertions import refused
from tests.builders import money, new_key
from tests.checkout import Checkout
from tests.client import OPERATIONS
from tests.system.checkouts import Checkouts
from tests.system.simultaneously import final_outcome
from tests.system.unknown_outcomes import (
    LOST,
    TOTAL,
    left_pending,
    outcome_unknown,
    pay_request,
)


@pytest.mark.requirement("FR-216")
class TestWhileAnOperationIsUnderWay:
    @pytest.mark.parametrize("rpc", ["PayOrder", "CancelOrder", "MarkOrderPaid"])
    def test_a_charge_keeps_other_money_calls_waiting(self, checkout: Checkout, rpc: str) -> None:
        order = left_pending(checkout)
        fields: dict[str, Any] = {"order_id": order.id}
        if rpc == "PayOrder":
            fields["payment_token"] = "tok_visa"
        if rpc == "MarkOrderPaid":
            fields["transaction_id"] = "pay_1"
        with refused(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS") as refusal:
            checkout.orders().answer(rpc, **fields)
        assert refusal.metadata == {"order_id": order.id, "operation": "charge"}
        assert refusal.retry_seconds > 0
        assert checkout.order(order.id) == order
        assert checkout.events(order.id) == ["order_created"]

    @pytest.mark.parametrize("rpc", ["RefundOrder", "FulfillOrder"])
    def test_a_refund_keeps_refunds_and_fulfilment_waiting(
        self, checkout: Checkout, rpc: str
    ) -> None:
        order = checkout.paid("tok_refundTimeoutAfter")
        refund = {"idempotency_key": new_key(), "order_id": order.id, "amount": money(1000)}
        outcome_unknown(checkout, "RefundOrder", refund)
        pending = checkout.order(order.id).pending_operation
        assert pending.kind == order_pb2.PAYMENT_OPERATION_KIND_REFUND
        client = checkout.orders(OPERATIONS)
        with refused(grpc.StatusCode.ABORTED, "REFUND_IN_PROGRESS") as refusal:
            client.answer(rpc, order_id=order.id)
        assert refusal.metadata == {"order_id": order.id}
        assert refusal.retry_seconds > 0

    def test_a_call_that_the_status_forbids_is_told_so_at_once(self, checkout: Checkout) -> None:
        order = left_pending(checkout)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            checkout.fulfill(order)

    @pytest.mark.parametrize("token", LOST)
    def test_one_that_was_left_behind_is_settled_by_the_call_that_meets_it(
        self, checkouts: Checkouts, token: str
    ) -> None:
        with checkouts.running() as checkout:
            order = left_pending(checkout, token)
            checkout.clock.move(timedelta(seconds=1))
            with refused(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS"):
                checkout.cancel(order)
            checkout.clock.move(timedelta(seconds=5))
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
                checkout.cancel(order)
            assert checkout.order(order.id).status == order_pb2.ORDER_STATUS_PAID
            assert checkout.ledger.charges(order.id) == [TOTAL]
            assert checkout.events(order.id) == [
                "order_created",
                "order_paid",
                "invalid_transition_attempted",
            ]

    def test_the_key_of_one_that_others_settled_gets_its_final_reply(
        self, checkouts: Checkouts
    ) -> None:
        with checkouts.running() as checkout:
            order = checkout.place()
            request = pay_request(order, "tok_timeoutAfterCharge")
            outcome_unknown(checkout, "PayOrder", request)
            checkout.clock.move(timedelta(seconds=6))
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
                checkout.cancel(order)
            answer = checkout.orders().answer("PayOrder", **request)
            assert answer.replayed
            assert answer.message.order.status == order_pb2.ORDER_STATUS_PAID
            assert answer.message.order == checkout.order(order.id)

    def test_a_refund_that_was_left_behind_is_settled_before_the_goods_leave(
        self, checkouts: Checkouts
    ) -> None:
        with checkouts.running() as checkout:
            order = checkout.paid("tok_refundTimeoutAfter")
            refund = {"idempotency_key": new_key(), "order_id": order.id, "amount": money(1000)}
            outcome_unknown(checkout, "RefundOrder", refund)
            checkout.clock.move(timedelta(seconds=6))
            fulfilled = checkout.fulfill(order)
            assert fulfilled.refunded_amount == money(1000)
            assert checkout.ledger.refunds(order.id) == [1000]


@pytest.mark.requirement("FR-213", "FR-234")
class TestAPaymentServiceThatIsStopped:
    def test_is_unknown_or_unavailable_and_the_same_key_finds_out(
        self, checkouts: Checkouts
    ) -> None:
        with checkouts.running() as checkout:
            orders = [checkout.place() for _ in range(3)]
            checkout.stop_payments()
            requests = [pay_request(order) for order in orders]
            for request in requests:
                with pytest.raises(grpc.RpcError) as raised:
                    checkout.orders().PayOrder(**request)
                assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            assert all(checkout.ledger.charges(order.id) == [] for order in orders)
            checkout.start_payments()
            for request, order in zip(requests, orders, strict=True):
                paid = self.paid_soon(checkout, request)
                assert paid.id == order.id
                assert checkout.ledger.charges(order.id) == [TOTAL]

    def test_is_known_to_be_unavailable_before_anything_is_started(
        self, checkouts: Checkouts
    ) -> None:
        with checkouts.running() as checkout:
            first, second = checkout.place(), checkout.place()
            checkout.stop_payments()
            with pytest.raises(grpc.RpcError):
                checkout.pay(first)
            for start in (checkout.pay, checkout.cancel):
                with refused(grpc.StatusCode.UNAVAILABLE, "PAYMENT_SERVICE_UNAVAILABLE"):
                    start(second)
            assert not checkout.order(second.id).HasField("pending_operation")

    def test_lets_everything_else_go_on(self, checkouts: Checkouts) -> None:
        with checkouts.running() as checkout:
            order = checkout.paid()
            checkout.stop_payments()
            checkout.place()
            assert checkout.fulfill(order).status == order_pb2.ORDER_STATUS_FULFILLED

    @staticmethod
    def paid_soon(checkout: Checkout, request: dict[str, Any]) -> order_pb2.Order:
        outcome = final_outcome(lambda: checkout.orders().answer("PayOrder", **request))
        assert not isinstance(outcome, grpc.RpcError)
        order: order_pb2.Order = outcome.message.order
        return order
