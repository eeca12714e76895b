"""What the gateway has not answered is asked about again, under the same key, until it is."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest

from checkout.payment.v1 import payment_pb2
from payment_service.application.ask_again import FIRST_QUESTIONS
from payment_service.application.gateway_time import GATEWAY_SECONDS_MAX, LEASE_MAX
from payment_service.application.ports import (
    Answer,
    Charge,
    Declined,
    GiveBack,
    NotFound,
    Succeeded,
    Unknown,
)
from tests.integration.payment_service.background import (
    KEY_AGE_MAX,
    Background,
    background_of,
)
from tests.integration.payment_service.scripted_gateway import ScriptedGateway

PENDING = payment_pb2.PAYMENT_STATUS_PENDING
SUCCEEDED = payment_pb2.PAYMENT_STATUS_SUCCEEDED
FAILED = payment_pb2.PAYMENT_STATUS_FAILED
SECOND = timedelta(seconds=1)
SHORT_SECONDS = 2.01


def pending_payment(background: Background) -> payment_pb2.Payment:
    """Charge, and lose the answer."""
    background.gateway.answers.append(Unknown())
    payment = background.desk.process()
    assert payment.status == PENDING
    return payment


def pending_refund(background: Background, minor_units: int = 1000) -> payment_pb2.Refund:
    """Give back, and lose the answer."""
    payment = background.desk.process()
    background.gateway.answers.append(Unknown())
    refund = background.desk.refund(payment, minor_units).refund
    assert refund.status == payment_pb2.REFUND_STATUS_PENDING
    return refund


def status(background: Background, payment: payment_pb2.Payment) -> int:
    return background.desk.get(payment.id).status


@pytest.mark.requirement("FR-132")
class TestOneThatIsAskedAboutInVain:
    """The others come to their turn, whatever becomes of it."""

    @pytest.mark.parametrize("why", ["silence", "a bug"])
    def test_payment_stands_behind_those_not_asked_about_yet(
        self, background: Background, why: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad = pending_payment(background)
        others = [pending_payment(background) for _ in range(3)]
        monkeypatch.setattr(
            background.gateway, "charge", in_vain_for(bad.id, why, background.gateway.charge)
        )
        for _ in range(4):
            # Longer than anybody postpones the bad one: it is due again each time.
            background.desk.clock.move(LEASE_MAX + 10 * SECOND)
            with suppress(ZeroDivisionError):
                background.again.payments()

        assert [status(background, payment) for payment in others] == [SUCCEEDED] * 3
        assert status(background, bad) == PENDING

    @pytest.mark.parametrize("why", ["silence", "a bug"])
    def test_refund_stands_behind_those_not_asked_about_yet(
        self, background: Background, why: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad = pending_refund(background)
        others = [pending_refund(background) for _ in range(3)]
        monkeypatch.setattr(
            background.gateway, "refund", in_vain_for(bad.id, why, background.gateway.refund)
        )
        for _ in range(4):
            background.desk.clock.move(LEASE_MAX + 10 * SECOND)
            with suppress(ZeroDivisionError):
                background.again.refunds()

        done = [background.desk.refund_rows(refund.payment_id)[0].status for refund in others]
        assert done == ["succeeded"] * 3

    def test_waits_for_its_time_even_if_the_question_is_a_bug(
        self, background: Background, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad = pending_payment(background)
        monkeypatch.setattr(
            background.gateway, "charge", in_vain_for(bad.id, "a bug", background.gateway.charge)
        )
        background.desk.clock.move(SECOND)
        with pytest.raises(ZeroDivisionError):
            background.again.payments()
        assert not background.again.payments()
        background.desk.clock.move(SECOND)
        with pytest.raises(ZeroDivisionError):
            background.again.payments()


def in_vain_for(key: str, why: str, send: Callable[..., Answer]) -> Callable[..., Answer]:
    """Let what is sent under one key have no answer, or be a bug."""

    def ask(request: Charge | GiveBack, *, timeout_seconds: float) -> Answer:
        if request.key != key:
            return send(request, timeout_seconds=timeout_seconds)
        if why == "a bug":
            raise ZeroDivisionError
        return Unknown()

    return ask


@pytest.mark.requirement("FR-132")
class TestAnotherGateway:
    """One that does not know the keys would move the money again."""

    @pytest.fixture
    def other(self, background: Background) -> Background:
        """The workers after the service was given another gateway."""
        gateway = ScriptedGateway()
        gateway.name = "another"
        return background_of(background.desk, gateway)

    def test_is_not_asked_about_a_payment(self, background: Background, other: Background) -> None:
        payment = pending_payment(background)
        background.desk.clock.move(SECOND)
        assert not other.again.payments()
        assert other.gateway.asked == []
        assert status(background, payment) == PENDING

    def test_is_not_asked_about_a_refund(self, background: Background, other: Background) -> None:
        pending_refund(background)
        background.desk.clock.move(SECOND)
        assert not other.again.refunds()
        assert other.gateway.asked == []


def assert_grows(background: Background, ask: Callable[[Background], bool]) -> None:
    """Ask in vain by processes that know of no other question that was in vain."""
    for _ in range(FIRST_QUESTIONS):
        background.desk.clock.move(SECOND)
        background.gateway.answers.append(Unknown())
        ask(background_of(background.desk, background.gateway))

    *short, last = background.gateway.timeouts[-FIRST_QUESTIONS:]
    assert len(short) == FIRST_QUESTIONS - 1  # the caller's was in vain, too
    assert max(short) < SHORT_SECONDS < last < GATEWAY_SECONDS_MAX


@pytest.mark.requirement("FR-132")
class TestPaymentWithoutAnAnswer:
    def test_is_asked_about_again_under_its_key(self, background: Background) -> None:
        payment = pending_payment(background)
        background.desk.clock.move(SECOND)

        assert background.until_nothing_is_left(background.again.payments) == 1

        assert status(background, payment) == SUCCEEDED
        assert background.gateway.asked == [("charge", payment.id)] * 2
        assert background.desk.events(payment.order_id) == [
            "payment_requested",
            "payment_succeeded",
        ]
        assert background.desk.history(payment.order_id)[-1].actor_id == "payment-service"

    def test_may_turn_out_to_be_declined(self, background: Background) -> None:
        payment = pending_payment(background)
        background.gateway.answers.append(Declined("expired_card"))
        background.desk.clock.move(SECOND)
        background.until_nothing_is_left(background.again.payments)
        assert status(background, payment) == FAILED

    def test_is_left_alone_while_a_call_asks(self, background: Background) -> None:
        payment = pending_payment(background)
        background.desk.lease(payment.id)
        background.desk.clock.move(SECOND)
        assert not background.again.payments()

        background.desk.clock.move(LEASE_MAX)
        assert background.again.payments()
        assert status(background, payment) == SUCCEEDED

    def test_is_asked_about_later_and_later_ten_seconds_at_most(
        self, background: Background
    ) -> None:
        payment = pending_payment(background)
        for wait in (1, 1, 1, 1, 1, 1, 2, 4, 8, 10, 10):
            background.desk.clock.move(timedelta(seconds=wait - 0.5))
            background.gateway.answers.append(Unknown())
            asked = len(background.gateway.asked)
            background.again.payments()
            assert len(background.gateway.asked) == asked, f"sooner than after {wait} s"
            background.desk.clock.move(timedelta(seconds=0.5))
            background.again.payments()
            assert len(background.gateway.asked) == asked + 1
        assert status(background, payment) == PENDING

    def test_gives_the_gateway_little_time_at_first_and_then_all(
        self, background: Background
    ) -> None:
        pending_payment(background)
        assert_grows(background, lambda each: each.again.payments())

    def test_gets_all_the_time_once_another_had_no_answer(self, background: Background) -> None:
        for _ in range(2):
            pending_payment(background)
        background.desk.clock.move(SECOND)
        background.gateway.answers.extend([Unknown(), Unknown()])
        for _ in range(2):
            background.again.payments()

        first, second = background.gateway.timeouts[-2:]
        assert first < SHORT_SECONDS < second

    def test_can_soon_be_asked_about_if_whoever_does_dies(self, background: Background) -> None:
        payment = pending_payment(background)
        background.desk.clock.move(SECOND)
        held = background.gateway.hold_next()
        with ThreadPoolExecutor(1) as thread:
            asking = thread.submit(background.again.payments)
            held.wait_until_asked()
            background.desk.clock.move(4 * SECOND)
            # As another process that does not know whether the first is still alive.
            assert background_of(background.desk, background.gateway).again.payments()
            assert status(background, payment) == SUCCEEDED
            held.go_on()
            asking.result()

    def test_all_of_them_are_due_once_the_gateway_answers(self, background: Background) -> None:
        payments = [pending_payment(background) for _ in range(4)]
        background.gateway.answers.extend([Unknown()] * 4)
        background.desk.clock.move(SECOND)
        for _ in payments:
            assert not background.again.payments()
        background.desk.clock.move(2 * SECOND)

        # The clock stands still: what was postponed is not waited for.
        assert background.until_nothing_is_left(background.again.payments) == 4

        assert {status(background, payment) for payment in payments} == {SUCCEEDED}

    def test_that_is_never_answered_is_in_nobodys_way(self, background: Background) -> None:
        mute = pending_payment(background)
        background.desk.clock.move(KEY_AGE_MAX)
        others = [pending_payment(background) for _ in range(3)]
        background.desk.clock.move(SECOND)
        background.gateway.answers.append(NotFound())

        for _ in range(8):
            background.again.payments()

        assert status(background, mute) == PENDING
        assert {status(background, payment) for payment in others} == {SUCCEEDED}

    def test_is_shared_by_several_processes(self, background: Background) -> None:
        payments = [pending_payment(background) for _ in range(12)]
        background.desk.clock.move(SECOND)
        processes = [background_of(background.desk, background.gateway) for _ in range(4)]

        with ThreadPoolExecutor(4) as threads:
            done = list(
                threads.map(lambda each: each.until_nothing_is_left(each.again.payments), processes)
            )

        assert sum(done) == 12
        assert {status(background, payment) for payment in payments} == {SUCCEEDED}
        assert len(background.gateway.asked) == 24, "a payment was asked about twice"


@pytest.mark.requirement("FR-132")
class TestRefundWithoutAnAnswer:
    def test_is_asked_about_again_under_its_key(self, background: Background) -> None:
        refund = pending_refund(background)
        background.desk.clock.move(SECOND)

        assert background.until_nothing_is_left(background.again.refunds) == 1

        assert background.gateway.timeouts[-1] < SHORT_SECONDS
        assert background.gateway.asked[-2:] == [("refund", refund.id)] * 2
        payment = background.desk.get(refund.payment_id)
        assert payment.refunded_amount.minor_units == 1000
        [row] = background.desk.refund_rows(refund.payment_id)
        assert row.status == "succeeded"

    def test_gives_the_gateway_little_time_at_first_and_then_all(
        self, background: Background
    ) -> None:
        pending_refund(background)
        assert_grows(background, lambda each: each.again.refunds())

    def test_may_turn_out_to_be_declined(self, background: Background) -> None:
        refund = pending_refund(background)
        background.gateway.answers.append(Declined("refund_declined"))
        background.desk.clock.move(SECOND)
        background.until_nothing_is_left(background.again.refunds)
        assert background.desk.get(refund.payment_id).refunded_amount.minor_units == 0


@pytest.mark.requirement("FR-133")
class TestKeyThatGotOld:
    def test_is_looked_up_and_never_sent_again(self, background: Background) -> None:
        payment, refund = pending_payment(background), pending_refund(background)
        background.desk.clock.move(KEY_AGE_MAX + SECOND)
        del background.gateway.asked[:]
        for _ in range(3):
            background.gateway.answers.extend([NotFound(), NotFound()])
            background.again.payments()
            background.again.refunds()
            background.desk.clock.move(10 * SECOND)

        assert (
            background.gateway.asked
            == [
                ("find_charge", payment.id),
                ("find_refund", refund.id),
            ]
            * 3
        )
        assert status(background, payment) == PENDING

    def test_waits_for_a_person(self, background: Background) -> None:
        payment = pending_payment(background)
        background.desk.clock.move(KEY_AGE_MAX - SECOND)
        assert background.needs_human() == []
        background.desk.clock.move(2 * SECOND)
        [case] = background.needs_human()
        assert (case.what, case.id, case.order_id) == ("payment", payment.id, payment.order_id)

    def test_is_settled_by_itself_if_the_gateway_knows_it(self, background: Background) -> None:
        payment = pending_payment(background)
        background.desk.clock.move(KEY_AGE_MAX + SECOND)
        background.gateway.answers.append(Succeeded("ch_found"))

        background.until_nothing_is_left(background.again.payments)

        assert status(background, payment) == SUCCEEDED
        assert background.needs_human() == []
