"""Paying for an order, in one call and in two: money is taken once, for the right order."""

from typing import Any

import grpc
import pytest

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from payment_service.gateways.simulated_tokens import TOKENS
from tests.assertions import refused
from tests.builders import new_key
from tests.checkout import Checkout
from tests.client import ALICE, BOB, OPERATIONS, SHOP
from tests.system.checkouts import Checkouts
from tests.system.unknown_outcomes import (
    LOST,
    TOTAL,
    outcome_unknown,
    pay_request,
)

DECLINED = {name: t.charge_decline_code for name, t in TOKENS.items() if t.charge_decline_code}
APPROVED = [name for name in TOKENS if name not in DECLINED and name not in LOST]


class TestPayOrder:
    @pytest.mark.requirement("FR-211", "FR-125")
    @pytest.mark.parametrize("token", APPROVED)
    def test_charges_the_total_once(self, checkout: Checkout, token: str) -> None:
        order = checkout.place()
        paid = checkout.pay(order, token)
        assert paid.status == order_pb2.ORDER_STATUS_PAID
        assert not paid.payment_ticket
        payment = checkout.payment(paid.payment_transaction_id)
        assert payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
        assert (payment.order_id, payment.amount) == (order.id, order.total_amount)
        assert checkout.ledger.charges(order.id) == [TOTAL]
        assert checkout.events(order.id) == ["order_created", "order_paid"]

    @pytest.mark.requirement("FR-212", "FR-103", "FR-125")
    @pytest.mark.parametrize(("token", "decline_code"), DECLINED.items())
    def test_that_is_declined_takes_nothing_and_lets_another_key_try(
        self, checkout: Checkout, token: str, decline_code: str
    ) -> None:
        order = checkout.place()
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_DECLINED") as refusal:
            checkout.pay(order, token)
        payment = checkout.payment(refusal.metadata["payment_id"])
        assert refusal.metadata == {
            "order_id": order.id,
            "payment_id": payment.id,
            "decline_code": decline_code,
        }
        assert payment.status == payment_pb2.PAYMENT_STATUS_FAILED
        assert payment.decline_code == decline_code
        assert checkout.ledger.charges(order.id) == []
        assert checkout.order(order.id).status == order_pb2.ORDER_STATUS_CREATED
        assert checkout.order(order.id).etag == order.etag
        checkout.pay(order)
        assert checkout.ledger.charges(order.id) == [TOTAL]
        assert checkout.events(order.id) == ["order_created", "payment_failed", "order_paid"]

    @pytest.mark.requirement("FR-213", "FR-105")
    @pytest.mark.parametrize("token", LOST)
    def test_whose_answer_is_lost_finds_out_with_the_same_key(
        self, each_checkout: Checkout, token: str
    ) -> None:
        checkout, order = each_checkout, each_checkout.place()
        request = pay_request(order, token)
        refusal = outcome_unknown(checkout, "PayOrder", request)
        assert refusal.metadata == {"order_id": order.id, "operation": "charge"}
        pending = checkout.order(order.id)
        assert pending.pending_operation.kind == order_pb2.PAYMENT_OPERATION_KIND_CHARGE
        assert pending.pending_operation.start_time.ToDatetime() >= order.create_time.ToDatetime()
        assert (pending.status, pending.etag) == (order.status, order.etag)

        first = checkout.orders().answer("PayOrder", **request)
        again = checkout.orders().answer("PayOrder", **request)
        assert first.message.order.status == order_pb2.ORDER_STATUS_PAID
        assert again.body == first.body
        assert (first.replayed, again.replayed) == (False, True)
        assert checkout.ledger.charges(order.id) == [TOTAL]
        assert not checkout.order(order.id).HasField("pending_operation")
        assert checkout.events(order.id) == ["order_created", "order_paid"]

    @pytest.mark.requirement("FR-213", "FR-234")
    def test_that_the_caller_does_not_wait_for_is_settled_all_the_same(
        self, checkouts: Checkouts
    ) -> None:
        """A slow gateway, an impatient caller: the handler goes on and writes it down."""
        with checkouts.running(payment_gateway_slow_seconds=1.5) as checkout:
            order = checkout.place()
            request = pay_request(order, "tok_slow")
            with pytest.raises(grpc.RpcError):
                checkout.orders().PayOrder(**request, timeout=1.1)
            first = checkout.orders().answer("PayOrder", **request)
            assert first.message.order.status == order_pb2.ORDER_STATUS_PAID
            assert checkout.ledger.charges(order.id) == [TOTAL]

    @pytest.mark.requirement("FR-215", "FR-107")
    def test_with_a_token_that_nobody_knows_leaves_the_order_free(self, checkout: Checkout) -> None:
        order = checkout.place()
        request = pay_request(order, "tok_unheardOf")
        for _ in range(2):
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
                checkout.orders().PayOrder(**request)
            assert list(refusal.violations) == ["payment_token"]
            assert "tok_unheardOf" not in str(refusal.status)
            assert not refusal.is_replayed
        # The key is bound to its fields: another token is another request.
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED"):
            checkout.orders().PayOrder(**{**request, "payment_token": "tok_visa"})
        checkout.pay(order)
        assert checkout.ledger.charges(order.id) == [TOTAL]

    @pytest.mark.requirement("FR-214", "FR-104")
    def test_of_an_order_that_was_paid_directly_waits_for_the_payment_to_be_marked(
        self, checkout: Checkout
    ) -> None:
        order = checkout.place()
        payment = checkout.process(order)
        request = pay_request(order)
        for _ in range(2):
            with refused(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS") as refusal:
                checkout.orders().PayOrder(**request)
            assert refusal.metadata == {"order_id": order.id, "operation": "charge"}
            assert refusal.retry_seconds > 0
        checkout.orders().MarkOrderPaid(order_id=order.id, transaction_id=payment.id)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            checkout.orders().PayOrder(**request)
        assert checkout.order(order.id).payment_transaction_id == payment.id
        assert checkout.ledger.charges(order.id) == [TOTAL]


class TestMarkOrderPaid:
    def mark(
        self, checkout: Checkout, order: order_pb2.Order, transaction_id: str, **fields: Any
    ) -> order_pb2.Order:
        caller = fields.pop("caller", ALICE)
        response = checkout.orders(caller).MarkOrderPaid(
            order_id=order.id, transaction_id=transaction_id, **fields
        )
        marked: order_pb2.Order = response.order
        return marked

    @pytest.mark.requirement("FR-217")
    def test_by_the_same_payment_again_is_ok_in_whatever_later_status(
        self, checkout: Checkout
    ) -> None:
        order = checkout.place()
        payment = checkout.process(order)
        paid = self.mark(checkout, order, payment.id)
        assert self.mark(checkout, order, payment.id) == paid
        fulfilled = checkout.fulfill(order)
        assert self.mark(checkout, order, payment.id) == fulfilled
        archived = checkout.archive(order)
        assert self.mark(checkout, order, payment.id) == archived
        assert checkout.events(order.id).count("order_paid") == 1
        assert len(checkout.history(order.id)) == 4

    @pytest.mark.requirement("FR-218")
    @pytest.mark.parametrize("caller", [ALICE, SHOP, OPERATIONS], ids=lambda c: c.role)
    def test_by_the_payment_of_another_order_is_a_mismatch(
        self, checkout: Checkout, caller: Any
    ) -> None:
        order, payment = checkout.place(), checkout.process(checkout.place())
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_MISMATCH") as refusal:
            self.mark(checkout, order, payment.id, caller=caller)
        assert refusal.metadata == {"order_id": order.id, "payment_id": payment.id}

    @pytest.mark.requirement("FR-218")
    def test_by_somebody_elses_payment_is_one_that_is_not_there(self, checkout: Checkout) -> None:
        order = checkout.place(ALICE)
        payment = checkout.process(checkout.place(BOB), caller=BOB)
        with refused(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND") as refusal:
            self.mark(checkout, order, payment.id)
        assert refusal.resource == ("checkout.payment.v1.Payment", payment.id)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_MISMATCH"):
            self.mark(checkout, order, payment.id, caller=OPERATIONS)

    @pytest.mark.requirement("FR-218")
    def test_by_a_payment_that_took_nothing_is_refused(self, checkout: Checkout) -> None:
        order = checkout.place()
        failed = checkout.process(order, "tok_chargeDeclined")
        live = checkout.process(order)
        voided = checkout.process(order)
        for payment, status in ((failed, "failed"), (voided, "voided")):
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_NOT_SUCCEEDED") as refusal:
                self.mark(checkout, order, payment.id)
            assert refusal.metadata == {"payment_id": payment.id, "status": status}
        assert self.mark(checkout, order, live.id).payment_transaction_id == live.id

    @pytest.mark.requirement("FR-218")
    def test_by_a_pending_payment_has_to_wait(self, checkout: Checkout) -> None:
        order, key = checkout.place(), new_key()
        fields = {
            "idempotency_key": new_key(),
            "payment_ticket": order.payment_ticket,
            "payment_token": "tok_timeoutAfterCharge",
        }
        payment = checkout.payments().ProcessPayment(**fields).payment
        with refused(grpc.StatusCode.ABORTED, "PAYMENT_IN_PROGRESS"):
            self.mark(checkout, order, payment.id, idempotency_key=key)
        checkout.payments().ProcessPayment(**fields)
        paid = self.mark(checkout, order, payment.id, idempotency_key=key)
        assert paid.status == order_pb2.ORDER_STATUS_PAID

    @pytest.mark.requirement("FR-218")
    def test_by_an_unknown_payment_is_not_found(self, checkout: Checkout) -> None:
        with refused(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND"):
            self.mark(checkout, checkout.place(), "pay_unknown", caller=OPERATIONS)

    @pytest.mark.requirement("FR-218")
    def test_by_another_payment_of_a_paid_order_is_refused(self, checkout: Checkout) -> None:
        order = checkout.paid()
        other = checkout.process(checkout.place())
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            self.mark(checkout, order, other.id)
