"""Give money back."""

import pytest

from order_service.domain.errors import PaymentOutcomeUnknown, RefundInProgress
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import OrderStatus
from service_kit.errors import InvalidRequest
from tests.builders import money, new_key
from tests.integration.order_service.desk import Desk, ok, refusal
from tests.integration.order_service.scripted_payments import Gateway
from tests.unit.order_service.builders import OLGA, eur


@pytest.mark.requirement("FR-222")
class TestRefundOrder:
    def test_of_a_part_leaves_the_order_paid(self, desk: Desk) -> None:
        order = desk.place_paid(4000)
        shown = ok(desk.refund(order, 1500))

        now = desk.order(order.id)
        assert (now.status, now.refunded, now.etag) == (OrderStatus.PAID, eur(1500), order.etag)
        assert (shown.refunded_amount, shown.etag) == (money(1500), order.etag)
        assert desk.payments.given_back(order.payment_id) == 1500
        entry = desk.history(order)[-1]
        assert (entry.event_type.value, entry.actor) == ("order_partially_refunded", OLGA)
        assert (entry.from_status, entry.to_status) == ("paid", "paid")

    def test_of_part_after_part_ends_in_refunded(self, desk: Desk) -> None:
        order = desk.place_paid(4000)
        for part in (1500, 2000, 500):
            ok(desk.refund(order, part))

        assert desk.status(order) is OrderStatus.REFUNDED
        assert desk.payments.given_back(order.payment_id) == 4000
        assert [o.status for o in desk.operations(order)] == ["succeeded"] * 4
        assert desk.events(order)[2:] == [
            "order_partially_refunded",
            "order_partially_refunded",
            "order_refunded",
        ]

    def test_without_an_amount_gives_back_all_that_is_left(self, desk: Desk) -> None:
        order = desk.place_paid(4000)
        ok(desk.refund(order, 1))
        ok(desk.refund(order))

        assert desk.status(order) is OrderStatus.REFUNDED
        assert [o.amount_minor for o in desk.operations(order)] == [None, 1, 3999]

    def test_of_more_than_is_left_is_refused_for_good(self, desk: Desk) -> None:
        order, key = desk.place_paid(4000), new_key()
        ok(desk.refund(order, 1500))
        calls = len(desk.payments.calls)
        reply = desk.refund(order, 2501, key=key)

        assert refusal(reply, "REFUND_EXCEEDS_PAYMENT").metadata == {
            "payment_id": order.payment_id,
            "currency_code": "EUR",
            "refundable_minor_units": "2500",
            "requested_minor_units": "2501",
        }
        assert desk.events(order)[-1] == "refund_refused"
        assert desk.refund(order, 2501, key=key).body == reply.body
        assert len(desk.payments.calls) == calls

    def test_in_another_currency_is_a_mistake_and_not_stored(self, desk: Desk) -> None:
        order, key = desk.place_paid(4000), new_key()

        with pytest.raises(InvalidRequest) as refused:
            desk.refund(order, 1, key=key, currency="USD")
        assert [v.field for v in refused.value.violations] == ["amount.currency_code"]
        assert desk.key(key) is None
        ok(desk.refund(order, 1, key=key))

    def test_believes_the_payment_service_about_what_is_left(self, desk: Desk) -> None:
        order = desk.place_paid(4000)
        desk.payments.alter(desk.operations(order)[0].id, amount=eur(1000))

        refused = refusal(desk.refund(order, 1001), "REFUND_EXCEEDS_PAYMENT")
        assert refused.metadata["refundable_minor_units"] == "1000"
        assert desk.order(order.id).pending is None
        assert desk.order(order.id).refunded == eur(0)


@pytest.mark.requirement("FR-223")
class TestDecline:
    def test_is_final_for_its_key_and_gives_nothing_back(self, desk: Desk) -> None:
        order, key = desk.place_paid(), new_key()
        desk.payments.gateway_then(Gateway.DECLINES)
        reply = desk.refund(order, 1500, key=key)

        declined = refusal(reply, "REFUND_DECLINED")
        assert declined.metadata["decline_code"] == "insufficient_funds"
        assert desk.refund(order, 1500, key=key).body == reply.body
        now = desk.order(order.id)
        assert (now.status, now.refunded, now.pending) == (OrderStatus.PAID, eur(0), None)
        entry = desk.history(order)[-1]
        assert (entry.event_type.value, entry.reason) == ("refund_failed", "REFUND_DECLINED")
        assert entry.payment_id == order.payment_id

    def test_leaves_the_amount_free_for_another_try(self, desk: Desk) -> None:
        order = desk.place_paid(4000)
        desk.payments.gateway_then(Gateway.DECLINES)
        refusal(desk.refund(order, 4000), "REFUND_DECLINED")

        ok(desk.refund(order, 4000))
        assert desk.status(order) is OrderStatus.REFUNDED


@pytest.mark.requirement("FR-223")
class TestUnknownOutcome:
    @pytest.mark.parametrize("cause", ["gateway is silent", "answer is lost"])
    def test_goes_on_with_the_same_operation_and_the_same_amount(
        self, desk: Desk, cause: str
    ) -> None:
        order, key = desk.place_paid(4000), new_key()
        ok(desk.refund(order, 1000))
        if cause == "gateway is silent":
            desk.payments.gateway_then(Gateway.IS_SILENT)
        else:
            desk.payments.lose_next_answer()

        with pytest.raises(PaymentOutcomeUnknown) as unknown:
            desk.refund(order, key=key)
        assert unknown.value.operation == "refund"
        pending = desk.order(order.id).pending
        assert pending is not None
        assert (pending.kind, pending.amount) == (OperationKind.REFUND, eur(3000))

        ok(desk.refund(order, key=key))
        assert desk.payments.asked("refund")[1:] == [pending.id] * 2
        assert desk.payments.given_back(order.payment_id) == 4000
        assert desk.status(order) is OrderStatus.REFUNDED

    def test_keeps_other_refunds_and_delivery_waiting(self, desk: Desk) -> None:
        order = desk.place_paid(4000)
        desk.payments.gateway_then(Gateway.IS_SILENT)
        with pytest.raises(PaymentOutcomeUnknown):
            desk.refund(order, 1000)

        with pytest.raises(RefundInProgress):
            desk.refund(order, 1000)
        with pytest.raises(RefundInProgress):
            desk.fulfill(order)

    def test_keeps_even_an_amount_that_is_too_much_from_being_refused_for_good(
        self, desk: Desk
    ) -> None:
        order, key = desk.place_paid(4000), new_key()
        desk.payments.gateway_then(Gateway.IS_SILENT)
        with pytest.raises(PaymentOutcomeUnknown):
            desk.refund(order, 1000)

        # What is left is not certain before the other one is over.
        with pytest.raises(RefundInProgress):
            desk.refund(order, 4001, key=key)
        assert desk.key(key) is None
