"""Ask the gateway again about what is pending, with the same key, until it answers."""

from collections.abc import Callable
from typing import Final

from payment_service.application.gateway_time import GATEWAY_SECONDS_MAX, RESERVE_SECONDS
from payment_service.application.ports import (
    Answer,
    NotFound,
    PaymentRecord,
    RefundRecord,
    Store,
    Unknown,
    Work,
)
from payment_service.application.settlement import Settlement
from payment_service.domain.audit import Actor
from payment_service.domain.payment import Payment
from service_kit import call
from service_kit.call import Call
from service_kit.clock import Clock

ASK_SECONDS: Final = GATEWAY_SECONDS_MAX + RESERVE_SECONDS
# For first questions less: most are answered at once, and if this process dies while it asks,
# nobody else does before the time is over. Those of a caller count too.
FIRST_SECONDS: Final = 2.0 + RESERVE_SECONDS
FIRST_QUESTIONS: Final = 3


class AskAgain:
    """Takes one pending payment or refund whose answer is missing, and asks.

    While the gateway does not answer, what is pending is asked about in turn, one at a time; an
    answer makes all of it due at once. What is never answered waits longer each time and is in
    nobody's way.
    """

    def __init__(self, *, store: Store, settlement: Settlement, clock: Clock) -> None:
        self._store = store
        self._settlement = settlement
        self._clock = clock
        self._is_gateway_lost = False

    def payments(self) -> bool:
        """Ask about one payment. Say whether the gateway answered: there may be more."""
        return self._ask_about_one(
            lambda work: work.payments.waiting(self._clock.now()), self._ask_about_payment
        )

    def refunds(self) -> bool:
        """Ask about one refund likewise."""
        return self._ask_about_one(
            lambda work: work.refunds.waiting(self._clock.now()), self._ask_about_refund
        )

    def _ask_about_one(
        self, is_any_waiting: Callable[[Work], bool], ask: Callable[[Call], bool | None]
    ) -> bool:
        if not self._store.read(is_any_waiting):
            return False
        with call.background("AskAgain", seconds=ASK_SECONDS) as background:
            is_answered = ask(background)
        if is_answered is None:
            return False
        if is_answered and self._is_gateway_lost:
            self._store.transact(_make_all_due)
        self._is_gateway_lost = not is_answered
        return is_answered

    def _ask_about_payment(self, background: Call) -> bool | None:
        def take(work: Work) -> tuple[PaymentRecord, Call] | None:
            record = work.payments.lock_due(self._clock.now())
            if record is None:
                return None
            deadline = self._deadline(record, background)
            taken = self._settlement.take_payment(work, record, deadline)
            return (taken, deadline) if taken else None

        taken = self._store.transact(take)
        if taken is None:
            return None
        record, deadline = taken
        answer: Answer | NotFound = Unknown()
        try:
            answer = self._settlement.ask_about_payment(record, deadline)
        finally:
            # A question that fails is one in vain: others come before it is asked again.
            self._settlement.record_payment(record, answer, by=_actor(background))
        return not isinstance(answer, Unknown)

    def _ask_about_refund(self, background: Call) -> bool | None:
        def take(work: Work) -> tuple[RefundRecord, Payment, Call] | None:
            record = work.refunds.lock_due(self._clock.now())
            if record is None:
                return None
            deadline = self._deadline(record, background)
            taken = self._settlement.take_refund(work, record, deadline)
            payment = taken and work.payments.get(taken.refund.payment_id)
            return (taken, payment.payment, deadline) if taken and payment else None

        taken = self._store.transact(take)
        if taken is None:
            return None
        record, payment, deadline = taken
        answer: Answer | NotFound = Unknown()
        try:
            answer = self._settlement.ask_about_refund(record, payment, deadline)
        finally:
            self._settlement.record_refund(record, answer, by=_actor(background))
        return not isinstance(answer, Unknown)

    def _deadline(self, record: PaymentRecord | RefundRecord, background: Call) -> Call:
        if self._is_gateway_lost or record.asked_in_vain >= FIRST_QUESTIONS:
            return background
        return background.within(FIRST_SECONDS)


def _make_all_due(work: Work) -> None:
    work.payments.make_due()
    work.refunds.make_due()


def _actor(background: Call) -> Actor:
    return Actor(
        role="payment_service",
        id="payment-service",
        on_behalf_of="",
        trace_id=background.trace.trace_id,
    )
