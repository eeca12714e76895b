"""L1: nothing stays in flight, and what has been paid for is paid."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from order_service.verification.evidence import Evidence

# How long finishing may take once faults stop.
SETTLES_WITHIN: Final = timedelta(seconds=30)
# From then on nothing is asked again by itself.
WAITS_FOR_A_PERSON_AFTER: Final = timedelta(hours=12)


def overdue(evidence: Evidence) -> Iterator[str]:
    """L1: nothing has been in flight for longer than 30 s, unless it waits for a person."""
    if any(waits_for_a_person(evidence)):
        return
    for what, since, _problem in _unfinished(evidence):
        if evidence.now - since > SETTLES_WITHIN:
            yield f"{what} is settled within 30 s: found it since {since.isoformat()}"


def waits_for_a_person(evidence: Evidence) -> Iterator[str]:
    """Tell what no repeat will end."""
    for what, since, problem in _unfinished(evidence):
        if problem or evidence.now - since > WAITS_FOR_A_PERSON_AFTER:
            yield f"{what} since {since.isoformat()}{': ' if problem else ''}{problem}"


def _unfinished(evidence: Evidence) -> Iterator[tuple[str, datetime, str]]:
    for operation in evidence.in_flight:
        yield f"{operation.kind} {operation.id}", operation.started_at, operation.problem
    for payment in evidence.payments:
        if payment.status == "pending":
            yield f"payment {payment.id}", payment.created_at, ""
    for refund in evidence.refunds:
        if refund.status == "pending":
            yield f"refund {refund.id}", refund.created_at, ""
    received = {row.payment_id for row in evidence.received}
    for row in evidence.received:
        if row.applied_at is None:
            yield f"payment {row.payment_id} in the inbox", row.received_at, row.problem
    for payment in evidence.succeeded:
        if payment.id not in received and not _is_on_its_order(evidence, payment.id):
            yield f"payment {payment.id}, which succeeded,", payment.updated_at, ""


def _is_on_its_order(evidence: Evidence, payment_id: str) -> bool:
    order = evidence.order
    # Money of any other order than a created one is what I2 and I3 are about.
    return order is None or order.status != "created" or order.payment_id == payment_id
