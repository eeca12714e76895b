"""The order database: transactions over all of its tables."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, TypeVar

import sqlalchemy as sa

from order_service.application.ports import StoredEntry, Work
from order_service.storage.audit import StoredHistory, read_entries, read_settled_entries
from order_service.storage.inbox import StoredInbox
from order_service.storage.operations import StoredOperations
from order_service.storage.orders import Known, StoredOrders
from order_service.storage.tables import idempotency_keys, instance
from service_kit.audit.chain import ChainKey
from service_kit.database import Database
from service_kit.idempotency.keys import (
    RETENTION_MIN,
    IdempotencyKeys,
    KeyStatements,
)
from service_kit.recent import Recent
from service_kit.statements import Session

T = TypeVar("T")

_keys: Final = KeyStatements(idempotency_keys)


class StoredWork:
    """One transaction over the order database."""

    def __init__(
        self,
        connection: Session,
        *,
        chain_key: ChainKey,
        key_retention: timedelta,
        recent: Recent[str, Known],
    ) -> None:
        self.keys = IdempotencyKeys(connection, _keys, retention=key_retention)
        self.orders = StoredOrders(connection, StoredHistory(connection, chain_key), recent)
        self.operations = StoredOperations(connection)
        self.inbox = StoredInbox(connection)


class SqlStore:
    """The store on SQLite or PostgreSQL. `chain_key` seals the history."""

    def __init__(
        self,
        database: Database,
        *,
        chain_key: ChainKey,
        key_retention: timedelta = RETENTION_MIN,
    ) -> None:
        self._database = database
        self._chain_key = chain_key
        self._key_retention = key_retention
        self._recent: Recent[str, Known] = Recent()

    def transact(self, work: Callable[[Work], T]) -> T:
        """See service_kit.database.Database.transact."""
        return self._database.transact(lambda connection: work(self._work(connection)))

    def change(self, work: Callable[[Work], T]) -> T:
        """See service_kit.database.Database.change."""

        def change(session: Session) -> tuple[T, StoredWork]:
            stored = self._work(session)
            result = work(stored)
            stored.orders.require_compared()
            return result, stored

        result, stored = self._database.change(change)
        stored.orders.leave()
        return result

    def read(self, work: Callable[[Work], T]) -> T:
        """See service_kit.database.Database.read."""
        return self._database.read(lambda connection: work(self._work(connection)))

    def audit_entries(self, *, after: int, order_id: str, limit: int) -> Sequence[StoredEntry]:
        """Read the history in order."""
        return read_entries(self._database, after=after, order_id=order_id, limit=limit)

    def settled_entries(
        self, *, after: int, up_to: int, order_id: str, limit: int
    ) -> Sequence[StoredEntry]:
        """Read a part of the history that is whole."""
        return read_settled_entries(
            self._database, after=after, up_to=up_to, order_id=order_id, limit=limit
        )

    def instance_id(self) -> str:
        """Return the id that this database was given when it was made."""
        query = sa.select(instance.c.id)
        return str(self._database.read(lambda connection: connection.execute(query).scalar_one()))

    def _work(self, connection: Session) -> StoredWork:
        return StoredWork(
            connection,
            chain_key=self._chain_key,
            key_retention=self._key_retention,
            recent=self._recent,
        )
