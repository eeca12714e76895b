"""A payment that was made without the order service, trusting nobody."""

from typing import Any

import pytest

from order_service.domain.errors import (
    OrderNotFound,
    PaymentInProgress,
    PaymentNotFound,
    PaymentOutcomeUnknown,
    PaymentServiceUnavailable,
)
from order_service.domain.money import Money
from order_service.domain.state_machine import OrderStatus
from tests.builders import new_key
from tests.integration.order_service.desk import Desk, ok, refusal
from tests.integration.order_service.scripted_payments import Gateway
from tests.unit.order_service.builders import OLGA, SHOP, eur


@pytest.mark.requirement("FR-217")
class TestMarkOrderPaid:
    def test_marks_the_order_paid_by_a_payment_that_succeeded(self, desk: Desk) -> None:
        order = desk.place()
        payment_id = desk.payments.paid_directly(order)
        shown = ok(desk.mark_paid(order, payment_id))

        now = desk.order(order.id)
        assert (now.status, now.payment_id) == (OrderStatus.PAID, payment_id)
        assert shown == desk.codec.order(now)
        assert desk.payments.calls == [("get", "", payment_id)]
        assert desk.events(order) == ["order_created", "order_paid"]
        assert desk.history(order)[-1].payment_id == payment_id

    @pytest.mark.parametrize(
        "status",
        [OrderStatus.PAID, OrderStatus.FULFILLED, OrderStatus.ARCHIVED, OrderStatus.REFUNDED],
    )
    def test_of_an_order_that_it_has_paid_already_says_how_it_stands(
        self, desk: Desk, status: OrderStatus
    ) -> None:
        order = desk.place()
        payment_id = desk.payments.paid_directly(order)
        ok(desk.mark_paid(order, payment_id))
        if status is OrderStatus.REFUNDED:
            ok(desk.refund(order))
        if status in (OrderStatus.FULFILLED, OrderStatus.ARCHIVED):
            ok(desk.fulfill(order))
        if status is OrderStatus.ARCHIVED:
            ok(desk.archive(order))
        events, calls = desk.events(order), len(desk.payments.calls)

        assert ok(desk.mark_paid(order, payment_id)) == desk.codec.order(desk.order(order.id))
        assert desk.status(order) is status
        assert (desk.events(order), len(desk.payments.calls)) == (events, calls)

    def test_accepts_what_pay_order_has_charged(self, desk: Desk) -> None:
        order = desk.place_paid()

        ok(desk.mark_paid(order, order.payment_id))
        assert desk.events(order) == ["order_created", "order_paid"]

    def test_looks_again_after_the_payment_service_has_answered(self, desk: Desk) -> None:
        order = desk.place()
        payment_id = desk.payments.paid_directly(order)
        desk.payments.after_next(lambda: ok(desk.mark_paid(order, payment_id)))

        ok(desk.mark_paid(order, payment_id))
        assert desk.events(order) == ["order_created", "order_paid"]

    def test_finds_the_order_changed_after_the_payment_service_has_answered(
        self, desk: Desk
    ) -> None:
        order = desk.place()
        first, second = (desk.payments.paid_directly(order) for _ in range(2))
        desk.payments.after_next(lambda: ok(desk.mark_paid(order, first)))

        refusal(desk.mark_paid(order, second), "INVALID_TRANSITION")
        assert desk.order(order.id).payment_id == first


