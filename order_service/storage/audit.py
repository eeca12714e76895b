"""Audit rows: appended, read in order, never touched again."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from order_service.application.ports import StoredEntry
from order_service.domain.audit import Actor, AuditEntry, EventType, Outcome
from order_service.storage.tables import order_audit_entries
from service_kit.audit_feed import read_in_order
from service_kit.database import Database

_select: Final = sa.select(order_audit_entries)


class StoredAudit:
    """The history, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, entry: AuditEntry) -> None:
        """Insert an entry; the database gives it its place."""
        values = {
            "order_id": entry.order_id,
            "actor_role": entry.actor.role,
            "actor_id": entry.actor.id,
            "on_behalf_of": entry.actor.on_behalf_of,
            "at": entry.at,
            "event_type": entry.event_type.value,
            "from_status": entry.from_status,
            "to_status": entry.to_status,
            "outcome": entry.outcome.value,
            "reason": entry.reason,
            "payment_id": entry.payment_id,
            "trace_id": entry.actor.trace_id,
        }
        self._connection.execute(sa.insert(order_audit_entries).inline(), values)


def read_entries(
    database: Database, *, after: int, order_id: str, limit: int
) -> Sequence[StoredEntry]:
    """Read entries in order, of all orders or of one."""
    sequence = order_audit_entries.c.sequence
    if not order_id:
        rows = read_in_order(database, _select, sequence, after=after, limit=limit)
        return [_entry(row) for row in rows]
    # One order's numbers are handed out under its lock: they become visible in their order.
    query = (
        _select.where(order_audit_entries.c.order_id == order_id, sequence > after)
        .order_by(sequence)
        .limit(limit)
    )
    return [_entry(row) for row in database.read(lambda c: c.execute(query).all())]


def read_settled_entries(
    database: Database, *, after: int, up_to: int, order_id: str, limit: int
) -> Sequence[StoredEntry]:
    """Read entries in order up to a sequence that `AuditHead` has reached, of all or of one."""
    sequence = order_audit_entries.c.sequence
    query = _select.where(sequence > after, sequence <= up_to).order_by(sequence).limit(limit)
    if order_id:
        query = query.where(order_audit_entries.c.order_id == order_id)
    return [_entry(row) for row in database.read(lambda c: c.execute(query).all())]


def _entry(row: Row[Any]) -> StoredEntry:
    entry = AuditEntry(
        order_id=row.order_id,
        actor=Actor(
            role=row.actor_role,
            id=row.actor_id,
            on_behalf_of=row.on_behalf_of,
            trace_id=row.trace_id,
        ),
        at=row.at,
        event_type=EventType(row.event_type),
        from_status=row.from_status,
        to_status=row.to_status,
        outcome=Outcome(row.outcome),
        reason=row.reason,
        payment_id=row.payment_id,
    )
    return StoredEntry(sequence=row.sequence, entry=entry)
