"""List orders, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass

from order_service.application.ports import OrderFilter, Store
from order_service.domain.order import Order


class ListOrders:
    """Reads one page of orders: ids sort by time, so the greatest is the newest."""

    @dataclass(frozen=True)
    class Query:
        """Which orders, and where the page before ended (empty: the first page)."""

        wanted: OrderFilter
        before: str
        page_size: int

    @dataclass(frozen=True)
    class Page:
        """The orders, and where the next page begins (empty: there is none)."""

        orders: Sequence[Order]
        next_before: str

    def __init__(self, *, store: Store) -> None:
        self._store = store

    def __call__(self, query: Query) -> Page:
        """Return the page."""
        # One more than wanted says whether there is a next page.
        limit = query.page_size + 1
        orders = self._store.read(
            lambda work: work.orders.page(query.wanted, before=query.before, limit=limit)
        )
        page = orders[: query.page_size]
        return self.Page(page, next_before=page[-1].id if len(orders) == limit else "")
