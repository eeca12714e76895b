"""The order database: transactions over all of its tables."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from order_service.application.ports import StoredEntry, Work
from order_service.domain.audit import AuditEntry
from order_service.domain.order import Order
from order_service.storage.audit import StoredHistory, read_entries, read_settled_entries
from order_service.storage.inbox import StoredInbox
from order_service.storage.operations import StoredOperations
from order_service.storage.orders import StoredOrders, item_rows, order_row
from order_service.storage.placing import place_at_once
from order_service.storage.tables import idempotency_keys, instance
from service_kit.audit.chain import ChainKey
from service_kit.database import Database
from service_kit.idempotency.keys import (
    LEASE,
    RETENTION_MIN,
    IdempotencyKeys,
    KeyStatements,
    new_key,
)
from service_kit.idempotency.record import KeyedRequest, Reply

T = TypeVar("T")

_keys: Final = KeyStatements(idempotency_keys)


class StoredWork:
    """One transaction over the order database."""

    def __init__(
        self, connection: Connection, *, chain_key: ChainKey, key_retention: timedelta
    ) -> None:
        self.keys = IdempotencyKeys(connection, _keys, retention=key_retention)
        self._connection = connection
        self._history = StoredHistory(connection, chain_key)
        self.orders = StoredOrders(connection, self._history)
        self.operations = StoredOperations(connection)
        self.inbox = StoredInbox(connection)

    def place_at_once(
        self,
        request: KeyedRequest,
        order: Order,
        entry: AuditEntry,
        reply: Reply,
        *,
        owner_id: str,
        now: datetime,
    ) -> bool:
        """Store an order and the reply of its key, on PostgreSQL, if the key is new."""
        beginning = self._history.beginning(order.id)
        head, [link] = self._history.continued(beginning, [entry])
        return place_at_once(
            self._connection,
            key=new_key(request, owner_id=owner_id, lease_until=now + LEASE, now=now, reply=reply),
            order=order_row(order, head),
            items=item_rows(order),
            link=link,
        )


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

    def place(
        self,
        request: KeyedRequest,
        order: Order,
        entry: AuditEntry,
        reply: Reply,
        *,
        owner_id: str,
        now: datetime,
    ) -> Reply:
        """Store an order and the reply of its key together, or return what the key holds.

        Raises IdempotencyKeyReused, RequestInProgress, ConcurrentUpdate, StorageUnavailable.
        """

        def at_once(connection: Connection) -> bool:
            return self._work(connection).place_at_once(
                request, order, entry, reply, owner_id=owner_id, now=now
            )

        def place(work: Work) -> Reply:
            claim = work.keys.claim(request, owner_id=owner_id, now=now, reply=reply)
            if claim.reply:
                return claim.reply
            work.orders.add(order, entry)
            return reply

        if not self._database.is_sqlite and self._database.transact_at_once(at_once):
            return reply
        return self.transact(place)

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
