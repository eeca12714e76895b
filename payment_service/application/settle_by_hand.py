"""End a payment or refund on an operator's word, after the gateway was asked once more."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar, assert_never

from payment_service.application.ports import (
    Answer,
    Deadline,
    Declined,
    NotFound,
    PaymentRecord,
    RefundRecord,
    Store,
    Succeeded,
    Unknown,
    Work,
)
from payment_service.application.settlement import Settlement
from payment_service.domain.audit import Actor
from payment_service.domain.payment import Payment
from payment_service.domain.refund import Refund

SETTLED_BY_OPERATOR: Final = "settled_by_operator"

Verdict = Succeeded | Declined
R = TypeVar("R")


class NothingSettled(Exception):
    """The payment or refund is not one that waits for a person. Nothing was changed."""

    def __init__(self, *, item_id: str, problem: str) -> None:
        super().__init__(f"{item_id}: {problem}")
        self.item_id = item_id


@dataclass(frozen=True)
class Settled:
    """What it ended as. If the gateway knew after all, its word counts."""

    status: str
    reference: str
    decline_code: str
    by_gateway: bool


class SettleByHand:
    """The only way out for what the gateway does not know and may have forgotten."""

    def __init__(self, *, store: Store, settlement: Settlement) -> None:
        self._store = store
        self._settlement = settlement

    def payment(
        self, payment_id: str, verdict: Verdict, *, by: Actor, deadline: Deadline
    ) -> Settled:
        """End a payment. Raises NothingSettled, ConcurrentUpdate."""
        record = self._store.transact(
            lambda work: self._take_payment(work, payment_id, verdict, deadline)
        )
        answer = self._look_up(
            record.payment, lambda: self._settlement.ask_about_payment(record, deadline)
        )
        outcome, reason = _outcome(answer, verdict)
        payment = self._settlement.record_payment(record, outcome, by=by, reason=reason).payment
        _require_answer(payment_id, answer)
        return _settled(payment, answer, verdict)

    def refund(self, refund_id: str, verdict: Verdict, *, by: Actor, deadline: Deadline) -> Settled:
        """End a refund. Raises NothingSettled, ConcurrentUpdate."""
        record, payment = self._store.transact(
            lambda work: self._take_refund(work, refund_id, verdict, deadline)
        )
        answer = self._look_up(
            payment, lambda: self._settlement.ask_about_refund(record, payment, deadline)
        )
        outcome, reason = _outcome(answer, verdict)
        refund = self._settlement.record_refund(record, outcome, by=by, reason=reason).refund
        _require_answer(refund_id, answer)
        return _settled(refund, answer, verdict)

    def _look_up(self, payment: Payment, ask: Callable[[], Answer | NotFound]) -> Answer | NotFound:
        if not self._settlement.is_of_this_gateway(payment):
            return NotFound()  # nobody here can ask the one that knows
        return ask()

    def _take_payment(
        self, work: Work, payment_id: str, verdict: Verdict, deadline: Deadline
    ) -> PaymentRecord:
        record = work.payments.lock(payment_id)
        if record is None:
            raise NothingSettled(item_id=payment_id, problem="there is no such payment")
        payment = record.payment
        self._require_waiting(payment_id, payment.status.value, payment.created_at)
        if isinstance(verdict, Succeeded) and (
            other := work.payments.by_reference(verdict.reference)
        ):
            raise _taken_reference(payment_id, verdict.reference, other.payment.id)
        taken = self._settlement.take_payment(work, record, deadline)
        return _require_taken(payment_id, taken)

    def _take_refund(
        self, work: Work, refund_id: str, verdict: Verdict, deadline: Deadline
    ) -> tuple[RefundRecord, Payment]:
        found = work.refunds.get(refund_id)
        locked = work.payments.lock(found.refund.payment_id) if found else None
        record = work.refunds.get(refund_id)
        if record is None or locked is None:
            raise NothingSettled(item_id=refund_id, problem="there is no such refund")
        self._require_waiting(refund_id, record.refund.status.value, record.refund.created_at)
        if isinstance(verdict, Succeeded) and (
            other := work.refunds.by_reference(verdict.reference)
        ):
            raise _taken_reference(refund_id, verdict.reference, other.refund.id)
        taken = self._settlement.take_refund(work, record, deadline)
        return _require_taken(refund_id, taken), locked.payment

    def _require_waiting(self, item_id: str, status: str, sent_first_at: datetime) -> None:
        if status != "pending":
            raise NothingSettled(item_id=item_id, problem=f"it has {status} already")
        if not self._settlement.is_key_too_old(sent_first_at):
            problem = "the gateway is still being asked about it; needs-human lists what waits"
            raise NothingSettled(item_id=item_id, problem=problem)
        if self._settlement.may_still_arrive(sent_first_at):
            problem = "what was sent last may still be on its way; try again in a few minutes"
            raise NothingSettled(item_id=item_id, problem=problem)


def _outcome(answer: Answer | NotFound, verdict: Verdict) -> tuple[Answer, str]:
    match answer:
        case Succeeded() | Declined() | Unknown():
            return answer, ""
        case NotFound():
            return verdict, SETTLED_BY_OPERATOR
        case _:
            assert_never(answer)


def _require_answer(item_id: str, answer: Answer | NotFound) -> None:
    if isinstance(answer, Unknown):
        problem = "the gateway does not answer, and is asked once more before anybody's word counts"
        raise NothingSettled(item_id=item_id, problem=problem)


def _settled(ended: Payment | Refund, answer: Answer | NotFound, verdict: Verdict) -> Settled:
    # The gateway's word may also have come in between, to somebody who had asked before.
    is_verdict = (
        ended.gateway_reference == verdict.reference
        if isinstance(verdict, Succeeded)
        else ended.decline_code == verdict.code
    )
    return Settled(
        status=ended.status.value,
        reference=ended.gateway_reference,
        decline_code=ended.decline_code,
        by_gateway=not isinstance(answer, NotFound) or not is_verdict,
    )


def _taken_reference(item_id: str, reference: str, other_id: str) -> NothingSettled:
    return NothingSettled(
        item_id=item_id, problem=f"the reference {reference} is that of {other_id}"
    )


def _require_taken(item_id: str, taken: R | None) -> R:
    if taken is None:
        problem = "the gateway is being asked about it at this moment; try again"
        raise NothingSettled(item_id=item_id, problem=problem)
    return taken
