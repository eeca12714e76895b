"""Read the history in order."""

from collections.abc import Sequence
from dataclasses import dataclass

from payment_service.application.ports import Store, StoredEntry


class ListPaymentAuditEntries:
    """Reads audit entries in ascending order, without ever skipping one."""

    @dataclass(frozen=True)
    class Query:
        """Entries after which sequence, of which order (empty: all), and how many."""

        after: int
        order_id: str
        page_size: int

    def __init__(self, *, store: Store) -> None:
        self._store = store

    def __call__(self, query: Query) -> Sequence[StoredEntry]:
        """Return the entries."""
        return self._store.audit_entries(
            after=query.after, order_id=query.order_id, limit=query.page_size
        )
