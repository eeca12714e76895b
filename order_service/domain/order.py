"""An order. Every change returns the new order together with its audit entry."""

from dataclasses import dataclass, replace
from datetime import datetime

from order_service.domain import errors
from order_service.domain.audit import Actor, AuditEntry, EventType, Outcome
from order_service.domain.money import Money
from order_service.domain.payment_operation import OperationKind, PaymentOperation
from order_service.domain.state_machine import OrderAction, OrderStatus, validate_transition

Change = tuple["Order", AuditEntry]


@dataclass(frozen=True)
class OrderItem:
    """One line of an order, as it was placed."""

    sku: str
    name: str
    quantity: int
    unit_price: Money

    @property
    def line_total(self) -> Money:
        """The price of all of them."""
        return self.unit_price * self.quantity


@dataclass(frozen=True)
class Order:
    """An order as it stands.

    `version` counts changes of status. `pending` is the operation in flight, if there is one.
    """

    id: str
    customer_id: str
    status: OrderStatus
    items: tuple[OrderItem, ...]
    total: Money
    refunded: Money
    payment_id: str
    version: int
    created_at: datetime
    updated_at: datetime
    pending: PaymentOperation | None = None

    @classmethod
    def place(
        cls,
        *,
        order_id: str,
        customer_id: str,
        items: tuple[OrderItem, ...],
        by: Actor,
        at: datetime,
    ) -> Change:
        """Place an order of one or more items in one currency."""
        nothing = Money(items[0].unit_price.currency_code, 0)
        order = cls(
            id=order_id,
            customer_id=customer_id,
            status=OrderStatus.CREATED,
            items=items,
            total=sum((item.line_total for item in items), start=nothing),
            refunded=nothing,
            payment_id="",
            version=1,
            created_at=at,
            updated_at=at,
        )
        entry = AuditEntry(
            order_id=order_id,
            actor=by,
            at=at,
            event_type=EventType.ORDER_CREATED,
            from_status="",
            to_status=order.status.value,
            outcome=Outcome.APPLIED,
        )
        return order, entry

    @property
    def etag(self) -> str:
        """What a client sends back to say which status it has seen."""
        return str(self.version)

    @property
    def refundable(self) -> Money:
        """What can still be given back."""
        return self.total - self.refunded

    def require(self, action: OrderAction) -> None:
        """Raise InvalidTransition unless the status permits the action."""
        validate_transition(self.id, self.status, action)

    def require_etag(self, etag: str) -> None:
        """Raise EtagMismatch if the caller has seen another status. No etag: no demand."""
        if etag and etag != self.etag:
            raise errors.EtagMismatch(order_id=self.id, current_etag=self.etag)

    def require_nothing_pending(self) -> None:
        """Raise PaymentInProgress or RefundInProgress while an operation is in flight."""
        if self.pending is None:
            return
        if self.pending.kind is OperationKind.REFUND:
            raise errors.RefundInProgress(order_id=self.id)
        raise errors.PaymentInProgress(order_id=self.id, operation=self.pending.kind.value)

    def pay(self, *, payment_id: str, by: Actor, at: datetime) -> Change:
        """Record the payment that paid for the order."""
        paid = replace(self, payment_id=payment_id)
        return paid._moved(OrderAction.PAY, EventType.ORDER_PAID, by=by, at=at)

    def cancel(self, *, by: Actor, at: datetime) -> Change:
        """Give the order up."""
        return self._moved(OrderAction.CANCEL, EventType.ORDER_CANCELLED, by=by, at=at)

    def fulfill(self, *, by: Actor, at: datetime) -> Change:
        """Record that it was delivered."""
        return self._moved(OrderAction.FULFILL, EventType.ORDER_FULFILLED, by=by, at=at)

    def archive(self, *, by: Actor, at: datetime) -> Change:
        """Put it away."""
        return self._moved(OrderAction.ARCHIVE, EventType.ORDER_ARCHIVED, by=by, at=at)

    def refund(self, amount: Money, *, by: Actor, at: datetime) -> Change:
        """Record money given back. The order is refunded once all of it is."""
        order = replace(self, refunded=self.refunded + amount)
        if order.refunded == order.total:
            return order._moved(OrderAction.REFUND, EventType.ORDER_REFUNDED, by=by, at=at)
        order.require(OrderAction.REFUND)
        entry = order.entry(EventType.ORDER_PARTIALLY_REFUNDED, by=by, at=at)
        return replace(order, updated_at=at), entry

    def begun(self, operation: PaymentOperation) -> "Order":
        """Return the order with the operation in flight."""
        return replace(self, pending=operation, updated_at=operation.started_at)

    def settled(self, *, at: datetime) -> "Order":
        """Return the order with nothing in flight."""
        return replace(self, pending=None, updated_at=at)

    def refused(self, refusal: errors.Refusal, *, by: Actor, at: datetime) -> AuditEntry:
        """Write down that something was refused."""
        entry = self.entry(refusal.event_type, by=by, at=at)
        return replace(
            entry,
            outcome=Outcome.REFUSED,
            reason=refusal.reason,
            payment_id=refusal.payment_id or self.payment_id,
        )

    def entry(self, event_type: EventType, *, by: Actor, at: datetime) -> AuditEntry:
        """Write down what happened without a change of status."""
        return AuditEntry(
            order_id=self.id,
            actor=by,
            at=at,
            event_type=event_type,
            from_status=self.status.value,
            to_status=self.status.value,
            outcome=Outcome.APPLIED,
            payment_id=self.payment_id,
        )

    def _moved(
        self, action: OrderAction, event_type: EventType, *, by: Actor, at: datetime
    ) -> Change:
        target = validate_transition(self.id, self.status, action)
        order = replace(
            self,
            status=target,
            version=self.version + 1,
            updated_at=at,
        )
        entry = replace(self.entry(event_type, by=by, at=at), to_status=target.value)
        return order, entry
