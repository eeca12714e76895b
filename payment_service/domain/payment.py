"""A payment. Every change returns the new payment together with its audit entry."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from payment_service.domain.audit import Actor, AuditEntry, EventType, Outcome
from payment_service.domain.errors import Refusal
from payment_service.domain.money import Money
from payment_service.domain.state_machine import (
    PaymentAction,
    PaymentStatus,
    next_payment_status,
)
from payment_service.domain.ticket import PaymentTicket

Change = tuple["Payment", AuditEntry]


class VoidReason(Enum):
    """Why a payment was never sent to the gateway. The value is what is stored."""

    ORDER_SEALED = "order_sealed"
    ANOTHER_PAYMENT_IS_LIVE = "another_payment_is_live"
    RESOLVED_BEFORE_ARRIVAL = "resolved_before_arrival"


@dataclass(frozen=True)
class Payment:
    """One attempt to take the money for one order.

    A payment that was resolved before it arrived has no amount and no customer. `gateway` is
    empty if none was asked.
    """

    id: str
    order_id: str
    customer_id: str
    amount: Money | None
    refunded: Money | None
    status: PaymentStatus
    gateway: str
    created_at: datetime
    updated_at: datetime
    decline_code: str = ""
    void_reason: VoidReason | None = None
    gateway_reference: str = ""

    @classmethod
    def request(
        cls, *, payment_id: str, ticket: PaymentTicket, gateway: str, by: Actor, at: datetime
    ) -> Change:
        """Record the intent to charge what the ticket states."""
        payment = cls(
            id=payment_id,
            order_id=ticket.order_id,
            customer_id=ticket.customer_id,
            amount=ticket.amount,
            refunded=Money(ticket.amount.currency_code, 0),
            status=next_payment_status(None, PaymentAction.REQUEST),
            gateway=gateway,
            created_at=at,
            updated_at=at,
        )
        return payment, payment._entry(EventType.PAYMENT_REQUESTED, from_status="", by=by)

    @classmethod
    def void(
        cls, *, payment_id: str, ticket: PaymentTicket, reason: VoidReason, by: Actor, at: datetime
    ) -> Change:
        """Record that the ticket is not charged, and why."""
        payment = cls(
            id=payment_id,
            order_id=ticket.order_id,
            customer_id=ticket.customer_id,
            amount=ticket.amount,
            refunded=Money(ticket.amount.currency_code, 0),
            status=next_payment_status(None, PaymentAction.VOID),
            gateway="",
            created_at=at,
            updated_at=at,
            void_reason=reason,
        )
        return payment, payment._voided(by)

    @classmethod
    def void_unseen(cls, *, payment_id: str, order_id: str, by: Actor, at: datetime) -> Change:
        """Record, in place of a request that has not arrived, that it will charge nothing."""
        payment = cls(
            id=payment_id,
            order_id=order_id,
            customer_id="",
            amount=None,
            refunded=None,
            status=next_payment_status(None, PaymentAction.VOID),
            gateway="",
            created_at=at,
            updated_at=at,
            void_reason=VoidReason.RESOLVED_BEFORE_ARRIVAL,
        )
        return payment, payment._voided(by)

    def succeed(self, *, reference: str, by: Actor, at: datetime) -> Change:
        """Record that the gateway took the money; `reference` is the gateway's own."""
        payment = replace(
            self,
            status=next_payment_status(self.status, PaymentAction.SUCCEED),
            gateway_reference=reference,
            updated_at=at,
        )
        return payment, payment._entry(
            EventType.PAYMENT_SUCCEEDED, from_status=self.status.value, by=by
        )

    def fail(self, *, decline_code: str, by: Actor, at: datetime) -> Change:
        """Record that the gateway declined and took nothing."""
        payment = replace(
            self,
            status=next_payment_status(self.status, PaymentAction.FAIL),
            decline_code=decline_code,
            updated_at=at,
        )
        return payment, payment._entry(
            EventType.PAYMENT_FAILED, from_status=self.status.value, by=by, reason=decline_code
        )

    def give_back(self, amount: Money, *, at: datetime) -> "Payment":
        """Return the payment with that much more given back. Only a refund calls this."""
        assert self.refunded is not None  # a succeeded payment has an amount
        return replace(self, refunded=self.refunded + amount, updated_at=at)

    def seal(self, *, by: Actor, at: datetime) -> AuditEntry:
        """Write down that its order was sealed. The payment goes on as it is."""
        return self._unchanged(EventType.ORDER_SEALED, by=by, at=at)

    def refuse_refund(self, refusal: Refusal, *, by: Actor, at: datetime) -> AuditEntry:
        """Write down that a refund of it was refused."""
        entry = self._unchanged(EventType.REFUND_REFUSED, by=by, at=at, reason=refusal.reason)
        return replace(entry, outcome=Outcome.REFUSED)

    def contradict(self, *, reason: str, by: Actor, at: datetime) -> AuditEntry:
        """Write down that the gateway claims another outcome than the settled one."""
        return self._unchanged(EventType.GATEWAY_DISCREPANCY_FOUND, by=by, at=at, reason=reason)

    def _voided(self, by: Actor) -> AuditEntry:
        assert self.void_reason is not None  # set by both callers
        return self._entry(
            EventType.PAYMENT_VOIDED, from_status="", by=by, reason=self.void_reason.value
        )

    def _unchanged(
        self, event_type: EventType, *, by: Actor, at: datetime, reason: str = ""
    ) -> AuditEntry:
        entry = self._entry(event_type, from_status=self.status.value, by=by, reason=reason)
        return replace(entry, at=at)

    def _entry(
        self, event_type: EventType, *, from_status: str, by: Actor, reason: str = ""
    ) -> AuditEntry:
        return AuditEntry(
            order_id=self.order_id,
            payment_id=self.id,
            refund_id="",
            actor=by,
            at=self.updated_at,
            event_type=event_type,
            from_status=from_status,
            to_status=self.status.value,
            reason=reason,
        )


def seal_unpaid(order_id: str, *, by: Actor, at: datetime) -> AuditEntry:
    """Write down that an order was sealed which has no payment pending or succeeded."""
    return AuditEntry(
        order_id=order_id,
        payment_id="",
        refund_id="",
        actor=by,
        at=at,
        event_type=EventType.ORDER_SEALED,
        from_status="",
        to_status="",
    )
