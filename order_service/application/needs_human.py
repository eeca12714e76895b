"""What no repeat will end: operations and payments that have waited too long, or have a problem."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from order_service.application.ports import Store, Unsettled
from service_kit.clock import Clock

# As long as the payment service asks the gateway by itself.
WAITS_BY_ITSELF: Final = timedelta(hours=12)


class NeedsHuman:
    """Lists them, with what stands in their way."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def __call__(self) -> Sequence[Unsettled]:
        """Return the cases, oldest first."""
        before = self._clock.now() - WAITS_BY_ITSELF
        operations = self._store.read(lambda work: work.operations.unsettled(started_before=before))
        payments = self._store.read(lambda work: work.inbox.unapplied(received_before=before))
        return sorted([*operations, *payments], key=lambda case: case.since)
