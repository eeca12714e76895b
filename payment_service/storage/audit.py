"""Audit rows: appended, read in order, never touched again."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from payment_service.application.ports import StoredEntry
from payment_service.domain.audit import Actor, AuditEntry, EventType, Outcome
from payment_service.storage.tables import payment_audit_entries
from service_kit.audit_feed import read_in_order
from service_kit.database import Database

_DISCREPANCY: Final = f"'{EventType.GATEWAY_DISCREPANCY_FOUND.value}'"
_select: Final = sa.select(payment_audit_entries)


class StoredAudit:
    """The history, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, entry: AuditEntry) -> None:
        """Insert an entry; the database gives it its place."""
        values = {
            "order_id": entry.order_id,
            "payment_id": entry.payment_id,
            "refund_id": entry.refund_id,
            "actor_role": entry.actor.role,
            "actor_id": entry.actor.id,
            "on_behalf_of": entry.actor.on_behalf_of,
            "at": entry.at,
            "event_type": entry.event_type.value,
            "from_status": entry.from_status,
            "to_status": entry.to_status,
            "outcome": entry.outcome.value,
            "reason": entry.reason,
            "trace_id": entry.actor.trace_id,
        }
        self._connection.execute(sa.insert(payment_audit_entries).inline(), values)


def read_entries(
    database: Database, *, after: int, order_id: str, limit: int
) -> Sequence[StoredEntry]:
    """Read entries in order, of all orders or of one."""
    sequence = payment_audit_entries.c.sequence
    if not order_id:
        rows = read_in_order(database, _select, sequence, after=after, limit=limit)
        return [_entry(row) for row in rows]
    # One order's numbers are handed out under its lock: they become visible in their order.
    query = (
        _select.where(payment_audit_entries.c.order_id == order_id, sequence > after)
        .order_by(sequence)
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
    )
    return StoredEntry(sequence=row.sequence, entry=entry)
