"""How much has begun and not ended: payments and refunds that the gateway has not answered."""

from dataclasses import dataclass

from payment_service.application.ports import Queue, Store, Work
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
        """What is pending."""

        payments: Waiting
        refunds: Waiting

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def __call__(self) -> Numbers:
        """Return the numbers of this moment."""
        return self._store.read(self._count)

    def _count(self, work: Work) -> Numbers:
        return self.Numbers(
            payments=self._waiting(work.payments.pending()),
            refunds=self._waiting(work.refunds.pending()),
        )

    def _waiting(self, queue: Queue) -> Waiting:
        age = (self._clock.now() - queue.oldest).total_seconds() if queue.oldest else 0.0
        # Another replica's clock may be ahead.
        return Waiting(count=queue.count, oldest_seconds=max(age, 0.0))
