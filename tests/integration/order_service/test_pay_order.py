"""Charge and mark paid, in one call."""

from typing import Any

import pytest

from order_service.domain.errors import (
    OrderNotFound,
    PaymentInProgress,
    PaymentInvariantBroken,
    PaymentOutcomeUnknown,
    PaymentServiceUnavailable,
)
from order_service.domain.money import Money
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import OrderStatus
from service_kit.errors import IdempotencyKeyReused, InvalidRequest
from tests.builders import new_key
from tests.integration.order_service.desk import Desk, ok, refusal
from tests.integration.order_service.scripted_payments import Gateway
from tests.unit.order_service.builders import ALICE, SHOP, eur


@pytest.mark.requirement("FR-211")
class TestPayOrder:
    def test_charges_the_total_once_and_marks_the_order_paid(self, desk: Desk) -> None:
        order = desk.place()
        paid = ok(desk.pay(order))

        [operation] = desk.operations(order)
        assert (operation.kind, operation.status) == ("charge", "succeeded")
        assert desk.payments.calls == [("charge", operation.id, order.id)]
        assert desk.payments.charges(order.id) == 1
        now = desk.order(order.id)
        assert (now.status, now.pending) == (OrderStatus.PAID, None)
        assert now.payment_id == paid.payment_transaction_id != ""
        assert paid == desk.codec.order(now)
        assert (paid.payment_ticket, paid.etag) == ("", "2")

    @pytest.mark.requirement("FR-228")
    def test_leaves_one_audit_entry_in_the_callers_name(self, desk: Desk) -> None:
        order = desk.place()
        ok(desk.pay(order, by=SHOP))

        _, entry = desk.history(order)
        assert (entry.event_type.value, entry.actor) == ("order_paid", SHOP)
        assert (entry.from_status, entry.to_status) == ("created", "paid")
        assert entry.payment_id == desk.order(order.id).payment_id

    @pytest.mark.requirement("FR-226")
    def test_of_somebody_elses_order_finds_nothing(self, desk: Desk) -> None:
        order = desk.place(by=SHOP, customer_id="bob")
        key = new_key()

        with pytest.raises(OrderNotFound):
            desk.pay(order, key=key)
        assert (desk.key(key), desk.payments.calls) == (None, [])


