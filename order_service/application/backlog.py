"""How much has begun and not ended: operations in flight, and payments not applied yet."""

from collections.abc import Mapping
from dataclasses import dataclass

from order_service.application.ports import Queue, Store, Work
from order_service.domain.payment_operation import OperationKind
from service_kit.clock import Clock


@dataclass(frozen=True)
class Waiting:
    """How many wait, and how long the oldest one has: 0 seconds if none does."""

    count: int
    oldest_seconds: float


class Backlog:
    """Counts it."""

    @dataclass(frozen=True)
    class Numbers:
        """Operations by their kind, every kind among them, and the inbox of payments."""

        operations: Mapping[OperationKind, Waiting]
        inbox: Waiting

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def __call__(self) -> Numbers:
        """Return the numbers of this moment."""
        return self._store.read(self._count)

    def _count(self, work: Work) -> Numbers:
        in_flight = work.operations.in_flight()
        operations = {kind: self._waiting(in_flight.get(kind, Queue())) for kind in OperationKind}
        return self.Numbers(operations=operations, inbox=self._waiting(work.inbox.queue()))

    def _waiting(self, queue: Queue) -> Waiting:
        age = (self._clock.now() - queue.oldest).total_seconds() if queue.oldest else 0.0
        # Another replica's clock may be ahead.
        return Waiting(count=queue.count, oldest_seconds=max(age, 0.0))
