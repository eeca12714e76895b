"""Audit rows: appended, read in order, never touched again."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Row

from payment_service.application.ports import StoredEntry
from payment_service.domain.audit import Actor, AuditEntry, EventType, Outcome
from payment_service.storage.orders import StoredOrders
from payment_service.storage.tables import (
    TRAIL,
    metadata,
    payment_audit_actors,
    payment_audit_entries,
)
from service_kit.audit.chain import ChainKey, Person
from service_kit.audit.writing import Insertion, link
from service_kit.audit_feed import read_in_order
from service_kit.database import Database
from service_kit.statements import Session

_DISCREPANCY: Final = f"'{EventType.GATEWAY_DISCREPANCY_FOUND.value}'"
_insertion: Final = Insertion(TRAIL, metadata, heads=True)
_select: Final = sa.select(
    payment_audit_entries, payment_audit_actors.c.actor_id, payment_audit_actors.c.on_behalf_of
).outerjoin_from(
    payment_audit_entries,
    payment_audit_actors,
    sa.and_(
        payment_audit_actors.c.order_id == payment_audit_entries.c.order_id,
        payment_audit_actors.c.position == payment_audit_entries.c.position,
    ),
)


class StoredAudit:
    """The history, within one transaction. Where it ends is in the row that is locked."""

    def __init__(self, connection: Session, orders: StoredOrders, key: ChainKey) -> None:
        self._connection = connection
        self._orders = orders
        self._key = key

    def append(self, entry: AuditEntry) -> None:
        """Insert an entry; the database gives it its place among all. Its order is locked.

        Raises KeyError if it is not.
        """
        actor = entry.actor
        added = link(
            TRAIL,
            self._key,
            head=self._orders.heads[entry.order_id],
            subject=entry.order_id,
            by=Person(role=actor.role, id=actor.id, on_behalf_of=actor.on_behalf_of),
            told={
                "payment_id": entry.payment_id,
                "refund_id": entry.refund_id,
                "at": entry.at,
                "event_type": entry.event_type.value,
                "from_status": entry.from_status,
                "to_status": entry.to_status,
                "outcome": entry.outcome.value,
                "reason": entry.reason,
                "trace_id": actor.trace_id,
            },
        )
        _insertion.write(self._connection, added)
        self._orders.move(entry.order_id, added.head)


def read_entries(
    database: Database, *, after: int, order_id: str, limit: int
) -> Sequence[StoredEntry]:
    """Read entries in order, of all orders or of one."""
    sequence = payment_audit_entries.c.sequence
    if not order_id:
        rows = read_in_order(database, _select, sequence, after=after, limit=limit)
        return [_entry(row) for row in rows]
    # One order's numbers are handed out under its lock: they become visible in their order, which
    # is that of their positions, and an index has these.
    query = (
        _select.where(payment_audit_entries.c.order_id == order_id, sequence > after)
        .order_by(payment_audit_entries.c.position)
        .limit(limit)
    )
    return [_entry(row) for row in database.read(lambda c: c.execute(query).all())]


def read_discrepancies(database: Database) -> Sequence[StoredEntry]:
    """Read what tells of a gateway that contradicted itself, oldest first."""
    is_discrepancy = (
        payment_audit_entries.c.event_type == sa.literal_column(_DISCREPANCY)  # an index knows it
    )
    query = _select.where(is_discrepancy).order_by(payment_audit_entries.c.sequence)
    return [_entry(row) for row in database.read(lambda c: c.execute(query).all())]


def _entry(row: Row[Any]) -> StoredEntry:
    entry = AuditEntry(
        order_id=row.order_id,
        payment_id=row.payment_id,
        refund_id=row.refund_id,
        actor=Actor(
            role=row.actor_role,
            # Nobody knows any more who it was once that has been made anonymous.
            id=row.actor_id or row.actor_reference,
            on_behalf_of=row.on_behalf_of or "",
            trace_id=row.trace_id,
        ),
        at=row.at,
        event_type=EventType(row.event_type),
        from_status=row.from_status,
        to_status=row.to_status,
        outcome=Outcome(row.outcome),
        reason=row.reason,
    )
    return StoredEntry(sequence=row.sequence, entry=entry)
