"""What really happened: the order history as it is stored, and what the gateway has booked.

An order's applied entries, in the order of their numbers, are the one path that the order went:
whatever a client was told must fit to it.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa

from order_service.storage.tables import order_audit_entries
from service_kit.database import Database


@dataclass(frozen=True)
class Entry:
    """A line of the order history."""

    sequence: int
    order_id: str
    event_type: str
    from_status: str
    to_status: str
    applied: bool
    trace_id: str
    reason: str = ""
    payment_id: str = ""
    actor_role: str = "customer"

    @property
    def changes_status(self) -> bool:
        """Whether it is a step of the order's path."""
        return self.applied and self.from_status != self.to_status


@dataclass(frozen=True)
class Booked:
    """A charge or a refund that the gateway approved; `key` is the payment's or the refund's."""

    key: str
    order_id: str
    minor_units: int


@dataclass(frozen=True)
class Truth:
    """Entries in the order of their numbers, and the money that moved."""

    entries: Sequence[Entry]
    charges: Sequence[Booked] = ()
    refunds: Sequence[Booked] = ()

    @cached_property
    def of_trace(self) -> dict[str, list[Entry]]:
        """The entries of each trace."""
        found = defaultdict(list)
        for entry in self.entries:
            found[entry.trace_id].append(entry)
        return found

    @cached_property
    def steps(self) -> dict[str, list[Entry]]:
        """Each order's path; the step at index n made version n + 1."""
        found = defaultdict(list)
        for entry in self.entries:
            if entry.changes_status:
                found[entry.order_id].append(entry)
        return found

    def status(self, order_id: str) -> str:
        """Where an order stands at the end; nothing for one that does not exist."""
        steps = self.steps.get(order_id)
        return steps[-1].to_status if steps else ""

    def charges_of(self, order_id: str) -> list[Booked]:
        """What was taken for an order."""
        return self._charges.get(order_id, [])

    def refunds_of(self, order_id: str) -> list[Booked]:
        """What was given back for an order."""
        return self._refunds.get(order_id, [])

    @cached_property
    def _charges(self) -> dict[str, list[Booked]]:
        return _by_order(self.charges)

    @cached_property
    def _refunds(self) -> dict[str, list[Booked]]:
        return _by_order(self.refunds)


def read_truth(order_database: Database, ledger: Path) -> Truth:
    """Read it from the order database and from the gateway's own file."""
    return Truth(
        entries=_entries(order_database),
        charges=_booked(
            ledger,
            "SELECT key, order_id, amount_minor FROM charges WHERE decline_code = ''",
        ),
        refunds=_booked(
            ledger,
            "SELECT refunds.key, charges.order_id, refunds.amount_minor FROM refunds"
            " JOIN charges ON charges.reference = refunds.charge_reference"
            " WHERE refunds.decline_code = ''",
        ),
    )


def _entries(database: Database) -> list[Entry]:
    query = sa.select(order_audit_entries).order_by(order_audit_entries.c.sequence)
    rows = database.read(lambda connection: connection.execute(query).all())
    return [
        Entry(
            sequence=row.sequence,
            order_id=row.order_id,
            event_type=row.event_type,
            from_status=row.from_status,
            to_status=row.to_status,
            applied=row.outcome == "applied",
            trace_id=row.trace_id,
            reason=row.reason,
            payment_id=row.payment_id or "",
            actor_role=row.actor_role,
        )
        for row in rows
    ]


def _booked(ledger: Path, query: str) -> list[Booked]:
    # An own connection that may write: a reader alone cannot open the log of a killed writer.
    with closing(sqlite3.connect(ledger)) as connection:
        return [Booked(*row) for row in connection.execute(query)]


def _by_order(booked: Iterable[Booked]) -> dict[str, list[Booked]]:
    found = defaultdict(list)
    for one in booked:
        found[one.order_id].append(one)
    return found
