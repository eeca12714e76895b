"""Read what is known of some orders or keys, from sources that move on meanwhile.

The order database is read first, then the payment database, then the ledger: what an order
claims happened before in the others, and is there when they are read.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from order_service.verification.books import Ledger
from order_service.verification.evidence import (
    Evidence,
    Key,
    KeyEvidence,
    KeyName,
    Operation,
    Order,
    OrderEntry,
    Payment,
    PaymentEntry,
    Received,
    Refund,
    Seal,
)
from order_service.verification.replies import subject_of
from service_kit.clock import Clock
from service_kit.database import Database, UtcDateTime

R = TypeVar("R")

_TYPES: Final[dict[Any, Any]] = {
    datetime: UtcDateTime,
    datetime | None: UtcDateTime,
    bool | None: sa.Boolean,
    str: sa.String,
}


def _table(name: str, row: type, *, elsewhere: str = "", more: str = "") -> sa.TableClause:
    columns = {field.name: sa.column(field.name, _TYPES.get(field.type)) for field in fields(row)}
    columns.pop(elsewhere, None)
    return sa.table(name, *columns.values(), *map(sa.column, more.split()))


_orders: Final = _table("orders", Order)
_operations: Final = _table("payment_operations", Operation)
_keys: Final = _table("idempotency_keys", Key)
_bare_entries: Final = _table(
    "order_audit_entries", OrderEntry, elsewhere="actor_id", more="position"
)
_actors: Final = sa.table(
    "order_audit_actors", *map(sa.column, ("order_id", "position", "actor_id"))
)
_inbox: Final = _table("payment_inbox", Received)
_feed: Final = sa.table("payment_feed", sa.column("sequence"))
_payments: Final = _table("payments", Payment)
_refunds: Final = _table("refunds", Refund)
_payment_entries: Final = _table("payment_audit_entries", PaymentEntry)
_seals: Final = _table("payment_orders", Seal)

ORDER_TABLES: Final = (_orders, _operations, _keys, _bare_entries, _actors, _inbox, _feed)
PAYMENT_TABLES: Final = (_payments, _refunds, _payment_entries, _seals)

# With who acted, or nobody once that has been made anonymous.
_columns: Final = {
    **_bare_entries.c,
    "actor_id": sa.func.coalesce(_actors.c.actor_id, "").label("actor_id"),
}
_entries: Final = (
    sa.select(*(_columns[field.name] for field in fields(OrderEntry)))
    .outerjoin_from(
        _bare_entries,
        _actors,
        sa.and_(
            _actors.c.order_id == _bare_entries.c.order_id,
            _actors.c.position == _bare_entries.c.position,
        ),
    )
    .subquery()
)

_key_name: Final = (_keys.c.caller_role, _keys.c.caller, _keys.c.idempotency_key)


class Sources:
    """The two databases and the ledger, if there is one."""

    def __init__(
        self,
        *,
        order_database: Database,
        payment_database: Database,
        ledger: Ledger | None,
        clock: Clock,
    ) -> None:
        self._orders = order_database
        self._payments = payment_database
        self._ledger = ledger
        self.has_ledger = ledger is not None
        self._clock = clock

    # What there is to look at, page by page.

    def order_ids(self, after: str, limit: int) -> list[str]:
        """List orders by their id."""
        query = sa.select(_orders.c.id).where(_orders.c.id > after).order_by(_orders.c.id)
        return _ids(self._orders, query.limit(limit))

    def paid_order_ids(self, after: str, limit: int) -> list[str]:
        """List the orders that the payment service has payments of, by their id."""
        column = _payments.c.order_id
        query = sa.select(column).distinct().where(column > after).order_by(column)
        return _ids(self._payments, query.limit(limit))

    def charged_order_ids(self, after: str, limit: int) -> list[str]:
        """List the orders that the ledger has charges of, by their id."""
        return self._ledger.order_ids(after, limit) if self._ledger else []

    def waiting_order_ids(self, after: str, limit: int) -> list[str]:
        """List the orders whose payments wait in the inbox, by their id."""
        column = _inbox.c.order_id
        query = (
            sa.select(column)
            .distinct()
            .where(_inbox.c.applied_at.is_(None), column > after)
            .order_by(column)
        )
        return _ids(self._orders, query.limit(limit))

    def unknown(self, order_ids: Sequence[str]) -> list[str]:
        """Return those that name no order."""
        query = sa.select(_orders.c.id).where(_orders.c.id.in_(order_ids))
        known = set(_ids(self._orders, query))
        return [order_id for order_id in order_ids if order_id not in known]

    def key_names(self, after: KeyName, limit: int) -> list[KeyName]:
        """List the finished idempotency keys by their name."""
        query = (
            sa.select(*_key_name)
            .where(_keys.c.reply.is_not(None), sa.tuple_(*_key_name) > sa.tuple_(*after))
            .order_by(*_key_name)
        )
        found = self._orders.read_at_one_moment(lambda c: c.execute(query.limit(limit)).all())
        return [KeyName(*row) for row in found]

    def key_names_of(self, order_id: str) -> list[KeyName]:
        """List the idempotency keys of an order's operations."""
        columns = (_operations.c[column.name] for column in _key_name)
        query = sa.select(*columns).where(_operations.c.order_id == order_id).distinct()
        found = self._orders.read_at_one_moment(lambda c: c.execute(query).all())
        return [KeyName(*row) for row in found]

    # What is known of it.

    def of_orders(self, order_ids: Sequence[str]) -> list[Evidence]:
        """Read all that is known of some orders."""
        ours = self._orders.read_at_one_moment(lambda c: _read_orders(c, order_ids))
        theirs = self._payments.read_at_one_moment(lambda c: _read_payments(c, order_ids))
        charges, given_back = self._ledger.read(order_ids) if self._ledger else ([], [])
        payment_ids = [payment.id for rows in theirs.payments.values() for payment in rows]
        # After the cursor: what that has passed is here.
        received = self._orders.read_at_one_moment(lambda c: _read_inbox(c, order_ids, payment_ids))
        payment_orders = {p.id: p.order_id for rows in theirs.payments.values() for p in rows}
        received_by = _grouped(received, lambda r: payment_orders.get(r.payment_id, r.order_id))
        charges_by = _grouped(charges, lambda charge: charge.order_id)
        given_back_by = _grouped(given_back, lambda refund: refund.order_id)
        now = self._clock.now()
        return [
            Evidence(
                order_id=order_id,
                now=now,
                order=ours.orders.get(order_id),
                operations=ours.operations.get(order_id, ()),
                keys=ours.keys,
                entries=ours.entries.get(order_id, ()),
                received=received_by.get(order_id, ()),
                cursor=ours.cursor,
                seal=theirs.seals.get(order_id),
                payments=theirs.payments.get(order_id, ()),
                refunds=theirs.refunds.get(order_id, ()),
                payment_entries=theirs.entries.get(order_id, ()),
                has_ledger=self.has_ledger,
                charges=charges_by.get(order_id, ()),
                given_back=given_back_by.get(order_id, ()),
            )
            for order_id in order_ids
        ]

    def of_keys(self, names: Sequence[KeyName]) -> list[KeyEvidence]:
        """Read all that is known of some idempotency keys; those forgotten since are left out."""
        keys, operations = self._orders.read_at_one_moment(lambda c: _read_keys(c, names))
        subjects = {key.name: subject_of(key) for key in keys}
        payment_ids = [subject.payment_id for subject in subjects.values() if not subject.order_id]
        payments = self._payments.read_at_one_moment(lambda c: _orders_of_payments(c, payment_ids))
        ids = {}
        for key in keys:
            subject, operation = subjects[key.name], operations.get(key.operation_id or "")
            told = subject.order_id or payments.get(subject.payment_id, "")
            ids[key.name] = operation.order_id if operation else told
        order_ids = list(set(ids.values()))
        orders, entries = self._orders.read_at_one_moment(lambda c: _read_histories(c, order_ids))
        return [
            KeyEvidence(
                key=key,
                operation=operations.get(key.operation_id or ""),
                order_id=ids[key.name],
                order=orders.get(ids[key.name]),
                entries=entries.get(ids[key.name], ()),
            )
            for key in keys
        ]


