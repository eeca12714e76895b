"""A refund. Every change returns the new refund together with its audit entry."""

from dataclasses import dataclass, replace
from datetime import datetime

from payment_service.domain.audit import Actor, AuditEntry, EventType
from payment_service.domain.errors import PaymentNotSucceeded, RefundExceedsPayment, Refusal
from payment_service.domain.money import Money
from payment_service.domain.payment import Payment
from payment_service.domain.state_machine import (
    PaymentStatus,
    RefundAction,
    RefundStatus,
    next_refund_status,
)

Change = tuple["Refund", AuditEntry]


@dataclass(frozen=True)
class Refund:
    """One attempt to give back part or all of a payment."""

    id: str
    payment_id: str
    order_id: str
    amount: Money
    status: RefundStatus
    created_at: datetime
    updated_at: datetime
    decline_code: str = ""
    gateway_reference: str = ""

    @classmethod
    def request(
        cls,
        *,
        refund_id: str,
        payment: Payment,
        amount: Money,
        reserved: int,
        by: Actor,
        at: datetime,
    ) -> Change:
        """Record the intent to give `amount` back.

        `reserved` is the sum, in minor units, of the payment's refunds that have succeeded or
        still may. Raises PaymentNotSucceeded or RefundExceedsPayment.
        """
        if payment.status is not PaymentStatus.SUCCEEDED or payment.amount is None:
            raise PaymentNotSucceeded(payment_id=payment.id, status=payment.status.value)
        refundable = payment.amount - Money(payment.amount.currency_code, reserved)
        if amount.minor_units > refundable.minor_units:
            raise RefundExceedsPayment(
                payment_id=payment.id,
                currency_code=amount.currency_code,
                refundable=refundable.minor_units,
                requested=amount.minor_units,
            )
        refund = cls(
            id=refund_id,
            payment_id=payment.id,
            order_id=payment.order_id,
            amount=amount,
            status=next_refund_status(None, RefundAction.REQUEST),
            created_at=at,
            updated_at=at,
        )
        return refund, refund._entry(EventType.REFUND_REQUESTED, from_status="", by=by)

    @classmethod
    def refused(
        cls,
        refusal: Refusal,
        *,
        refund_id: str,
        payment: Payment,
        amount: Money,
        by: Actor,
        at: datetime,
    ) -> Change:
        """Record that a refund was refused: it is failed before it has begun."""
        refund = cls(
            id=refund_id,
            payment_id=payment.id,
            order_id=payment.order_id,
            amount=amount,
            status=RefundStatus.FAILED,
            created_at=at,
            updated_at=at,
        )
        return refund, payment.refuse_refund(refusal, by=by, at=at)

    def succeed(
        self, payment: Payment, *, reference: str, by: Actor, at: datetime
    ) -> tuple["Refund", Payment, AuditEntry]:
        """Record that the gateway gave the money back: on the refund and on its payment."""
        refund = replace(
            self,
            status=next_refund_status(self.status, RefundAction.SUCCEED),
            gateway_reference=reference,
            updated_at=at,
        )
        entry = refund._entry(EventType.REFUND_SUCCEEDED, from_status=self.status.value, by=by)
        return refund, payment.give_back(self.amount, at=at), entry

    def fail(self, *, decline_code: str, by: Actor, at: datetime) -> Change:
        """Record that the gateway declined and gave nothing back."""
        refund = replace(
            self,
            status=next_refund_status(self.status, RefundAction.FAIL),
            decline_code=decline_code,
            updated_at=at,
        )
        return refund, refund._entry(
            EventType.REFUND_FAILED, from_status=self.status.value, by=by, reason=decline_code
        )

    def contradict(self, *, reason: str, by: Actor, at: datetime) -> AuditEntry:
        """Write down that the gateway claims another outcome than the settled one."""
        entry = self._entry(
            EventType.GATEWAY_DISCREPANCY_FOUND,
            from_status=self.status.value,
            by=by,
            reason=reason,
        )
        return replace(entry, at=at)

    def _entry(
        self, event_type: EventType, *, from_status: str, by: Actor, reason: str = ""
    ) -> AuditEntry:
        return AuditEntry(
            order_id=self.order_id,
            payment_id=self.payment_id,
            refund_id=self.id,
            actor=by,
            at=self.updated_at,
            event_type=event_type,
            from_status=from_status,
            to_status=self.status.value,
            reason=reason,
        )
