"""The order database: transactions over all of its tables."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from order_service.application.ports import StoredEntry, Work
from order_service.storage.audit import StoredHistory, read_entries, read_settled_entries
from order_service.storage.inbox import StoredInbox
from order_service.storage.operations import StoredOperations
from order_service.storage.orders import StoredOrders
from order_service.storage.tables import idempotency_keys, instance
from service_kit.audit.chain import ChainKey
from service_kit.database import Database
from service_kit.idempotency.keys import RETENTION_MIN, IdempotencyKeys

T = TypeVar("T")


class StoredWork:
    """One transaction over the order database."""

    def __init__(
        self, connection: Connection, *, chain_key: ChainKey, key_retention: timedelta
    ) -> None:
        self.keys = IdempotencyKeys(connection, idempotency_keys, retention=key_retention)
        self.orders = StoredOrders(connection, StoredHistory(connection, chain_key))
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

    def transact(self, work: Callable[[Work], T]) -> T:
        """See service_kit.database.Database.transact."""
        return self._database.transact(lambda connection: work(self._work(connection)))

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

    def _work(self, connection: Connection) -> StoredWork:
        return StoredWork(connection, chain_key=self._chain_key, key_retention=self._key_retention)