@dataclass(frozen=True)
class _Ours:
    orders: Mapping[str, Order]
    operations: Mapping[str, tuple[Operation, ...]]
    keys: Mapping[KeyName, Key]
    entries: Mapping[str, tuple[OrderEntry, ...]]
    cursor: int


@dataclass(frozen=True)
class _Theirs:
    seals: Mapping[str, Seal]
    payments: Mapping[str, tuple[Payment, ...]]
    refunds: Mapping[str, tuple[Refund, ...]]
    entries: Mapping[str, tuple[PaymentEntry, ...]]


def _read_orders(connection: Connection, order_ids: Sequence[str]) -> _Ours:
    cursor = connection.execute(sa.select(_feed.c.sequence)).scalar_one()
    orders, entries = _read_histories(connection, order_ids)
    operations = _read(
        connection, _operations, Operation, _operations.c.order_id.in_(order_ids), _operations.c.id
    )
    names = {operation.key for operation in operations}
    keys = _read(connection, _keys, Key, sa.tuple_(*_key_name).in_(names)) if names else []
    return _Ours(
        orders=orders,
        operations=_grouped(operations, lambda operation: operation.order_id),
        keys={key.name: key for key in keys},
        entries=entries,
        cursor=int(cursor),
    )


def _read_histories(
    connection: Connection, order_ids: Sequence[str]
) -> tuple[Mapping[str, Order], Mapping[str, tuple[OrderEntry, ...]]]:
    orders = _read(connection, _orders, Order, _orders.c.id.in_(order_ids))
    entries = _read(
        connection, _entries, OrderEntry, _entries.c.order_id.in_(order_ids), _entries.c.sequence
    )
    return {order.id: order for order in orders}, _grouped(entries, lambda e: e.order_id)


