"""Read the payment service's history into the inbox, so that no payment goes unnoticed."""

from typing import Final

from order_service.application.ports import Payments, Store
from order_service.domain.errors import PaymentServiceUnavailable
from service_kit import call
from service_kit.clock import Clock

ASK_SECONDS: Final = 3.5


class ReadPayments:
    """Keeps one page of the history, and how far it goes, in one transaction. Waits for nothing."""

    def __init__(self, *, store: Store, payments: Payments, clock: Clock) -> None:
        self._store = store
        self._payments = payments
        self._clock = clock

    def __call__(self) -> bool:
        """Read on. Say whether there is more to read at once."""
        after = self._store.read(lambda work: work.inbox.sequence())
        try:
            with call.background("ReadPayments", seconds=ASK_SECONDS):
                page = self._payments.succeeded_since(after)
        except PaymentServiceUnavailable:
            return False
        if page.last_sequence == after:
            return False
        now = self._clock.now()
        self._store.transact(lambda work: work.inbox.receive(page, after=after, now=now))
        # What has happened since is read after a pause, all of it at once: one transaction for a
        # second's payments rather than one for each.
        return page.is_full
