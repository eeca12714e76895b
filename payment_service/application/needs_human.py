"""What no repeat will end: payments and refunds whose keys are too old, and contradictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from payment_service.application.ports import Store, Work
from service_kit.clock import Clock


@dataclass(frozen=True)
class Case:
    """Something that waits for a person.

    `what` is `payment`, `refund` or `discrepancy`; the id is the payment's or the refund's.
    """

    what: str
    id: str
    order_id: str
    since: datetime
    problem: str


class NeedsHuman:
    """Lists them. Nothing here is ever decided by a timer."""

    def __init__(self, *, store: Store, clock: Clock, key_age_max: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._key_age_max = key_age_max

    def __call__(self) -> Sequence[Case]:
        """Return the cases, oldest first."""
        before = self._clock.now() - self._key_age_max
        pending = self._store.read(lambda work: _pending(work, before))
        contradictions = [
            Case(
                what="discrepancy",
                id=stored.entry.refund_id or stored.entry.payment_id,
                order_id=stored.entry.order_id,
                since=stored.entry.at,
                problem=stored.entry.reason,
            )
            for stored in self._store.discrepancies()
        ]
        return sorted([*pending, *contradictions], key=lambda case: case.since)


def _pending(work: Work, before: datetime) -> list[Case]:
    unanswered = "the gateway has not answered and may have forgotten the key"
    payments = [record.payment for record in work.payments.pending_since(before)]
    refunds = [record.refund for record in work.refunds.pending_since(before)]
    return [
        *(Case("payment", p.id, p.order_id, p.created_at, unanswered) for p in payments),
        *(Case("refund", r.id, r.order_id, r.created_at, unanswered) for r in refunds),
    ]