def _read_payments(connection: Connection, order_ids: Sequence[str]) -> _Theirs:
    seals = _read(connection, _seals, Seal, _seals.c.order_id.in_(order_ids))
    payments = _read(
        connection, _payments, Payment, _payments.c.order_id.in_(order_ids), _payments.c.id
    )
    # By their payments, which an index knows them by.
    payment_ids = [payment.id for payment in payments]
    refunds = _read(
        connection, _refunds, Refund, _refunds.c.payment_id.in_(payment_ids), _refunds.c.id
    )
    entries = _read(
        connection,
        _payment_entries,
        PaymentEntry,
        _payment_entries.c.order_id.in_(order_ids),
        _payment_entries.c.sequence,
    )
    return _Theirs(
        seals={seal.order_id: seal for seal in seals},
        payments=_grouped(payments, lambda payment: payment.order_id),
        refunds=_grouped(refunds, lambda refund: refund.order_id),
        entries=_grouped(entries, lambda entry: entry.order_id),
    )


def _read_inbox(
    connection: Connection, order_ids: Sequence[str], payment_ids: Sequence[str]
) -> list[Received]:
    waits = sa.and_(_inbox.c.applied_at.is_(None), _inbox.c.order_id.in_(order_ids))
    condition = sa.or_(_inbox.c.payment_id.in_(payment_ids), waits)
    return _read(connection, _inbox, Received, condition, _inbox.c.payment_id)


def _read_keys(
    connection: Connection, names: Sequence[KeyName]
) -> tuple[list[Key], Mapping[str, Operation]]:
    keys = _read(connection, _keys, Key, sa.tuple_(*_key_name).in_(names))
    ids = [key.operation_id for key in keys if key.operation_id]
    operations = _read(connection, _operations, Operation, _operations.c.id.in_(ids))
    return keys, {operation.id: operation for operation in operations}


def _orders_of_payments(connection: Connection, payment_ids: Sequence[str]) -> dict[str, str]:
    query = sa.select(_payments.c.id, _payments.c.order_id).where(_payments.c.id.in_(payment_ids))
    return {row.id: row.order_id for row in connection.execute(query)}


def _read(
    connection: Connection,
    table: sa.FromClause,
    row: Callable[..., R],
    condition: sa.ColumnElement[bool],
    *order: sa.ColumnElement[Any],
) -> list[R]:
    query = sa.select(*table.c).where(condition).order_by(*order)
    # The columns were made of the row's fields, in their order.
    return [row(*found) for found in connection.execute(query)]


def _grouped(rows: Iterable[R], key: Callable[[R], str]) -> dict[str, tuple[R, ...]]:
    groups: defaultdict[str, list[R]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return {name: tuple(group) for name, group in groups.items()}


def _ids(database: Database, query: sa.Select[Any]) -> list[str]:
    return database.read_at_one_moment(lambda connection: list(connection.execute(query).scalars()))
