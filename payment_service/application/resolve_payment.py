"""Find out what became of a ProcessPayment call, and make the answer last."""

from dataclasses import dataclass

from payment_service.application.gateway_time import require_gateway_time
from payment_service.application.ports import (
    Deadline,
    PaymentRecord,
    Replies,
    Store,
    Work,
)
from payment_service.application.settlement import Settlement
from payment_service.domain.audit import Actor
from payment_service.domain.errors import PaymentMismatch
from payment_service.domain.payment import Payment
from payment_service.domain.state_machine import PaymentAction
from service_kit.clock import Clock
from service_kit.ids import new_id


class ResolvePayment:
    """Answers for the caller's own key. It names that key and uses none of its own."""

    actions = (PaymentAction.VOID, PaymentAction.SUCCEED, PaymentAction.FAIL)

    @dataclass(frozen=True)
    class Command:
        """The order, and the key under which the actor was to pay it."""

        actor: Actor
        order_id: str
        key: str

    def __init__(
        self, *, store: Store, settlement: Settlement, replies: Replies, clock: Clock
    ) -> None:
        self._store = store
        self._settlement = settlement
        self._replies = replies
        self._clock = clock

    def __call__(self, command: Command, deadline: Deadline) -> Payment:
        """Return the payment under the key; a voided one if the call had not arrived.

        Raises PaymentMismatch if the payment under the key is another order's, DeadlineTooShort.
        """
        require_gateway_time(deadline)
        payment_id = new_id("pay_")
        record, ask = self._store.transact(
            lambda work: self._find(work, command, payment_id, deadline)
        )
        if ask:
            record = self._settlement.settle_payment(record, by=command.actor, deadline=deadline)
        return record.payment

    def _find(
        self, work: Work, command: Command, payment_id: str, deadline: Deadline
    ) -> tuple[PaymentRecord, bool]:
        """Find the payment or void it. Say whether this call is the one to ask the gateway."""
        actor, order_id = command.actor, command.order_id
        work.orders.lock(order_id)
        known = work.payments.by_key(actor.role, actor.id, command.key)
        if known is None:
            return self._void(work, command, payment_id), False
        if known.payment.order_id != order_id:
            raise PaymentMismatch(order_id=order_id, payment_id=known.payment.id)
        taken = self._settlement.take_payment(work, known, deadline)
        return taken or known, taken is not None

    def _void(self, work: Work, command: Command, payment_id: str) -> PaymentRecord:
        # In the place of a call that may still arrive: if it does, it finds its key taken.
        payment, entry = Payment.void_unseen(
            payment_id=payment_id,
            order_id=command.order_id,
            by=command.actor,
            at=self._clock.now(),
        )
        record = PaymentRecord(
            payment=payment,
            role=command.actor.role,
            caller=command.actor.id,
            key=command.key,
            fingerprint=None,
            reply=self._replies.processed(payment),
        )
        work.payments.add(record)
        work.audit.append(entry)
        return record
