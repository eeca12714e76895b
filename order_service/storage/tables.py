"""The tables. The database refuses what the code should never try."""

from typing import Final

import sqlalchemy as sa

from order_service.domain.payment_operation import OperationKind, OperationStatus
from order_service.domain.state_machine import OrderStatus
from service_kit.audit.mark import mark_column
from service_kit.audit.tables import (
    Trail,
    actors_table,
    anonymisations_table,
    chain_columns,
    head_columns,
)
from service_kit.database import UtcDateTime, sorted_text
from service_kit.idempotency.keys import idempotency_keys_table

metadata: Final = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _one_of(column: str, values: list[str]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


# One row with a random id: what a reply memory shared by several databases tells them apart by.
instance: Final = sa.Table(
    "instance", metadata, sa.Column("id", sa.String(64), primary_key=True), mark_column()
)

idempotency_keys: Final = idempotency_keys_table(metadata)

orders: Final = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sorted_text(64), primary_key=True),
    sa.Column("customer_id", sa.String(256), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("currency_code", sa.String(3), nullable=False),
    sa.Column("total_minor", sa.BigInteger, nullable=False),
    sa.Column("refunded_minor", sa.BigInteger, nullable=False),
    sa.Column("payment_id", sa.String(64), unique=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    *head_columns(),
    sa.CheckConstraint(_one_of("status", [s.value for s in OrderStatus]), name="status_is_known"),
    sa.CheckConstraint("total_minor BETWEEN 1 AND 1000000000000", name="total_is_bounded"),
    sa.CheckConstraint(
        "refunded_minor BETWEEN 0 AND total_minor", name="refunded_is_at_most_total"
    ),
    sa.CheckConstraint(
        "(payment_id IS NULL) = (status IN ('created', 'cancelled'))", name="paid_by_a_payment"
    ),
    sa.CheckConstraint(
        "(status = 'refunded') = (refunded_minor = total_minor)", name="refunded_is_all_of_it"
    ),
    sa.Index("ix_orders_customer_id_id", "customer_id", "id"),
    sa.Index("ix_orders_status_id", "status", "id"),
)

order_items: Final = sa.Table(
    "order_items",
    metadata,
    sa.Column("order_id", sa.ForeignKey(orders.c.id), primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sku", sa.String(256), nullable=False),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("unit_price_minor", sa.BigInteger, nullable=False),
    sa.CheckConstraint("line BETWEEN 1 AND 100", name="line_is_bounded"),
    sa.CheckConstraint("quantity BETWEEN 1 AND 10000", name="quantity_is_bounded"),
    sa.CheckConstraint("unit_price_minor BETWEEN 0 AND 10000000000", name="price_is_bounded"),
)

payment_operations: Final = sa.Table(
    "payment_operations",
    metadata,
    sa.Column("id", sorted_text(64), primary_key=True),
    sa.Column("order_id", sa.ForeignKey(orders.c.id), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("currency_code", sa.String(3)),
    sa.Column("payment_id", sa.String(64)),
    sa.Column("caller_role", sa.String(32), nullable=False),
    sa.Column("caller", sa.String(256), nullable=False),
    sa.Column("on_behalf_of", sa.String(256), nullable=False),
    sa.Column("trace_id", sa.String(32), nullable=False),
    sa.Column("method", sa.String(64), nullable=False),
    sa.Column("idempotency_key", sa.String(64), nullable=False),
    sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    # When it is asked about again, and how often it has been in vain. None: whenever it is old.
    sa.Column("due_at", UtcDateTime),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # An answer that no repeat will change: a person has to look.
    sa.Column("problem", sa.String(64), nullable=False, server_default=""),
    sa.CheckConstraint(_one_of("kind", [k.value for k in OperationKind]), name="kind_is_known"),
    sa.CheckConstraint(
        _one_of("status", [s.value for s in OperationStatus]), name="status_is_known"
    ),
    sa.CheckConstraint("(status = 'in_flight') = (ended_at IS NULL)", name="ended_has_its_time"),
    # A condition on nothing is neither true nor false, and a check refuses only what is false.
    sa.CheckConstraint(
        "kind <> 'refund' OR (coalesce(amount_minor, 0) > 0 AND currency_code IS NOT NULL"
        " AND payment_id IS NOT NULL)",
        name="refund_has_an_amount",
    ),
    # An order is charged or cancelled by one operation only, and refunded by one at a time.
    sa.Index(
        "uq_payment_operations_one_charge_or_cancel",
        "order_id",
        unique=True,
        postgresql_where=sa.text("kind <> 'refund' AND status IN ('in_flight', 'succeeded')"),
        sqlite_where=sa.text("kind <> 'refund' AND status IN ('in_flight', 'succeeded')"),
    ),
    sa.Index(
        "uq_payment_operations_one_refund",
        "order_id",
        unique=True,
        postgresql_where=sa.text("kind = 'refund' AND status = 'in_flight'"),
        sqlite_where=sa.text("kind = 'refund' AND status = 'in_flight'"),
    ),
    sa.Index(
        "ix_payment_operations_in_flight",
        "order_id",
        postgresql_where=sa.text("status = 'in_flight'"),
        sqlite_where=sa.text("status = 'in_flight'"),
    ),
)

# How far the payment service's history has been read: one row.
payment_feed: Final = sa.Table(
    "payment_feed",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.CheckConstraint("id = 1", name="is_one_row"),
)

# The payments that the history said have succeeded, until their orders are paid by them.
payment_inbox: Final = sa.Table(
    "payment_inbox",
    metadata,
    sa.Column("payment_id", sorted_text(64), primary_key=True),
    # No foreign key: what the other service says is kept even if it names no order of ours.
    sa.Column("order_id", sa.String(64), nullable=False),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("applied_at", UtcDateTime),
    sa.Column("due_at", UtcDateTime),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("problem", sa.String(64), nullable=False, server_default=""),
    sa.Index(
        "ix_payment_inbox_waiting",
        "received_at",
        postgresql_where=sa.text("applied_at IS NULL"),
        sqlite_where=sa.text("applied_at IS NULL"),
    ),
    sa.Index(
        "ix_payment_inbox_order_id",
        "order_id",
        postgresql_where=sa.text("applied_at IS NULL"),
        sqlite_where=sa.text("applied_at IS NULL"),
    ),
)

order_audit_entries: Final = sa.Table(
    "order_audit_entries",
    metadata,
    sa.Column(
        "sequence",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        sa.Identity(always=True, cache=1),
        primary_key=True,
    ),
    sa.Column("order_id", sa.ForeignKey(orders.c.id), nullable=False),
    sa.Column("actor_role", sa.String(32), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("event_type", sa.String(64), nullable=False),
    sa.Column("from_status", sa.String(16), nullable=False),
    sa.Column("to_status", sa.String(16), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(64), nullable=False),
    sa.Column("payment_id", sa.String(64), nullable=False),
    sa.Column("trace_id", sa.String(32), nullable=False),
    *chain_columns(),
    sa.CheckConstraint(_one_of("outcome", ["applied", "refused"]), name="outcome_is_known"),
    sa.Index("uq_order_audit_entries_place", "order_id", "position", unique=True),
    sqlite_autoincrement=True,
)

order_audit_actors: Final = actors_table(metadata, "order_audit_actors", subject="order_id")
order_audit_anonymisations: Final = anonymisations_table(metadata, "order_audit_anonymisations")

TRAIL: Final = Trail(
    service="order-service",
    heads="orders",
    head_id="id",
    prefix="order_audit",
    subject="order_id",
    told=(
        "at",
        "event_type",
        "from_status",
        "to_status",
        "outcome",
        "reason",
        "payment_id",
        "trace_id",
    ),
)
