"""The history of an order: who did what, and whether it was allowed."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class EventType(Enum):
    """What happened. The value is what is stored and shown."""

    ORDER_CREATED = "order_created"
    ORDER_PAID = "order_paid"
    ORDER_CANCELLED = "order_cancelled"
    ORDER_FULFILLED = "order_fulfilled"
    ORDER_PARTIALLY_REFUNDED = "order_partially_refunded"
    ORDER_REFUNDED = "order_refunded"
    ORDER_ARCHIVED = "order_archived"
    PAYMENT_FAILED = "payment_failed"
    PAYMENT_REFUSED = "payment_refused"
    REFUND_FAILED = "refund_failed"
    REFUND_REFUSED = "refund_refused"
    INVALID_TRANSITION_ATTEMPTED = "invalid_transition_attempted"


class Outcome(Enum):
    """Whether the entry tells of a change or of a refusal."""

    APPLIED = "applied"
    REFUSED = "refused"


@dataclass(frozen=True)
class Actor:
    """Who called, for whom, and under which trace."""

    role: str
    id: str
    on_behalf_of: str
    trace_id: str


@dataclass(frozen=True)
class AuditEntry:
    """One line of the history. Its sequence number is given to it where it is stored."""

    order_id: str
    actor: Actor
    at: datetime
    event_type: EventType
    from_status: str
    to_status: str
    outcome: Outcome
    reason: str = ""
    payment_id: str = ""
