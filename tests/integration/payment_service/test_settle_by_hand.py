"""An operator ends what the gateway has forgotten, and nothing else."""

from datetime import timedelta

import pytest

from checkout.payment.v1 import payment_pb2
from payment_service.application.ports import Answer, Declined, NotFound, Succeeded, Unknown
from payment_service.application.settle_by_hand import NothingSettled, Settled, Verdict
from payment_service.application.settlement import ARRIVES_WITHIN
from payment_service.domain.audit import Actor
from service_kit import call
from tests.integration.payment_service.background import (
    KEY_AGE_MAX,
    Background,
    background_of,
)
from tests.integration.payment_service.desk import meanwhile
from tests.integration.payment_service.scripted_gateway import ScriptedGateway
from tests.integration.payment_service.test_ask_again import (
    FAILED,
    PENDING,
    SUCCEEDED,
    pending_payment,
    pending_refund,
    status,
)

OLGA = Actor(role="operations", id="olga", on_behalf_of="", trace_id="0" * 32)
SUCCEEDED_BY_HAND = Succeeded("re-found-by-hand")
FAILED_BY_HAND = Declined("failed_by_operator")
TOO_OLD = KEY_AGE_MAX + ARRIVES_WITHIN + timedelta(seconds=1)


def settle(
    background: Background, item_id: str, verdict: Verdict, *, answer: Answer | NotFound
) -> Settled:
    """Settle a payment or refund; `answer` is what the gateway says when it is asked once more."""
    background.gateway.answers.append(answer)
    by_hand = background.settle
    end = by_hand.refund if item_id.startswith("ref_") else by_hand.payment
    with call.background("settle", seconds=10) as deadline:
        return end(item_id, verdict, by=OLGA, deadline=deadline)


def under_another_gateway(background: Background) -> Background:
    """Give the service another gateway than the one that was asked first."""
    gateway = ScriptedGateway()
    gateway.name = "another"
    return background_of(background.desk, gateway)


@pytest.mark.requirement("FR-134")
class TestWhatAnotherGatewayWasAsked:
    @pytest.mark.parametrize("verdict", [SUCCEEDED_BY_HAND, FAILED_BY_HAND])
    def test_payment_ends_as_the_operator_says(
        self, background: Background, verdict: Verdict
    ) -> None:
        payment = pending_payment(background)
        background.desk.clock.move(TOO_OLD)
        other = under_another_gateway(background)

        assert not settle(other, payment.id, verdict, answer=Unknown()).by_gateway
        assert other.gateway.asked == []
        assert status(background, payment) != PENDING

    def test_refund_ends_as_the_operator_says(self, background: Background) -> None:
        refund = pending_refund(background)
        background.desk.clock.move(TOO_OLD)
        other = under_another_gateway(background)

        assert settle(other, refund.id, FAILED_BY_HAND, answer=Unknown()).status == "failed"
        assert other.gateway.asked == []


