"""RefundPayment: never more than was taken, and once per key."""

from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from checkout.payment.v1 import payment_pb2
from payment_service.application.ports import Declined, NotFound, Succeeded, Unknown
from service_kit.ids import new_id
from tests.assertions import refused
from tests.builders import money, new_key
from tests.client import ALICE, OPERATIONS, SHOP, Caller
from tests.integration.payment_service.desk import Desk, at_once, meanwhile, running_desk
from tests.integration.payment_service.scripted_gateway import ScriptedGateway, own_references

PENDING = payment_pb2.REFUND_STATUS_PENDING
SUCCEEDED = payment_pb2.REFUND_STATUS_SUCCEEDED
FAILED = payment_pb2.REFUND_STATUS_FAILED

REFUSED = grpc.StatusCode.FAILED_PRECONDITION


class TestTheFirstCall:
    def test_gives_back_a_part(self, desk: Desk) -> None:
        payment = desk.process()
        response = desk.refund(payment, 1500)
        assert response.refund.status == SUCCEEDED
        assert (response.refund.payment_id, response.refund.amount) == (payment.id, money(1500))
        assert response.payment.refunded_amount == money(1500)
        assert response.payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
        assert desk.get(payment.id) == response.payment
        assert [refund.amount_minor for refund in desk.given_back(payment)] == [1500]

    def test_records_what_happened_in_order(self, desk: Desk) -> None:
        payment = desk.process()
        refund = desk.refund(payment, 1500).refund
        *_, requested, succeeded = desk.history(payment.order_id)
        assert (requested.event_type, requested.from_status, requested.to_status) == (
            "refund_requested",
            "",
            "pending",
        )
        assert (succeeded.event_type, succeeded.from_status, succeeded.to_status) == (
            "refund_succeeded",
            "pending",
            "succeeded",
        )
        assert requested.refund_id == succeeded.refund_id == refund.id
        assert requested.payment_id == payment.id

    def test_answers_ok_with_the_decline_code_when_the_gateway_declines(self, desk: Desk) -> None:
        payment = desk.process("tok_refundFail")
        response = desk.refund(payment, 1500)
        assert (response.refund.status, response.refund.decline_code) == (FAILED, "refund_failed")
        assert response.payment.refunded_amount == money(0)
        assert desk.events(payment.order_id)[-1] == "refund_failed"
        # What was declined is free again.
        assert desk.refund(payment, 4000).refund.status == FAILED

    def test_can_be_made_of_a_sealed_order(self, desk: Desk) -> None:
        payment = desk.process()
        desk.seal(payment.order_id)
        assert desk.refund(payment, 1).refund.status == SUCCEEDED


