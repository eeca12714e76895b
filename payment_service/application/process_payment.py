"""Charge a payment ticket: record the intent, ask the gateway, record the outcome."""

from dataclasses import dataclass

from payment_service.application.gateway_time import lease_of, require_gateway_time
from payment_service.application.ports import (
    Deadline,
    Gateway,
    PaymentRecord,
    Replies,
    Store,
    Work,
)
from payment_service.application.settlement import Settlement
from payment_service.domain.audit import Actor, AuditEntry
from payment_service.domain.errors import PaymentTicketInvalid
from payment_service.domain.payment import Payment, VoidReason
from payment_service.domain.state_machine import PaymentAction
from payment_service.domain.ticket import PaymentTicket
from service_kit.call import CUSTOMER
from service_kit.clock import Clock
from service_kit.errors import FieldViolation, IdempotencyKeyReused, InvalidRequest
from service_kit.idempotency.memory import ReplyMemory
from service_kit.idempotency.record import DATABASE, KeyedRequest, Reply
from service_kit.ids import new_id


class ProcessPayment:
    """Takes the money of a ticket, once per key and once per order."""

    actions = (
        PaymentAction.REQUEST,
        PaymentAction.VOID,
        PaymentAction.SUCCEED,
        PaymentAction.FAIL,
    )

    @dataclass(frozen=True)
    class Command:
        """What a verified ticket states, and the token to charge."""

        request: KeyedRequest
        actor: Actor
        ticket: PaymentTicket
        payment_token: str

    def __init__(
        self,
        *,
        store: Store,
        memory: ReplyMemory,
        gateway: Gateway,
        settlement: Settlement,
        replies: Replies,
        clock: Clock,
    ) -> None:
        self._store = store
        self._memory = memory
        self._gateway = gateway
        self._settlement = settlement
        self._replies = replies
        self._clock = clock

    def __call__(self, command: Command, deadline: Deadline) -> Reply:
        """Return the reply: the final one, or the payment as it is while it is pending.

        Raises PaymentTicketInvalid, InvalidRequest, DeadlineTooShort, IdempotencyKeyReused.
        """
        self._require_chargeable(command)
        if reply := self._memory.recall(command.request):
            return reply
        require_gateway_time(deadline)
        payment_id = new_id("pay_")
        record, ask = self._store.change(
            lambda work: self._begin(work, command, payment_id, deadline)
        )
        found = not ask and record.payment.id != payment_id
        if ask:
            record = self._settlement.settle_payment(record, by=command.actor, deadline=deadline)
        if record.reply is None:
            return Reply(ok=True, body=self._replies.processed(record.payment))
        reply = Reply(ok=True, body=record.reply, replayed_from=DATABASE if found else "")
        self._memory.remember(command.request, reply)
        return reply

    def _require_chargeable(self, command: Command) -> None:
        actor = command.actor
        if actor.role == CUSTOMER and command.ticket.customer_id != actor.id:
            raise PaymentTicketInvalid
        if not self._gateway.accepts(command.payment_token):
            wrong = FieldViolation("payment_token", f"must be {self._gateway.accepted_tokens}")
            raise InvalidRequest(violations=[wrong])

    def _begin(
        self, work: Work, command: Command, payment_id: str, deadline: Deadline
    ) -> tuple[PaymentRecord, bool]:
        """Find or record the intent. Say whether this call is the one to ask the gateway."""
        request, ticket = command.request, command.ticket
        # Locked before anything is looked up: a seal and a payment exclude each other.
        sealed = work.orders.lock(ticket.order_id)
        if known := work.payments.by_key(request.role, request.caller, request.key):
            # No fingerprint: it was resolved before its request arrived, whatever that says.
            if known.fingerprint not in (None, request.fingerprint):
                raise IdempotencyKeyReused(method=request.method)
            if known.payment.id == payment_id:
                # Run again because the confirmation of our own commit was lost.
                return known, known.reply is None
            taken = self._settlement.take_payment(work, known, deadline)
            return taken or known, taken is not None
        if other := work.refunds.by_key(request.role, request.caller, request.key):
            raise IdempotencyKeyReused(method=other.request.method)
        reason = None
        if sealed:
            reason = VoidReason.ORDER_SEALED
        elif work.payments.live(ticket.order_id):
            reason = VoidReason.ANOTHER_PAYMENT_IS_LIVE
        record, entry = self._intent(command, payment_id, reason, deadline)
        work.payments.add(record)
        work.audit.append(entry)
        return record, reason is None

    def _intent(
        self, command: Command, payment_id: str, reason: VoidReason | None, deadline: Deadline
    ) -> tuple[PaymentRecord, AuditEntry]:
        request, now = command.request, self._clock.now()
        if reason:
            payment, entry = Payment.void(
                payment_id=payment_id,
                ticket=command.ticket,
                reason=reason,
                by=command.actor,
                at=now,
            )
        else:
            payment, entry = Payment.request(
                payment_id=payment_id,
                ticket=command.ticket,
                gateway=self._gateway.name,
                by=command.actor,
                at=now,
            )
        record = PaymentRecord(
            payment=payment,
            role=request.role,
            caller=request.caller,
            key=request.key,
            fingerprint=request.fingerprint,
            payment_token=None if reason else command.payment_token,
            lease_until=None if reason else now + lease_of(deadline),
            reply=self._replies.processed(payment) if reason else None,
        )
        return record, entry
