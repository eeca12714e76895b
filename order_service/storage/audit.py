"""Audit rows: appended, read in order, never touched again."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Row

from order_service.application.ports import StoredEntry
from order_service.domain.audit import Actor, AuditEntry, EventType, Outcome
from order_service.storage.tables import (
    TRAIL,
    metadata,
    order_audit_actors,
    order_audit_entries,
)
from service_kit.audit.chain import ChainKey, Head, Person
from service_kit.audit.writing import Insertion, Link, link
from service_kit.audit_feed import read_in_order
from service_kit.database import Database
from service_kit.statements import Session

_insertion: Final = Insertion(TRAIL, metadata, heads=False)
_select: Final = sa.select(
    order_audit_entries, order_audit_actors.c.actor_id, order_audit_actors.c.on_behalf_of
).outerjoin_from(
    order_audit_entries,
    order_audit_actors,
    sa.and_(
        order_audit_actors.c.order_id == order_audit_entries.c.order_id,
        order_audit_actors.c.position == order_audit_entries.c.position,
    ),
)


class StoredHistory:
    """The history, within one transaction. Where it ends is in the row of its order."""

    def __init__(self, connection: Session, key: ChainKey) -> None:
        self._connection = connection
        self._key = key

    def beginning(self, order_id: str) -> Head:
        """Return the end of a history without entries."""
        return self._key.beginning(order_id)

    def continued(self, head: Head, entries: Sequence[AuditEntry]) -> tuple[Head, list[Link]]:
        """Seal entries one after the other. Return the new end, and what is to be written."""
        links = []
        for entry in entries:
            links.append(_link(self._key, head, entry))
            head = links[-1].head
        return head, links

    def write(self, links: Sequence[Link]) -> None:
        """Insert the entries; the database gives each its place among all."""
        for each in links:
            _insertion.write(self._connection, each)


def _link(key: ChainKey, head: Head, entry: AuditEntry) -> Link:
    actor = entry.actor
    return link(
        TRAIL,
        key,
        head=head,
        subject=entry.order_id,
        by=Person(role=actor.role, id=actor.id, on_behalf_of=actor.on_behalf_of),
        told={
            "at": entry.at,
            "event_type": entry.event_type.value,
            "from_status": entry.from_status,
            "to_status": entry.to_status,
            "outcome": entry.outcome.value,
            "reason": entry.reason,
            "payment_id": entry.payment_id,
            "trace_id": actor.trace_id,
        },
    )


def read_entries(
    database: Database, *, after: int, order_id: str, limit: int
) -> Sequence[StoredEntry]:
    """Read entries in order, of all orders or of one."""
    sequence = order_audit_entries.c.sequence
    if not order_id:
        rows = read_in_order(database, _select, sequence, after=after, limit=limit)
        return [_entry(row) for row in rows]
    # One order's numbers are handed out under its lock: they become visible in their order, which
    # is that of their positions, and an index has these.
    query = (
        _select.where(order_audit_entries.c.order_id == order_id, sequence > after)
        .order_by(order_audit_entries.c.position)
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
        payment_id=row.payment_id,
    )
    return StoredEntry(sequence=row.sequence, entry=entry)
