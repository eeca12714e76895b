"""Read the payment service's history into the inbox, so that no payment goes unnoticed."""

import time
from typing import Final

from order_service.application.ports import PaymentPage, Payments, Store
from order_service.domain.errors import PaymentServiceUnavailable
from service_kit import call
from service_kit.clock import Clock

ASK_SECONDS: Final = 2.0


class ReadPayments:
    """Keeps one page of the history, and how far it goes, in one transaction. Waits for nothing."""

    def __init__(self, *, store: Store, payments: Payments, clock: Clock) -> None:
        self._store = store
        self._payments = payments
        self._clock = clock
        self._complete_at = time.monotonic()

    def lag_seconds(self) -> float:
        """Say how long ago nothing was left to read; until then, how long ago this was made.

        An entry that is not read yet was not there at that moment.
        """
        return time.monotonic() - self._complete_at

    def __call__(self) -> bool:
        """Read on. Say whether there is more to read at once."""
        asked_at = time.monotonic()
        after = self._store.read(lambda work: work.inbox.sequence())
        try:
            with call.background("ReadPayments", seconds=ASK_SECONDS):
                page = self._payments.succeeded_since(after)
        except PaymentServiceUnavailable:
            return False
        is_new = page.last_sequence != after
        is_kept = not is_new or self._keep(page, after)
        if is_kept and page.is_last:
            self._complete_at = asked_at
        # What happens from now on is read after a pause, all of it at once: one transaction for a
        # second's payments rather than one for each.
        return not page.is_last

    def _keep(self, page: PaymentPage, after: int) -> bool:
        now = self._clock.now()
        return self._store.transact(lambda work: work.inbox.receive(page, after=after, now=now))
