"""The payment database: transactions over all of its tables."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import sqlalchemy as sa

from payment_service.application.ports import StoredEntry, Work
from payment_service.storage.audit import StoredAudit, read_discrepancies, read_entries
from payment_service.storage.orders import StoredOrders
from payment_service.storage.payments import Known, StoredPayments
from payment_service.storage.refunds import StoredRefunds
from payment_service.storage.tables import instance
from service_kit.audit.chain import ChainKey
from service_kit.database import Database
from service_kit.recent import Recent
from service_kit.statements import Session

T = TypeVar("T")


class StoredWork:
    """One transaction over the payment database."""

    def __init__(
        self, connection: Session, chain_key: ChainKey, recent: Recent[str, Known]
    ) -> None:
        self.orders = StoredOrders(connection, chain_key)
        self.payments = StoredPayments(connection, self.orders, recent)
        self.refunds = StoredRefunds(connection)
        self.audit = StoredAudit(connection, self.orders, chain_key)


class SqlStore:
    """The store on SQLite or PostgreSQL. `chain_key` seals the history."""

    def __init__(self, database: Database, *, chain_key: ChainKey) -> None:
        self._database = database
        self._chain_key = chain_key
        self._recent: Recent[str, Known] = Recent()

    def transact(self, work: Callable[[Work], T]) -> T:
        """See service_kit.database.Database.transact."""
        return self._database.transact(lambda connection: work(self._work(connection)))

    def change(self, work: Callable[[Work], T]) -> T:
        """See service_kit.database.Database.change."""

        def change(session: Session) -> tuple[T, StoredWork]:
            stored = self._work(session)
            return work(stored), stored

        result, stored = self._database.change(change)
        stored.payments.leave()
        return result

    def read(self, work: Callable[[Work], T]) -> T:
        """See service_kit.database.Database.read."""
        return self._database.read(lambda connection: work(self._work(connection)))

    def audit_entries(self, *, after: int, order_id: str, limit: int) -> Sequence[StoredEntry]:
        """Read the history in order."""
        return read_entries(self._database, after=after, order_id=order_id, limit=limit)

    def discrepancies(self) -> Sequence[StoredEntry]:
        """Read the entries that tell of a gateway that contradicted itself."""
        return read_discrepancies(self._database)

    def instance_id(self) -> str:
        """Return the id that this database was given when it was made."""
        query = sa.select(instance.c.id)
        return str(self._database.read(lambda connection: connection.execute(query).scalar_one()))

    def _work(self, connection: Session) -> StoredWork:
        return StoredWork(connection, self._chain_key, self._recent)
