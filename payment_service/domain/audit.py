"""The history of the payments: who did what, and whether it was allowed."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class EventType(Enum):
    """What happened. The value is what is stored and shown."""

    PAYMENT_REQUESTED = "payment_requested"
    PAYMENT_SUCCEEDED = "payment_succeeded"
    PAYMENT_FAILED = "payment_failed"
    PAYMENT_VOIDED = "payment_voided"
    ORDER_SEALED = "order_sealed"
    REFUND_REQUESTED = "refund_requested"
    REFUND_SUCCEEDED = "refund_succeeded"
    REFUND_FAILED = "refund_failed"
    REFUND_REFUSED = "refund_refused"
    GATEWAY_DISCREPANCY_FOUND = "gateway_discrepancy_found"


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
    """One line of the history. Its sequence number is given to it where it is stored.

    The statuses are those of the refund if the entry tells of one, else of the payment.
    """

    order_id: str
    payment_id: str
    refund_id: str
    actor: Actor
    at: datetime
    event_type: EventType
    from_status: str
    to_status: str
    outcome: Outcome = Outcome.APPLIED
    reason: str = ""
