"""Give an order up, and make sure that nobody pays for it any more."""

import pytest

from order_service.domain.errors import (
    PaymentInProgress,
    PaymentOutcomeUnknown,
    PaymentServiceUnavailable,
)
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import OrderStatus
from tests.builders import new_key
from tests.integration.order_service.desk import Desk, ok, refusal
from tests.integration.order_service.scripted_payments import Gateway


@pytest.mark.requirement("FR-219")
class TestCancelOrder:
    def test_seals_the_orders_payments_and_then_cancels_it(self, desk: Desk) -> None:
        order = desk.place()
        cancelled = ok(desk.cancel(order))

        [operation] = desk.operations(order)
        assert (operation.kind, operation.status) == ("cancel", "succeeded")
        assert desk.payments.calls == [("seal", operation.id, order.id)]
        assert (desk.status(order), cancelled.payment_ticket) == (OrderStatus.CANCELLED, "")
        assert desk.events(order) == ["order_created", "order_cancelled"]

    def test_takes_a_payment_that_failed_for_none(self, desk: Desk) -> None:
        order = desk.place()
        desk.payments.paid_directly(order, "failed")
        desk.payments.paid_directly(order, "voided")

        ok(desk.cancel(order))
        assert desk.status(order) is OrderStatus.CANCELLED

    def test_is_not_started_while_the_payment_service_is_down(self, desk: Desk) -> None:
        order = desk.place()
        desk.payments.available = False

        with pytest.raises(PaymentServiceUnavailable):
            desk.cancel(order)
        assert desk.operations(order) == []


@pytest.mark.requirement("FR-220")
class TestSucceededPayment:
    def test_pays_for_the_order_instead(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        payment_id = desk.payments.paid_directly(order)
        reply = desk.cancel(order, key=key)

        refused = refusal(reply, "INVALID_TRANSITION")
        assert refused.metadata["current_status"] == "paid"
        assert (refused.metadata["attempted"], refused.metadata["allowed"]) == (
            "cancel",
            "fulfill,refund",
        )
        now = desk.order(order.id)
        assert (now.status, now.payment_id, now.pending) == (OrderStatus.PAID, payment_id, None)
        [operation] = desk.operations(order)
        assert operation.status == "failed"
        assert desk.cancel(order, key=key).body == reply.body

    def test_is_in_the_history_with_the_refusal(self, desk: Desk) -> None:
        order = desk.place()
        payment_id = desk.payments.paid_directly(order)
        desk.cancel(order)

        _, paid, refused = desk.history(order)
        assert (paid.event_type.value, paid.from_status, paid.to_status) == (
            "order_paid",
            "created",
            "paid",
        )
        assert (refused.event_type.value, refused.reason) == (
            "invalid_transition_attempted",
            "INVALID_TRANSITION",
        )
        assert (refused.from_status, refused.to_status) == ("paid", "paid")
        assert paid.payment_id == refused.payment_id == payment_id


@pytest.mark.requirement("FR-220")
class TestPendingPayment:
    def test_keeps_the_cancellation_under_way(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.paid_directly(order, "pending")
        desk.payments.gateway_then(Gateway.IS_SILENT)

        with pytest.raises(PaymentOutcomeUnknown) as unknown:
            desk.cancel(order, key=key)
        assert unknown.value.operation == "cancel"
        pending = desk.order(order.id).pending
        assert pending is not None
        assert pending.kind is OperationKind.CANCEL
        with pytest.raises(PaymentInProgress):
            desk.pay(order)
        with pytest.raises(PaymentInProgress):
            desk.cancel(order)

    @pytest.mark.parametrize(
        ("gateway", "status"),
        [(Gateway.DECLINES, OrderStatus.CANCELLED), (Gateway.APPROVES, OrderStatus.PAID)],
    )
    def test_decides_once_it_is_final(
        self, desk: Desk, gateway: Gateway, status: OrderStatus
    ) -> None:
        order, key = desk.place(), new_key()
        desk.payments.paid_directly(order, "pending")
        desk.payments.gateway_then(Gateway.IS_SILENT, gateway)
        with pytest.raises(PaymentOutcomeUnknown):
            desk.cancel(order, key=key)

        reply = desk.cancel(order, key=key)
        assert reply.ok is (status is OrderStatus.CANCELLED)
        assert desk.status(order) is status
        [operation] = desk.operations(order)
        assert desk.payments.asked("seal") == [operation.id] * 2
