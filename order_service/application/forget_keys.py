"""Forget idempotency keys once nobody may repeat their requests any more."""

from typing import Final

from order_service.application.ports import Store
from service_kit.clock import Clock

BATCH_SIZE: Final = 1000


class ForgetKeys:
    """Forgets some keys at a time, those first that were claimed first.

    A key is forgotten a while after its final reply, or after its last use if it has neither reply
    nor operation; never while its operation is in flight.
    """

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def __call__(self) -> bool:
        """Forget some. Say whether there may be more."""
        now = self._clock.now()
        limit = BATCH_SIZE
        return self._store.transact(lambda work: work.keys.forget(limit=limit, now=now)) == limit