@pytest.mark.requirement("FR-134")
class TestSettlePayment:
    @pytest.mark.parametrize(
        ("verdict", "ends", "event"),
        [
            (SUCCEEDED_BY_HAND, SUCCEEDED, "payment_succeeded"),
            (FAILED_BY_HAND, FAILED, "payment_failed"),
        ],
    )
    def test_ends_it_as_the_operator_says_if_the_gateway_does_not_know(
        self, background: Background, verdict: Verdict, ends: int, event: str
    ) -> None:
        payment = pending_payment(background)
        background.desk.clock.move(TOO_OLD)

        settled = settle(background, payment.id, verdict, answer=NotFound())

        assert not settled.by_gateway
        assert background.gateway.asked[-1] == ("find_charge", payment.id)
        assert status(background, payment) == ends
        entry = background.desk.history(payment.order_id)[-1]
        assert (entry.event_type, entry.actor_id) == (event, "olga")
        assert entry.reason == "settled_by_operator"
        assert background.needs_human() == []

    def test_gives_the_callers_key_its_final_reply(self, background: Background) -> None:
        background.gateway.answers.append(Unknown())
        request = background.desk.process_request()
        payment = background.desk.calls.ProcessPayment(request).payment
        background.desk.clock.move(TOO_OLD)
        settle(background, payment.id, SUCCEEDED_BY_HAND, answer=NotFound())

        again = background.desk.calls.answer("ProcessPayment", request)

        assert again.replayed
        assert again.message.payment.status == SUCCEEDED

    @pytest.mark.parametrize(
        ("answer", "ends"), [(Succeeded("ch_real"), SUCCEEDED), (Declined("lost_card"), FAILED)]
    )
    @pytest.mark.parametrize("verdict", [SUCCEEDED_BY_HAND, FAILED_BY_HAND])
    def test_takes_the_gateways_word_over_the_operators(
        self, background: Background, verdict: Verdict, answer: Answer, ends: int
    ) -> None:
        payment = pending_payment(background)
        background.desk.clock.move(TOO_OLD)

        settled = settle(background, payment.id, verdict, answer=answer)

        assert settled.by_gateway
        assert status(background, payment) == ends
        assert background.desk.history(payment.order_id)[-1].reason != "settled_by_operator"

    def test_does_nothing_while_the_gateway_does_not_answer(self, background: Background) -> None:
        payment = pending_payment(background)
        background.desk.clock.move(TOO_OLD)
        with pytest.raises(NothingSettled, match="does not answer"):
            settle(background, payment.id, FAILED_BY_HAND, answer=Unknown())
        assert status(background, payment) == PENDING

    def test_is_not_for_what_the_gateway_is_still_asked_about(self, background: Background) -> None:
        payment = pending_payment(background)
        background.desk.clock.move(KEY_AGE_MAX - timedelta(seconds=1))
        asked = len(background.gateway.asked)
        with pytest.raises(NothingSettled, match="still being asked"):
            settle(background, payment.id, FAILED_BY_HAND, answer=NotFound())
        assert len(background.gateway.asked) == asked
        assert status(background, payment) == PENDING

    def test_waits_until_nothing_that_was_sent_can_still_arrive(
        self, background: Background
    ) -> None:
        """The gateway does not know the last request yet, and may execute it the next moment."""
        payment = pending_payment(background)
        background.desk.clock.move(KEY_AGE_MAX - timedelta(seconds=2))
        background.gateway.answers.append(Unknown())
        background.again.payments()
        assert background.gateway.asked[-1] == ("charge", payment.id)
        background.desk.clock.move(timedelta(seconds=4))
        [case] = background.needs_human()
        assert case.id == payment.id

        with pytest.raises(NothingSettled, match="on its way"):
            settle(background, payment.id, FAILED_BY_HAND, answer=NotFound())

        assert status(background, payment) == PENDING

    def test_is_not_for_what_has_ended(self, background: Background) -> None:
        payment = background.desk.process()
        background.desk.clock.move(TOO_OLD)
        with pytest.raises(NothingSettled, match="succeeded already"):
            settle(background, payment.id, FAILED_BY_HAND, answer=NotFound())

    def test_is_not_for_what_there_is_not(self, background: Background) -> None:
        for item_id in ("pay_unknown", "ref_unknown"):
            with pytest.raises(NothingSettled, match="no such"):
                settle(background, item_id, FAILED_BY_HAND, answer=NotFound())

    def test_refuses_a_reference_that_is_another_payments(self, background: Background) -> None:
        other = background.desk.process()
        reference = background.desk.payment_row(other.id).gateway_reference
        payment = pending_payment(background)
        background.desk.clock.move(TOO_OLD)
        with pytest.raises(NothingSettled, match=other.id):
            settle(background, payment.id, Succeeded(reference), answer=NotFound())
        assert status(background, payment) == PENDING

    def test_waits_for_a_question_that_is_on_its_way(self, background: Background) -> None:
        payment = pending_payment(background)
        background.desk.clock.move(TOO_OLD)
        background.gateway.answers.append(Succeeded("ch_late"))
        held = background.gateway.hold_next()
        with meanwhile(background.again.payments):
            held.wait_until_asked()
            with pytest.raises(NothingSettled, match="at this moment"):
                settle(background, payment.id, FAILED_BY_HAND, answer=NotFound())
            held.go_on()
        assert status(background, payment) == SUCCEEDED

    def test_is_contradicted_by_an_answer_that_comes_after_it(self, background: Background) -> None:
        """A question from before the key got old that is answered after the operator has spoken."""
        background.gateway.answers.append(Succeeded("ch_late"))
        held = background.gateway.hold_next()
        request = background.desk.process_request()
        with meanwhile(lambda: background.desk.calls.ProcessPayment(request)) as call_:
            held.wait_until_asked()
            background.desk.clock.move(TOO_OLD)
            [payment_id] = [key for _, key in background.gateway.asked]
            settle(background, payment_id, FAILED_BY_HAND, answer=NotFound())
            held.go_on()
            answered = call_.result(20).payment

        assert answered.status == FAILED, "the settled outcome is what lasts"
        [case] = background.needs_human()
        assert (case.what, case.problem) == ("discrepancy", "gateway_says_succeeded")
        assert background.desk.get(payment_id).status == FAILED

    @pytest.mark.parametrize("verdict", [SUCCEEDED_BY_HAND, FAILED_BY_HAND])
    def test_is_no_contradiction_if_the_gateway_answers_while_it_is_written(
        self, background: Background, verdict: Verdict
    ) -> None:
        """The operator's word comes too late, and is not the gateway's."""
        background.gateway.answers.append(Succeeded("ch_late"))
        sent = background.gateway.hold_next()
        with meanwhile(background.desk.process) as process:
            sent.wait_until_asked()
            background.desk.clock.move(TOO_OLD)
            [payment_id] = [key for _, key in background.gateway.asked]
            looked_up = background.gateway.hold_next()
            with meanwhile(
                lambda: settle(background, payment_id, verdict, answer=NotFound())
            ) as settling:
                looked_up.wait_until_asked()
                sent.go_on()
                assert process.result(20).status == SUCCEEDED
                looked_up.go_on()
                settled = settling.result(20)

        assert background.needs_human() == []
        assert (settled.status, settled.reference) == ("succeeded", "ch_late")
        assert settled.by_gateway