@pytest.mark.requirement("FR-212")
class TestDecline:
    def test_is_final_for_its_key_and_leaves_the_order_as_it_was(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.gateway_then(Gateway.DECLINES)
        reply = desk.pay(order, key=key)

        declined = refusal(reply, "PAYMENT_DECLINED")
        assert declined.metadata["decline_code"] == "insufficient_funds"
        now = desk.order(order.id)
        assert (now.status, now.pending, now.etag) == (OrderStatus.CREATED, None, order.etag)
        assert desk.pay(order, key=key).body == reply.body
        assert len(desk.payments.calls) == 1

    def test_is_in_the_history_with_its_payment(self, desk: Desk) -> None:
        order = desk.place()
        desk.payments.gateway_then(Gateway.DECLINES)
        declined = refusal(desk.pay(order), "PAYMENT_DECLINED")

        entry = desk.history(order)[-1]
        assert (entry.event_type.value, entry.outcome.value) == ("payment_failed", "refused")
        assert (entry.from_status, entry.to_status) == ("created", "created")
        assert entry.reason == "PAYMENT_DECLINED"
        assert entry.payment_id == declined.metadata["payment_id"] != ""

    def test_leaves_the_way_free_for_another_try(self, desk: Desk) -> None:
        order = desk.place()
        desk.payments.gateway_then(Gateway.DECLINES, Gateway.DECLINES)
        for _ in range(2):
            refusal(desk.pay(order), "PAYMENT_DECLINED")
        ok(desk.pay(order))

        assert [o.status for o in desk.operations(order)] == ["failed", "failed", "succeeded"]
        assert desk.payments.charges(order.id) == 1
        assert desk.events(order) == [
            "order_created",
            "payment_failed",
            "payment_failed",
            "order_paid",
        ]


@pytest.mark.requirement("FR-214")
class TestAnotherLivePayment:
    def test_keeps_this_one_from_starting(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.paid_directly(order, "pending")

        with pytest.raises(PaymentInProgress) as refused:
            desk.pay(order, key=key)
        assert refused.value.operation == "charge"
        assert desk.order(order.id).pending is None
        [operation] = desk.operations(order)
        assert operation.status == "voided"
        assert desk.events(order) == ["order_created"]
        assert desk.payments.charges(order.id) == 0

    def test_leaves_the_key_free_to_begin_another_operation(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        direct = desk.payments.paid_directly(order, "pending")
        with pytest.raises(PaymentInProgress):
            desk.pay(order, key=key)
        desk.payments.ends(direct, "failed")

        ok(desk.pay(order, key=key))
        voided, succeeded = desk.operations(order)
        assert (voided.status, succeeded.status) == ("voided", "succeeded")
        assert desk.payments.asked("charge") == [voided.id, succeeded.id]

    def test_leaves_the_key_bound_to_its_fields(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.paid_directly(order, "pending")
        with pytest.raises(PaymentInProgress):
            desk.pay(order, key=key)

        with pytest.raises(IdempotencyKeyReused):
            desk.pay(order, key=key, payment_token="tok_other")


@pytest.mark.requirement("FR-213")
class TestUnknownOutcome:
    @pytest.mark.parametrize("cause", ["gateway is silent", "answer is lost"])
    def test_decides_nothing_until_the_same_key_finds_out(self, desk: Desk, cause: str) -> None:
        order, key = desk.place(), new_key()
        if cause == "gateway is silent":
            desk.payments.gateway_then(Gateway.IS_SILENT)
        else:
            desk.payments.lose_next_answer()

        with pytest.raises(PaymentOutcomeUnknown) as unknown:
            desk.pay(order, key=key)
        assert (unknown.value.order_id, unknown.value.operation) == (order.id, "charge")
        now = desk.order(order.id)
        assert now.status is OrderStatus.CREATED
        assert now.pending is not None
        assert now.pending.kind is OperationKind.CHARGE
        assert desk.events(order) == ["order_created"]

        # At once: the lease was given back.
        ok(desk.pay(order, key=key))
        assert desk.payments.asked("charge") == [now.pending.id] * 2
        assert desk.payments.charges(order.id) == 1
        assert desk.events(order) == ["order_created", "order_paid"]

    def test_may_turn_out_a_decline(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.gateway_then(Gateway.IS_SILENT, Gateway.IS_SILENT, Gateway.DECLINES)
        for _ in range(2):
            with pytest.raises(PaymentOutcomeUnknown):
                desk.pay(order, key=key)

        refusal(desk.pay(order, key=key), "PAYMENT_DECLINED")
        assert desk.order(order.id).pending is None

    def test_keeps_the_key_for_its_request(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.lose_next_answer()
        with pytest.raises(PaymentOutcomeUnknown):
            desk.pay(order, key=key)

        with pytest.raises(IdempotencyKeyReused):
            desk.pay(order, key=key, payment_token="tok_other")


@pytest.mark.requirement("FR-215")
class TestRejectedFields:
    def test_are_told_and_nothing_is_stored(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.reject_next("payment_token")

        with pytest.raises(InvalidRequest) as refused:
            desk.pay(order, key=key)
        assert [violation.field for violation in refused.value.violations] == ["payment_token"]
        [operation] = desk.operations(order)
        assert operation.status == "voided"
        assert desk.payments.calls == [
            ("charge", operation.id, order.id),
            ("resolve", operation.id, order.id),
        ]
        assert desk.events(order) == ["order_created"]
        row = desk.key(key)
        assert row is not None
        assert (row.reply, row.operation_id) == (None, None)

    def test_leave_the_order_free(self, desk: Desk) -> None:
        order = desk.place()
        desk.payments.reject_next("payment_token")
        with pytest.raises(InvalidRequest):
            desk.pay(order)

        ok(desk.pay(order))
        assert desk.payments.charges(order.id) == 1

    def test_do_not_undo_what_an_earlier_try_has_charged(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.lose_next_answer()
        with pytest.raises(PaymentOutcomeUnknown):
            desk.pay(order, key=key)
        desk.payments.reject_next("payment_token")

        ok(desk.pay(order, key=key))
        assert desk.status(order) is OrderStatus.PAID
        assert desk.payments.charges(order.id) == 1

    def test_end_nothing_while_nobody_knows(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.reject_next("payment_token")
        desk.payments.after_next(lambda: None)
        desk.payments.lose_next_answer()

        with pytest.raises(PaymentOutcomeUnknown):
            desk.pay(order, key=key)
        assert desk.order(order.id).pending is not None


@pytest.mark.requirement("FR-234")
class TestPaymentServiceIsDown:
    def test_and_known_to_be_so_nothing_is_started(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.available = False

        with pytest.raises(PaymentServiceUnavailable):
            desk.pay(order, key=key)
        assert (desk.key(key), desk.operations(order), desk.payments.calls) == (None, [], [])

    def test_what_was_begun_is_asked_for_all_the_same(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.lose_next_answer()
        with pytest.raises(PaymentOutcomeUnknown):
            desk.pay(order, key=key)
        desk.payments.available = False

        ok(desk.pay(order, key=key))


class TestContradiction:
    """A payment that is not this order's is our bug: nothing changes, a person looks."""

    @pytest.mark.parametrize(
        "wrong",
        [{"amount": eur(3999)}, {"amount": Money("USD", 4000)}, {"order_id": "ord_other"}],
        ids=["amount", "currency", "order"],
    )
    def test_never_pays_for_the_order(self, desk: Desk, wrong: dict[str, Any]) -> None:
        order, key = desk.place(), new_key()
        desk.payments.lose_next_answer()
        with pytest.raises(PaymentOutcomeUnknown):
            desk.pay(order, key=key)
        before = desk.order(order.id)
        desk.payments.alter(desk.operations(order)[0].id, **wrong)

        with pytest.raises(PaymentInvariantBroken) as broken:
            desk.pay(order, key=key)
        assert broken.value.order_id == order.id
        assert desk.order(order.id) == before
        assert before.pending is not None
        assert desk.events(order) == ["order_created"]

    def test_of_an_order_that_another_payment_has_paid(self, desk: Desk) -> None:
        order, key = desk.place(), new_key()
        desk.payments.lose_next_answer()
        with pytest.raises(PaymentOutcomeUnknown):
            desk.pay(order, key=key)

        def pay_behind_its_back(work: Any) -> None:
            locked = work.orders.lock(order.id)
            work.orders.save(
                locked.pay(payment_id=f"pay_{order.id[4:]}", by=ALICE, at=locked.created_at)[0]
            )

        desk.store.transact(pay_behind_its_back)
        before = desk.order(order.id)

        with pytest.raises(PaymentInvariantBroken):
            desk.pay(order, key=key)
        assert desk.order(order.id) == before
