"""The outcome of a payment or a refund, written down: status, audit and final reply together.

The same whether the call that recorded it asks the gateway, a repeat, a resolve or a seal. The
gateway is asked with the same key every time, and never inside a transaction.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, assert_never

from payment_service.application.gateway_time import (
    GATEWAY_SECONDS_MIN,
    gateway_seconds,
    is_leased,
    lease_of,
)
from payment_service.application.ports import (
    Answer,
    Charge,
    Deadline,
    Declined,
    Gateway,
    GiveBack,
    NotFound,
    PaymentRecord,
    RefundRecord,
    Replies,
    Store,
    Succeeded,
    Unknown,
    Work,
)
from payment_service.domain.audit import Actor
from payment_service.domain.payment import Payment
from payment_service.domain.state_machine import PaymentStatus, RefundStatus
from service_kit.clock import Clock
from service_kit.errors import ConcurrentUpdate
from service_kit.idempotency.record import Reply

# Within this time what was sent to the gateway has arrived there or is lost. Much longer than any
# call: a request whose caller heard nothing may still be executed.
ARRIVES_WITHIN: Final = timedelta(minutes=5)


class Settlement:
    """Asks the gateway about what is pending, and records what it says.

    Nothing is sent under a key older than `key_age_max`, by nobody: beyond it the gateway may
    have forgotten the key and would move the money again. From then on it is only looked up.
    """

    def __init__(
        self,
        *,
        store: Store,
        gateway: Gateway,
        replies: Replies,
        clock: Clock,
        key_age_max: timedelta,
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._replies = replies
        self._clock = clock
        self._key_age_max = key_age_max

    def take_payment(
        self, work: Work, record: PaymentRecord, deadline: Deadline
    ) -> PaymentRecord | None:
        """Take the lease of a pending payment in order to ask. None: it is final, or is asked."""
        now = self._clock.now()
        if record.reply is not None or is_leased(record.lease_until, now):
            return None
        lease_until = now + lease_of(deadline)
        work.payments.lease(record.payment.id, lease_until)
        return replace(record, lease_until=lease_until)

    def take_refund(
        self, work: Work, record: RefundRecord, deadline: Deadline
    ) -> RefundRecord | None:
        """Take the lease of a pending refund likewise."""
        now = self._clock.now()
        if record.reply is not None or is_leased(record.lease_until, now):
            return None
        lease_until = now + lease_of(deadline)
        work.refunds.lease(record.refund.id, lease_until)
        return replace(record, lease_until=lease_until)

    def settle_payment(
        self, record: PaymentRecord, *, by: Actor, deadline: Deadline
    ) -> PaymentRecord:
        """Ask about a pending payment whose lease the caller has taken. Return it as it is then.

        Unless the gateway answers, it stays pending and its lease ends: the next call may ask
        at once.
        """
        answer = self.ask_about_payment(record, deadline)
        try:
            return self.record_payment(record, answer, by=by)
        except ConcurrentUpdate:
            # The gateway was asked: not "nothing was changed". Whoever asks next writes it down.
            return record

    def settle_refund(
        self, record: RefundRecord, payment: Payment, *, by: Actor, deadline: Deadline
    ) -> RefundRecord:
        """Ask about a pending refund likewise. `payment` is what it gives back from."""
        answer = self.ask_about_refund(record, payment, deadline)
        try:
            return self.record_refund(record, answer, by=by)
        except ConcurrentUpdate:
            return record

    def is_of_this_gateway(self, payment: Payment) -> bool:
        """Say whether the gateway that was asked for a payment is the one that is asked now."""
        return payment.gateway == self._gateway.name

    def is_key_too_old(self, sent_first_at: datetime) -> bool:
        """Say whether the gateway may have forgotten a key: it is only looked up any more."""
        return self._clock.now() - sent_first_at > self._key_age_max

    def may_still_arrive(self, sent_first_at: datetime) -> bool:
        """Say whether something sent under a key, at the last moment, may be on its way."""
        return self._clock.now() - sent_first_at <= self._key_age_max + ARRIVES_WITHIN

    def ask_about_payment(self, record: PaymentRecord, deadline: Deadline) -> Answer | NotFound:
        """Send a charge, again with its key; look it up if the key is too old."""
        payment = record.payment
        return self._ask(
            payment,
            payment.created_at,
            deadline,
            send=lambda seconds: self._charge(record, seconds),
            look_up=lambda seconds: self._gateway.find_charge(payment.id, timeout_seconds=seconds),
        )

    def ask_about_refund(
        self, record: RefundRecord, payment: Payment, deadline: Deadline
    ) -> Answer | NotFound:
        """Send a refund likewise."""
        refund = record.refund
        give_back = GiveBack(
            key=refund.id, charge_reference=payment.gateway_reference, amount=refund.amount
        )
        return self._ask(
            payment,
            refund.created_at,
            deadline,
            send=lambda seconds: self._gateway.refund(give_back, timeout_seconds=seconds),
            look_up=lambda seconds: self._gateway.find_refund(refund.id, timeout_seconds=seconds),
        )

    def record_payment(
        self, asked: PaymentRecord, answer: Answer | NotFound, *, by: Actor, reason: str = ""
    ) -> PaymentRecord:
        """Write an answer down, or a discrepancy if the payment has ended otherwise.

        `reason` says on whose word it ended if not on the gateway's. Raises ConcurrentUpdate.
        """
        return self._store.change(lambda work: self._record_charge(work, asked, answer, by, reason))

    def record_refund(
        self, asked: RefundRecord, answer: Answer | NotFound, *, by: Actor, reason: str = ""
    ) -> RefundRecord:
        """Write an answer down likewise."""
        return self._store.transact(
            lambda work: self._record_refund(work, asked, answer, by, reason)
        )

    def _ask(
        self,
        payment: Payment,
        sent_first_at: datetime,
        deadline: Deadline,
        *,
        send: Callable[[float], Answer],
        look_up: Callable[[float], Answer | NotFound],
    ) -> Answer | NotFound:
        seconds = gateway_seconds(deadline)
        if seconds < GATEWAY_SECONDS_MIN:
            return Unknown()  # the caller's time went by while the intent was recorded
        if not self.is_of_this_gateway(payment):
            return Unknown()  # another one does not know the key, and would move the money again
        if self.is_key_too_old(sent_first_at):
            return look_up(seconds)
        return send(seconds)

    def _charge(self, record: PaymentRecord, seconds: float) -> Answer:
        payment = record.payment
        assert payment.amount is not None  # it is pending
        assert record.payment_token is not None  # likewise
        charge = Charge(
            key=payment.id,
            order_id=payment.order_id,
            amount=payment.amount,
            payment_token=record.payment_token,
        )
        return self._gateway.charge(charge, timeout_seconds=seconds)

    def _record_charge(
        self, work: Work, asked: PaymentRecord, answer: Answer | NotFound, by: Actor, reason: str
    ) -> PaymentRecord:
        record = work.payments.lock(asked.payment.id, order_id=asked.payment.order_id)
        assert record is not None  # payments are never deleted
        payment, now = record.payment, self._clock.now()
        if payment.status is not PaymentStatus.PENDING:
            succeeded = payment.status is PaymentStatus.SUCCEEDED
            contradiction = _contradiction(
                answer, succeeded=succeeded, reference=payment.gateway_reference
            )
            # Only the gateway contradicts: anybody else's word has come too late.
            if contradiction and not reason:
                # The row lock counts as the transaction's first write.
                work.audit.append(payment.contradict(reason=contradiction, by=by, at=now))
            return record
        match answer:
            case Succeeded(reference):
                payment, entry = payment.succeed(reference=reference, by=by, at=now)
            case Declined(code):
                payment, entry = payment.fail(decline_code=code, by=by, at=now)
            case NotFound() | Unknown():
                assert asked.lease_until is not None  # whoever asks has taken it
                work.payments.release(payment.id, asked.lease_until, now=now)
                return record
            case _:
                assert_never(answer)
        record = record.settled(payment, self._replies.processed(payment))
        work.payments.settle(record)
        work.audit.append(replace(entry, reason=reason or entry.reason))
        return record

    def _record_refund(
        self, work: Work, asked: RefundRecord, answer: Answer | NotFound, by: Actor, reason: str
    ) -> RefundRecord:
        locked = work.payments.lock(asked.refund.payment_id)
        record = work.refunds.get(asked.refund.id)
        assert locked is not None  # neither is ever deleted
        assert record is not None
        refund, payment, now = record.refund, locked.payment, self._clock.now()
        if refund.status is not RefundStatus.PENDING:
            succeeded = refund.status is RefundStatus.SUCCEEDED
            contradiction = _contradiction(
                answer, succeeded=succeeded, reference=refund.gateway_reference
            )
            if contradiction and not reason:
                work.audit.append(refund.contradict(reason=contradiction, by=by, at=now))
            return record
        match answer:
            case Succeeded(reference):
                refund, payment, entry = refund.succeed(payment, reference=reference, by=by, at=now)
                work.payments.give_back(payment)
            case Declined(code):
                refund, entry = refund.fail(decline_code=code, by=by, at=now)
            case NotFound() | Unknown():
                assert asked.lease_until is not None  # likewise
                work.refunds.release(refund.id, asked.lease_until, now=now)
                return record
            case _:
                assert_never(answer)
        reply = Reply(ok=True, body=self._replies.refunded(refund, payment))
        record = record.settled(refund, reply)
        work.refunds.settle(record)
        work.audit.append(replace(entry, reason=reason or entry.reason))
        return record


def _contradiction(answer: Answer | NotFound, *, succeeded: bool, reference: str) -> str:
    match answer:
        case Succeeded() if not succeeded:
            return "gateway_says_succeeded"
        case Succeeded(other) if other != reference:
            return "gateway_moved_money_twice"
        case Declined() if succeeded:
            return "gateway_says_failed"
        case _:
            # The same outcome again, or none: a look-up can only find.
            return ""
