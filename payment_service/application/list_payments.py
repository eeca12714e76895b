"""List payments, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass

from payment_service.application.ports import PaymentFilter, Store
from payment_service.domain.payment import Payment


class ListPayments:
    """Reads one page of payments: ids sort by time, so the greatest is the newest."""

    @dataclass(frozen=True)
    class Query:
        """Which payments, and where the page before ended (empty: the first page)."""

        wanted: PaymentFilter
        before: str
        page_size: int

    @dataclass(frozen=True)
    class Page:
        """The payments, and where the next page begins (empty: there is none)."""

        payments: Sequence[Payment]
        next_before: str

    def __init__(self, *, store: Store) -> None:
        self._store = store

    def __call__(self, query: Query) -> Page:
        """Return the page."""
        # One more than wanted says whether there is a next page.
        limit = query.page_size + 1
        payments = self._store.read(
            lambda work: work.payments.page(query.wanted, before=query.before, limit=limit)
        )
        page = payments[: query.page_size]
        return self.Page(page, next_before=page[-1].id if len(payments) == limit else "")
