"""Give money back: reserve the amount, ask the gateway, record the outcome."""

from dataclasses import dataclass, replace
from typing import Final

from payment_service.application.gateway_time import lease_of, require_gateway_time
from payment_service.application.ports import Deadline, RefundRecord, Replies, Store, Work
from payment_service.application.settlement import Settlement
from payment_service.domain.audit import Actor, AuditEntry
from payment_service.domain.errors import PaymentNotFound, Refusal
from payment_service.domain.money import Money
from payment_service.domain.payment import Payment
from payment_service.domain.refund import Refund
from payment_service.domain.state_machine import RefundAction
from service_kit.clock import Clock
from service_kit.errors import FieldViolation, IdempotencyKeyReused, InvalidRequest
from service_kit.idempotency.memory import ReplyMemory
from service_kit.idempotency.record import DATABASE, KeyedRequest, Reply
from service_kit.ids import new_id

# The only other method whose callers choose a key.
PROCESS_PAYMENT: Final = "ProcessPayment"


@dataclass(frozen=True)
class _Begun:
    """What the first transaction found or recorded, and whether this call is to ask."""

    record: RefundRecord
    payment: Payment
    ask: bool


class RefundPayment:
    """Gives part or all of a payment back, once per key and never more than was taken."""

    actions = (RefundAction.REQUEST, RefundAction.SUCCEED, RefundAction.FAIL)

    @dataclass(frozen=True)
    class Command:
        """Which payment, and how much of it."""

        request: KeyedRequest
        actor: Actor
        payment_id: str
        amount: Money

    def __init__(
        self,
        *,
        store: Store,
        memory: ReplyMemory,
        settlement: Settlement,
        replies: Replies,
        clock: Clock,
    ) -> None:
        self._store = store
        self._memory = memory
        self._settlement = settlement
        self._replies = replies
        self._clock = clock

    def __call__(self, command: Command, deadline: Deadline) -> Reply:
        """Return the reply: the final one, or the refund as it is while it is pending.

        Raises PaymentNotFound, InvalidRequest, DeadlineTooShort, IdempotencyKeyReused.
        """
        if reply := self._memory.recall(command.request):
            return reply
        require_gateway_time(deadline)
        refund_id = new_id("ref_")
        begun = self._store.transact(lambda work: self._begin(work, command, refund_id, deadline))
        record = begun.record
        found = not begun.ask and record.refund.id != refund_id
        if begun.ask:
            record = self._settlement.settle_refund(
                record, begun.payment, by=command.actor, deadline=deadline
            )
        if record.reply is None:
            return Reply(ok=True, body=self._replies.refunded(record.refund, begun.payment))
        reply = replace(record.reply, replayed_from=DATABASE if found else "")
        self._memory.remember(command.request, reply)
        return reply

    def _begin(self, work: Work, command: Command, refund_id: str, deadline: Deadline) -> _Begun:
        """Find or record the intent."""
        request = command.request
        # Locked before anything is added up: two refunds cannot both take what is left.
        locked = work.payments.lock(command.payment_id)
        known = work.refunds.by_key(request.role, request.caller, request.key)
        if known and known.request.fingerprint != request.fingerprint:
            raise IdempotencyKeyReused(method=request.method)
        if known is None and work.payments.by_key(request.role, request.caller, request.key):
            raise IdempotencyKeyReused(method=PROCESS_PAYMENT)
        if locked is None:
            raise PaymentNotFound(payment_id=command.payment_id)
        payment = locked.payment
        if known:
            if known.refund.id == refund_id:
                # Run again because the confirmation of our own commit was lost.
                return _Begun(known, payment, ask=known.reply is None)
            taken = self._settlement.take_refund(work, known, deadline)
            return _Begun(taken or known, payment, ask=taken is not None)
        reserved = work.refunds.reserved(payment.id)
        record, entry = self._intent(command, payment, reserved, refund_id, deadline)
        work.refunds.add(record)
        work.audit.append(entry)
        return _Begun(record, payment, ask=record.reply is None)

    def _intent(
        self,
        command: Command,
        payment: Payment,
        reserved: int,
        refund_id: str,
        deadline: Deadline,
    ) -> tuple[RefundRecord, AuditEntry]:
        amount, now = command.amount, self._clock.now()
        if payment.amount and payment.amount.currency_code != amount.currency_code:
            wrong = FieldViolation("amount.currency_code", "must be the payment's currency")
            raise InvalidRequest(violations=[wrong])
        try:
            refund, entry = Refund.request(
                refund_id=refund_id,
                payment=payment,
                amount=amount,
                reserved=reserved,
                by=command.actor,
                at=now,
            )
        except Refusal as refusal:
            refund, entry = Refund.refused(
                refusal,
                refund_id=refund_id,
                payment=payment,
                amount=amount,
                by=command.actor,
                at=now,
            )
            reply = Reply(ok=False, body=self._replies.refusal(refusal))
            return RefundRecord(refund=refund, request=command.request, reply=reply), entry
        lease_until = now + lease_of(deadline)
        return RefundRecord(refund=refund, request=command.request, lease_until=lease_until), entry
