"""Forget idempotency keys once nobody may repeat their requests any more."""

from typing import Final

from order_service.application.ports import Store, Work
from service_kit.clock import Clock
from service_kit.idempotency.keys import KeyName

_FIRST: Final = KeyName("", "", "")
PAGE_SIZE: Final = 1000


class ForgetKeys:
    """Looks through some keys at a time, in their order, and begins anew at the end.

    A key is forgotten a while after its final reply, or after its last use if it has neither reply
    nor operation; never while its operation is in flight.
    """

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._after = _FIRST

    def __call__(self) -> bool:
        """Look through some. Say whether it was worth it and there are more."""
        now = self._clock.now()
        page = self._store.read(
            lambda work: work.keys.page(after=self._after, limit=PAGE_SIZE, now=now)
        )

        def forget(work: Work) -> None:
            for name in page.expired:
                work.keys.forget(name, now=now)

        if page.expired:
            self._store.transact(forget)
        self._after = page.last or _FIRST
        return bool(page.expired) and page.last is not None