@pytest.mark.requirement("FR-218")
class TestTrustsNobody:
    @pytest.mark.parametrize(
        "wrong",
        [{"order_id": "ord_other"}, {"amount": eur(3999)}, {"amount": Money("USD", 4000)}],
        ids=["order", "amount", "currency"],
    )
    def test_about_what_the_payment_is_for(self, desk: Desk, wrong: dict[str, Any]) -> None:
        order, key = desk.place(), new_key()
        payment_id = desk.payments.paid_directly(order, **wrong)
        reply = desk.mark_paid(order, payment_id, key=key)

        assert refusal(reply, "PAYMENT_MISMATCH").metadata == {
            "order_id": order.id,
            "payment_id": payment_id,
        }
        assert desk.status(order) is OrderStatus.CREATED
        entry = desk.history(order)[-1]
        assert (entry.event_type.value, entry.payment_id) == ("payment_refused", payment_id)
        assert desk.mark_paid(order, payment_id, key=key).body == reply.body

    @pytest.mark.parametrize("status", ["failed", "voided"])
    def test_about_how_the_payment_ended(self, desk: Desk, status: str) -> None:
        order = desk.place()
        payment_id = desk.payments.paid_directly(order, status)

        refused = refusal(desk.mark_paid(order, payment_id), "PAYMENT_NOT_SUCCEEDED")
        assert refused.metadata == {"payment_id": payment_id, "status": status}
        assert desk.events(order) == ["order_created", "payment_refused"]

    def test_waits_for_a_payment_that_is_pending(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        payment_id = desk.payments.paid_directly(order, "pending")

        with pytest.raises(PaymentInProgress):
            desk.mark_paid(order, payment_id, key=key)
        assert desk.key(key) is None
        desk.payments.ends(payment_id, "succeeded")
        ok(desk.mark_paid(order, payment_id, key=key))

    def test_does_not_find_a_payment_that_does_not_exist(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()

        with pytest.raises(PaymentNotFound) as refused:
            desk.mark_paid(order, "pay_none", key=key)
        assert refused.value.payment_id == "pay_none"
        assert desk.key(key) is None
        assert desk.events(order) == ["order_created"]

    def test_does_not_show_a_customer_that_somebody_elses_payment_exists(self, desk: Desk) -> None:
        order = desk.place()
        payment_id = desk.payments.paid_directly(order, customer_id="bob", order_id="ord_of_bob")

        with pytest.raises(PaymentNotFound):
            desk.mark_paid(order, payment_id)
        for caller in (SHOP, OLGA):
            refusal(desk.mark_paid(order, payment_id, by=caller), "PAYMENT_MISMATCH")

    @pytest.mark.requirement("FR-226")
    def test_of_somebody_elses_order_finds_nothing(self, desk: Desk) -> None:
        order = desk.place(by=SHOP, customer_id="bob")
        payment_id = desk.payments.paid_directly(order)

        with pytest.raises(OrderNotFound):
            desk.mark_paid(order, payment_id)
        assert desk.payments.calls == []

    def test_does_not_pay_twice(self, desk: Desk) -> None:
        order = desk.place_paid()
        another = desk.payments.paid_directly(order)
        calls = len(desk.payments.calls)

        refused = refusal(desk.mark_paid(order, another), "INVALID_TRANSITION")
        assert refused.metadata["current_status"] == "paid"
        assert desk.events(order)[-1] == "invalid_transition_attempted"
        assert len(desk.payments.calls) == calls

    def test_does_not_pay_for_what_was_given_up(self, desk: Desk) -> None:
        order = desk.place()
        ok(desk.cancel(order))
        payment_id = desk.payments.paid_directly(order)

        refused = refusal(desk.mark_paid(order, payment_id), "INVALID_TRANSITION")
        assert refused.metadata["allowed"] == ""
        assert desk.status(order) is OrderStatus.CANCELLED

    def test_waits_for_what_is_under_way_before_it_asks(self, desk: Desk) -> None:
        order = desk.place()
        desk.payments.gateway_then(Gateway.IS_SILENT)
        with pytest.raises(PaymentOutcomeUnknown):
            desk.pay(order)
        payment_id = desk.payments.paid_directly(order)

        with pytest.raises(PaymentInProgress):
            desk.mark_paid(order, payment_id)
        assert desk.payments.asked("get") == []

    @pytest.mark.requirement("FR-234")
    def test_starts_nothing_when_the_payment_service_does_not_answer(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        payment_id = desk.payments.paid_directly(order)
        desk.payments.lose_next_answer()

        with pytest.raises(PaymentServiceUnavailable):
            desk.mark_paid(order, payment_id, key=key)
        assert (desk.key(key), desk.status(order)) == (None, OrderStatus.CREATED)