@pytest.mark.requirement("FR-134")
class TestSettleRefund:
    def test_counts_what_was_given_back(self, background: Background) -> None:
        refund = pending_refund(background)
        background.desk.clock.move(TOO_OLD)

        settle(background, refund.id, SUCCEEDED_BY_HAND, answer=NotFound())

        payment: payment_pb2.Payment = background.desk.get(refund.payment_id)
        assert payment.refunded_amount.minor_units == 1000
        assert background.needs_human() == []

    def test_frees_the_amount_of_one_that_failed(self, background: Background) -> None:
        refund = pending_refund(background, 4000)
        background.desk.clock.move(TOO_OLD)
        settle(background, refund.id, FAILED_BY_HAND, answer=NotFound())

        payment = background.desk.get(refund.payment_id)
        background.desk.refund(payment, 4000)

        assert background.desk.get(payment.id).refunded_amount.minor_units == 4000

    def test_refuses_a_reference_that_is_another_refunds(self, background: Background) -> None:
        other = background.desk.refund(background.desk.process(), 1000).refund
        [row] = background.desk.refund_rows(other.payment_id)
        refund = pending_refund(background)
        background.desk.clock.move(TOO_OLD)
        with pytest.raises(NothingSettled, match=other.id):
            settle(background, refund.id, Succeeded(row.gateway_reference), answer=NotFound())

    def test_waits_for_a_question_that_is_on_its_way(self, background: Background) -> None:
        refund = pending_refund(background)
        background.desk.clock.move(TOO_OLD)
        held = background.gateway.hold_next()
        background.gateway.answers.append(Succeeded("re_late"))
        with meanwhile(background.again.refunds):
            held.wait_until_asked()
            with pytest.raises(NothingSettled, match="at this moment"):
                settle(background, refund.id, FAILED_BY_HAND, answer=NotFound())
            held.go_on()
        assert background.desk.get(refund.payment_id).refunded_amount.minor_units == 1000
