"""Settle the operations whose callers died or gave up, so that nothing stays in flight."""

from datetime import timedelta
from typing import Final

from order_service.application.ports import Payments, Store, Unknown
from order_service.application.settlement import ABANDONED_AFTER, Settlement
from order_service.domain.errors import PaymentInvariantBroken, PaymentOutcomeUnknown
from order_service.domain.payment_operation import PaymentOperation
from service_kit import call
from service_kit.clock import Clock

# What the payment service gets to answer, and how long nobody else asks about the same.
ASK_SECONDS: Final = 2.0
HELD_FOR: Final = timedelta(seconds=2.5)


class SettleLeftBehind:
    """Takes one operation that has been in flight for more than five seconds, and settles it.

    While the payment service is away, what was taken is put back as if it had not been, and its
    health is asked for instead. An operation that cannot be settled waits longer each time and is
    in nobody's way.
    """

    def __init__(
        self, *, store: Store, payments: Payments, settlement: Settlement, clock: Clock
    ) -> None:
        self._store = store
        self._payments = payments
        self._settlement = settlement
        self._clock = clock
        self._is_peer_lost = False

    def __call__(self) -> bool:
        """Settle one. Say whether there was one."""
        if not self._is_anything_waiting() or not self._has_peer():
            return False
        operation = self._take()
        if operation is None:
            return False
        trace_id = operation.actor.trace_id
        with call.background("SettleLeftBehind", seconds=ASK_SECONDS, trace_id=trace_id):
            self._settle(operation)
        return True

    def _is_anything_waiting(self) -> bool:
        now = self._clock.now()
        return self._store.read(
            lambda work: work.operations.waiting(started_before=now - ABANDONED_AFTER, now=now)
        )

    def _has_peer(self) -> bool:
        if self._is_peer_lost:
            self._is_peer_lost = not self._payments.answers()
        return not self._is_peer_lost

    def _take(self) -> PaymentOperation | None:
        now = self._clock.now()
        return self._store.transact(
            lambda work: work.operations.take(
                started_before=now - ABANDONED_AFTER, until=now + HELD_FOR, now=now
            )
        )

    def _settle(self, operation: PaymentOperation) -> None:
        answer = self._settlement.ask(operation)
        problem = answer.problem if isinstance(answer, Unknown) else ""
        try:
            self._settlement.settle(operation, answer)
        except PaymentInvariantBroken:
            problem = "PAYMENT_INVARIANT_BROKEN"
        except PaymentOutcomeUnknown:
            is_missing = isinstance(answer, Unknown) and answer.unreachable
            # One that takes too long at a peer that is well is a matter of its own.
            self._is_peer_lost = is_missing and not self._payments.answers()
        else:
            return
        if self._is_peer_lost:
            self._store.transact(lambda work: work.operations.put_back(operation.id))
            return
        now = self._clock.now()
        self._store.transact(
            lambda work: work.operations.postpone(operation.id, problem=problem, now=now)
        )