class TestWhatIsRefused:
    def test_more_than_is_left_and_a_repeat_gets_the_same_refusal(self, desk: Desk) -> None:
        payment, key = desk.process(), new_key()
        desk.refund(payment, 2500)
        with refused(REFUSED, "REFUND_EXCEEDS_PAYMENT") as first:
            desk.refund(payment, 2000, key=key)
        assert first.metadata == {
            "payment_id": payment.id,
            "currency_code": "EUR",
            "refundable_minor_units": "1500",
            "requested_minor_units": "2000",
        }
        desk.refund(payment, 1000)
        with refused(REFUSED, "REFUND_EXCEEDS_PAYMENT") as second:
            desk.refund(payment, 2000, key=key)
        assert second.status == first.status
        assert (first.is_replayed, second.is_replayed) == (False, True)

    def test_is_recorded_once(self, desk: Desk) -> None:
        payment, key = desk.process(), new_key()
        for _ in range(2):
            with refused(REFUSED, "REFUND_EXCEEDS_PAYMENT"):
                desk.refund(payment, 4001, key=key)
        [*_, entry] = desk.history(payment.order_id)
        assert len(desk.history(payment.order_id)) == 3
        assert (entry.event_type, entry.outcome) == ("refund_refused", "refused")
        assert entry.reason == "REFUND_EXCEEDS_PAYMENT"
        assert entry.from_status == entry.to_status == "succeeded"
        assert desk.given_back(payment) == []

    @pytest.mark.parametrize(
        ("token", "status"),
        [("tok_chargeDeclined", "failed"), ("tok_timeoutBeforeCharge", "pending")],
    )
    def test_a_payment_that_took_no_money(self, desk: Desk, token: str, status: str) -> None:
        payment, key = desk.process(token), new_key()
        with refused(REFUSED, "PAYMENT_NOT_SUCCEEDED") as first:
            desk.refund(payment, 1, key=key)
        assert first.metadata == {"payment_id": payment.id, "status": status}
        with refused(REFUSED, "PAYMENT_NOT_SUCCEEDED") as second:
            desk.refund(payment, 1, key=key)
        assert second.status == first.status
        assert second.is_replayed

    def test_a_payment_that_was_resolved_before_it_arrived(self, desk: Desk) -> None:
        payment = desk.resolve(new_id("ord_"), new_key())
        with refused(REFUSED, "PAYMENT_NOT_SUCCEEDED") as refusal:
            desk.refund(payment, 1)
        assert refusal.metadata["status"] == "voided"

    def test_an_unknown_payment_and_nothing_is_stored(self, desk: Desk) -> None:
        payment, key = payment_pb2.Payment(id="pay_unknown"), new_key()
        for _ in range(2):
            with refused(grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND") as refusal:
                desk.refund(payment, 1, key=key)
            assert refusal.resource == ("checkout.payment.v1.Payment", "pay_unknown")
            assert not refusal.is_replayed
        assert desk.refund(desk.process(), 1, key=key).refund.status == SUCCEEDED

    def test_another_currency(self, desk: Desk) -> None:
        payment = desk.process()
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            desk.calls.RefundPayment(payment_id=payment.id, amount=money(1, "USD"))
        assert set(refusal.violations) == {"amount.currency_code"}
        assert desk.refund_rows(payment.id) == []

    def test_no_amount(self, desk: Desk) -> None:
        payment = desk.process()
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            desk.calls.RefundPayment(payment_id=payment.id)
        assert "what is left of the payment" in refusal.violations["amount"]

    @pytest.mark.parametrize("caller", [ALICE, SHOP, OPERATIONS], ids=lambda caller: caller.role)
    def test_everybody_but_the_order_service(self, desk: Desk, caller: Caller) -> None:
        payment = desk.process()
        with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            desk.as_(caller).RefundPayment(desk.refund_request(payment, 1))

    def test_a_deadline_that_leaves_no_time_for_the_gateway(self, desk: Desk) -> None:
        payment = desk.process()
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT"):
            desk.calls.RefundPayment(desk.refund_request(payment, 1), timeout=0.45)
        assert desk.refund_rows(payment.id) == []


class TestARepeat:
    def test_gets_the_first_reply_byte_for_byte(self, desk: Desk) -> None:
        payment = desk.process()
        request = desk.refund_request(payment, 1500)
        first = desk.calls.answer("RefundPayment", request)
        desk.refund(payment, 500)
        second = desk.calls.answer("RefundPayment", request)
        assert (first.replayed, second.replayed) == (False, True)
        assert second.body == first.body
        assert sum(refund.amount_minor for refund in desk.given_back(payment)) == 2000

    def test_of_another_process_gets_the_same_bytes(
        self, desk: Desk, database_url: str, data_dir: Path
    ) -> None:
        request = desk.refund_request(desk.process(), 1500)
        first = desk.calls.answer("RefundPayment", request)
        with running_desk(data_dir, database_url, migrate=False) as other:
            assert other.calls.answer("RefundPayment", request).body == first.body

    def test_with_another_amount_or_payment_is_refused(self, desk: Desk) -> None:
        payment, other, key = desk.process(), desk.process(), new_key()
        desk.refund(payment, 100, key=key)
        for request in (
            desk.refund_request(payment, 101, key=key),
            desk.refund_request(other, 100, key=key),
            desk.refund_request(payment_pb2.Payment(id="pay_unknown"), 100, key=key),
        ):
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED") as refusal:
                desk.calls.RefundPayment(request)
            assert refusal.metadata == {"method": "RefundPayment"}
        assert len(desk.given_back(payment)) == 1

    def test_of_a_key_that_a_payment_has_is_refused_and_the_other_way_round(
        self, desk: Desk
    ) -> None:
        of_payment, of_refund = new_key(), new_key()
        payment = desk.process(key=of_payment)
        desk.refund(payment, 100, key=of_refund)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED") as refusal:
            desk.refund(payment, 100, key=of_payment)
        assert refusal.metadata == {"method": "ProcessPayment"}
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED") as refusal:
            desk.process(key=of_refund)
        assert refusal.metadata == {"method": "RefundPayment"}


class TestAnUnknownOutcome:
    def test_is_pending_and_reserved_until_a_repeat_finds_out(self, desk: Desk) -> None:
        payment = desk.process("tok_refundTimeoutAfter")
        request = desk.refund_request(payment, 3000)
        assert desk.calls.RefundPayment(request).refund.status == PENDING
        assert desk.get(payment.id).refunded_amount == money(0)
        with refused(REFUSED, "REFUND_EXCEEDS_PAYMENT") as refusal:
            desk.refund(payment, 2000)
        assert refusal.metadata["refundable_minor_units"] == "1000"
        final = desk.calls.RefundPayment(request)
        assert final.refund.status == SUCCEEDED
        assert final.payment.refunded_amount == money(3000)
        assert len(desk.given_back(payment)) == 1

    def test_of_a_slow_gateway_is_waited_for(self, desk: Desk) -> None:
        assert desk.refund(desk.process("tok_refundSlow"), 100).refund.status == SUCCEEDED

    def test_is_asked_by_one_call_at_a_time(self, scripted: Desk, gateway: ScriptedGateway) -> None:
        payment = scripted.process()
        request, held = scripted.refund_request(payment, 100), gateway.hold_next()
        with meanwhile(lambda: scripted.calls.RefundPayment(request)) as first:
            held.wait_until_asked()
            assert scripted.calls.RefundPayment(request).refund.status == PENDING
            held.go_on()
        assert first.result().refund.status == SUCCEEDED
        assert [question for question, _ in gateway.asked] == ["charge", "refund"]

    def test_of_an_old_key_is_only_looked_up(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        request = scripted.refund_request(scripted.process(), 100)
        gateway.answers.extend([Unknown(), NotFound(), Succeeded(new_id("re_"))])
        scripted.calls.RefundPayment(request)
        scripted.clock.move(timedelta(hours=12, seconds=1))
        assert scripted.calls.RefundPayment(request).refund.status == PENDING
        assert scripted.calls.RefundPayment(request).refund.status == SUCCEEDED
        assert [q for q, _ in gateway.asked[1:]] == ["refund", "find_refund", "find_refund"]

    def test_that_cannot_be_written_leaves_the_refund_pending(
        self, scripted: Desk, gateway: ScriptedGateway
    ) -> None:
        payment = scripted.process()
        scripted.refund(payment, 100)
        taken = scripted.refund_rows(payment.id)[0].gateway_reference
        gateway.answers.append(Succeeded(taken))
        request = scripted.refund_request(payment, 100)
        assert scripted.calls.RefundPayment(request).refund.status == PENDING
        scripted.clock.move(timedelta(seconds=16))
        assert scripted.calls.RefundPayment(request).refund.status == SUCCEEDED

    @pytest.mark.parametrize(
        ("settled", "late", "reason"),
        [
            (Succeeded("ref-1"), Declined("refund_failed"), "gateway_says_failed"),
            (Declined("refund_failed"), Succeeded("ref-1"), "gateway_says_succeeded"),
            (Succeeded("ref-1"), Succeeded("ref-1"), ""),
        ],
        ids=["declined", "given-back", "same"],
    )
    def test_that_contradicts_a_settled_refund_is_written_down(
        self,
        scripted: Desk,
        gateway: ScriptedGateway,
        settled: Succeeded | Declined,
        late: Succeeded | Declined,
        reason: str,
    ) -> None:
        payment = scripted.process()
        request, held = scripted.refund_request(payment, 100), gateway.hold_next()
        gateway.answers.extend(own_references(late, settled))
        with meanwhile(lambda: scripted.calls.RefundPayment(request)):
            held.wait_until_asked()
            scripted.clock.move(timedelta(seconds=16))
            final = scripted.calls.RefundPayment(request)
            held.go_on()
        assert scripted.get(payment.id) == final.payment
        found = [
            entry
            for entry in scripted.history(payment.order_id)
            if entry.event_type == "gateway_discrepancy_found"
        ]
        assert [entry.reason for entry in found] == ([reason] if reason else [])
        assert all(entry.refund_id == final.refund.id for entry in found)


def test_eight_refunds_at_once_never_exceed_the_payment(desk: Desk) -> None:
    payment = desk.process(minor_units=1000)

    def refund() -> int:
        try:
            return desk.refund(payment, 300).refund.status
        except grpc.RpcError:
            return 0

    statuses = at_once([refund] * 8)
    assert sorted(statuses) == [0] * 5 + [SUCCEEDED] * 3
    assert desk.get(payment.id).refunded_amount == money(900)
    assert sum(refund.amount_minor for refund in desk.given_back(payment)) == 900
    assert desk.events(payment.order_id).count("refund_refused") == 5
