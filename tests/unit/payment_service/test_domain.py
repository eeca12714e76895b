"""A status cannot change without its audit entry."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from payment_service.domain.audit import Actor, EventType, Outcome
from payment_service.domain.errors import PaymentNotSucceeded, RefundExceedsPayment
from payment_service.domain.money import Money
from payment_service.domain.payment import Payment, VoidReason, seal_unpaid
from payment_service.domain.refund import Refund
from payment_service.domain.state_machine import PaymentStatus, RefundStatus
from payment_service.domain.ticket import PaymentTicket

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
ACTOR = Actor(role="service", id="shop", on_behalf_of="alice", trace_id="0" * 31 + "1")
TICKET = PaymentTicket(order_id="ord_1", customer_id="alice", amount=Money("EUR", 4000))


def requested() -> Payment:
    payment, _ = Payment.request(
        payment_id="pay_1", ticket=TICKET, gateway="simulated", by=ACTOR, at=NOW
    )
    return payment


def succeeded() -> Payment:
    payment, _ = requested().succeed(reference="ch_1", by=ACTOR, at=LATER)
    return payment


def refund_of(payment: Payment, amount: int = 1500, *, reserved: int = 0) -> Refund:
    refund, _ = Refund.request(
        refund_id="ref_1",
        payment=payment,
        amount=Money("EUR", amount),
        reserved=reserved,
        by=ACTOR,
        at=NOW,
    )
    return refund


class TestAPayment:
    def test_is_requested_for_what_the_ticket_states(self) -> None:
        payment, entry = Payment.request(
            payment_id="pay_1", ticket=TICKET, gateway="simulated", by=ACTOR, at=NOW
        )
        assert (payment.order_id, payment.customer_id) == ("ord_1", "alice")
        assert (payment.amount, payment.refunded) == (Money("EUR", 4000), Money("EUR", 0))
        assert (entry.event_type, entry.at) == (EventType.PAYMENT_REQUESTED, NOW)
        assert (entry.from_status, entry.to_status) == ("", "pending")
        assert entry.actor is ACTOR

    def test_succeeds_with_the_gateways_reference(self) -> None:
        payment, entry = requested().succeed(reference="ch_1", by=ACTOR, at=LATER)
        assert (payment.status, payment.gateway_reference) == (PaymentStatus.SUCCEEDED, "ch_1")
        assert (entry.event_type, entry.at) == (EventType.PAYMENT_SUCCEEDED, LATER)
        assert (payment.created_at, payment.updated_at) == (NOW, LATER)

    def test_fails_with_the_decline_code(self) -> None:
        payment, entry = requested().fail(decline_code="lost_card", by=ACTOR, at=LATER)
        assert (payment.status, payment.decline_code) == (PaymentStatus.FAILED, "lost_card")
        assert (entry.event_type, entry.reason) == (EventType.PAYMENT_FAILED, "lost_card")

    def test_is_voided_with_its_reason_and_asks_no_gateway(self) -> None:
        payment, entry = Payment.void(
            payment_id="pay_1", ticket=TICKET, reason=VoidReason.ORDER_SEALED, by=ACTOR, at=NOW
        )
        assert (payment.status, payment.gateway) == (PaymentStatus.VOIDED, "")
        assert (entry.event_type, entry.reason) == (EventType.PAYMENT_VOIDED, "order_sealed")

    def test_that_was_never_seen_has_no_amount(self) -> None:
        payment, entry = Payment.void_unseen(payment_id="pay_1", order_id="ord_1", by=ACTOR, at=NOW)
        assert (payment.amount, payment.refunded, payment.customer_id) == (None, None, "")
        assert entry.reason == "resolved_before_arrival"

    def test_ends_once(self) -> None:
        failed, _ = requested().fail(decline_code="c", by=ACTOR, at=NOW)
        voided, _ = Payment.void_unseen(payment_id="p", order_id="o", by=ACTOR, at=NOW)
        for final in (succeeded(), failed, voided):
            with pytest.raises(ValueError, match="succeed"):
                final.succeed(reference="ch_2", by=ACTOR, at=LATER)
            with pytest.raises(ValueError, match="fail"):
                final.fail(decline_code="c", by=ACTOR, at=LATER)

    def test_is_as_it_was_after_a_seal_or_a_contradiction(self) -> None:
        payment = succeeded()
        sealed = payment.seal(by=ACTOR, at=LATER)
        contradicted = payment.contradict(reason="gateway_says_failed", by=ACTOR, at=LATER)
        assert sealed.event_type is EventType.ORDER_SEALED
        assert contradicted.event_type is EventType.GATEWAY_DISCREPANCY_FOUND
        for entry in (sealed, contradicted):
            assert (entry.from_status, entry.to_status) == ("succeeded", "succeeded")
            assert (entry.outcome, entry.at) == (Outcome.APPLIED, LATER)

    def test_an_order_without_one_is_sealed_too(self) -> None:
        entry = seal_unpaid("ord_1", by=ACTOR, at=NOW)
        assert (entry.order_id, entry.payment_id) == ("ord_1", "")


class TestARefund:
    def test_succeeds_on_the_refund_and_on_the_payment(self) -> None:
        payment = succeeded()
        refund, after, entry = refund_of(payment).succeed(
            payment, reference="re_1", by=ACTOR, at=LATER
        )
        assert (refund.status, refund.gateway_reference) == (RefundStatus.SUCCEEDED, "re_1")
        assert after.refunded == Money("EUR", 1500)
        assert after.status is PaymentStatus.SUCCEEDED
        assert (entry.event_type, entry.refund_id) == (EventType.REFUND_SUCCEEDED, "ref_1")

    def test_fails_with_the_decline_code(self) -> None:
        refund, entry = refund_of(succeeded()).fail(
            decline_code="refund_failed", by=ACTOR, at=LATER
        )
        assert (refund.status, refund.decline_code) == (RefundStatus.FAILED, "refund_failed")
        assert (entry.event_type, entry.reason) == (EventType.REFUND_FAILED, "refund_failed")

    def test_ends_once(self) -> None:
        refund, _ = refund_of(succeeded()).fail(decline_code="c", by=ACTOR, at=LATER)
        with pytest.raises(ValueError, match="succeed"):
            refund.succeed(succeeded(), reference="re_1", by=ACTOR, at=LATER)

    @pytest.mark.parametrize(("amount", "reserved"), [(4000, 0), (1, 3999), (2000, 2000)])
    def test_can_be_all_that_is_left(self, amount: int, reserved: int) -> None:
        assert refund_of(succeeded(), amount, reserved=reserved).status is RefundStatus.PENDING

    @pytest.mark.parametrize(("amount", "reserved"), [(4001, 0), (1, 4000), (2001, 2000)])
    def test_is_refused_when_it_is_more(self, amount: int, reserved: int) -> None:
        with pytest.raises(RefundExceedsPayment) as refusal:
            refund_of(succeeded(), amount, reserved=reserved)
        assert (refusal.value.refundable, refusal.value.requested) == (4000 - reserved, amount)

    @pytest.mark.parametrize(
        "status", [status for status in PaymentStatus if status is not PaymentStatus.SUCCEEDED]
    )
    def test_is_refused_for_a_payment_that_has_not_succeeded(self, status: PaymentStatus) -> None:
        with pytest.raises(PaymentNotSucceeded) as refusal:
            refund_of(replace(succeeded(), status=status))
        assert refusal.value.status == status.value

    def test_that_is_refused_is_failed_and_written_down_as_refused(self) -> None:
        payment = succeeded()
        refusal = PaymentNotSucceeded(payment_id=payment.id, status="failed")
        refund, entry = Refund.refused(
            refusal, refund_id="ref_1", payment=payment, amount=Money("EUR", 1), by=ACTOR, at=LATER
        )
        assert refund.status is RefundStatus.FAILED
        assert (entry.event_type, entry.outcome) == (EventType.REFUND_REFUSED, Outcome.REFUSED)
        assert entry.reason == "PAYMENT_NOT_SUCCEEDED"

    def test_that_contradicts_the_gateway_is_as_it_was(self) -> None:
        entry = refund_of(succeeded()).contradict(reason="gateway_says_failed", by=ACTOR, at=LATER)
        assert (entry.from_status, entry.to_status, entry.at) == ("pending", "pending", LATER)
        assert entry.refund_id == "ref_1"


class TestMoney:
    def test_adds_and_subtracts_within_a_currency(self) -> None:
        assert Money("EUR", 5) + Money("EUR", 2) - Money("EUR", 3) == Money("EUR", 4)

    def test_never_mixes_currencies(self) -> None:
        with pytest.raises(ValueError, match="USD"):
            Money("EUR", 5) + Money("USD", 2)
        with pytest.raises(ValueError, match="USD"):
            Money("EUR", 5) - Money("USD", 2)
