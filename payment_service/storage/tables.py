"""The tables. The database refuses what the code should never try."""

from collections.abc import Iterable
from enum import Enum
from typing import Final

import sqlalchemy as sa

from payment_service.domain.audit import Outcome
from payment_service.domain.payment import VoidReason
from payment_service.domain.state_machine import PaymentStatus, RefundStatus
from service_kit.audit.mark import mark_column
from service_kit.audit.tables import (
    Trail,
    actors_table,
    anonymisations_table,
    chain_columns,
    head_columns,
)
from service_kit.database import UtcDateTime, sorted_text

metadata: Final = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _one_of(column: str, values: Iterable[Enum]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


# One row with a random id: what a reply memory shared by several databases tells them apart by.
instance: Final = sa.Table(
    "instance", metadata, sa.Column("id", sa.String(64), primary_key=True), mark_column()
)

# The row that every change to an order's payments locks first. It is made by whoever comes
# first: a lock on rows that do not exist yet would lock nothing.
payment_orders: Final = sa.Table(
    "payment_orders",
    metadata,
    sa.Column("order_id", sorted_text(64), primary_key=True),
    sa.Column("sealed_at", UtcDateTime),
    *head_columns(),
)

payments: Final = sa.Table(
    "payments",
    metadata,
    sa.Column("id", sorted_text(64), primary_key=True),
    sa.Column("order_id", sa.ForeignKey(payment_orders.c.order_id), nullable=False),
    sa.Column("customer_id", sa.String(256), nullable=False),
    sa.Column("currency_code", sa.String(3)),
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("refunded_minor", sa.BigInteger),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("decline_code", sa.String(64)),
    sa.Column("void_reason", sa.String(32)),
    sa.Column("gateway", sa.String(32)),
    sa.Column("gateway_reference", sa.String(64), unique=True),
    sa.Column("payment_token", sa.String(256)),
    sa.Column("caller_role", sa.String(32), nullable=False),
    sa.Column("caller", sa.String(256), nullable=False),
    sa.Column("idempotency_key", sa.String(64), nullable=False),
    sa.Column("fingerprint", sa.LargeBinary(32)),
    sa.Column("lease_until", UtcDateTime),
    # When the gateway is asked again, and how often it has been in vain.
    sa.Column("due_at", UtcDateTime),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("reply", sa.LargeBinary),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("caller_role", "caller", "idempotency_key", name="uq_payments_key"),
    sa.CheckConstraint(_one_of("status", PaymentStatus), name="status_is_known"),
    sa.CheckConstraint(_one_of("void_reason", VoidReason), name="void_reason_is_known"),
    sa.CheckConstraint("amount_minor BETWEEN 1 AND 1000000000000", name="amount_is_bounded"),
    sa.CheckConstraint(
        "refunded_minor BETWEEN 0 AND amount_minor"
        " AND (refunded_minor = 0 OR status = 'succeeded')",
        name="refunded_is_at_most_amount",
    ),
    sa.CheckConstraint(
        "(status = 'voided') = (void_reason IS NOT NULL)", name="voided_has_its_reason"
    ),
    sa.CheckConstraint("(status = 'voided') = (gateway IS NULL)", name="voided_asked_no_gateway"),
    sa.CheckConstraint(
        "(status = 'failed') = (decline_code IS NOT NULL)", name="failed_has_its_decline_code"
    ),
    sa.CheckConstraint(
        "(status = 'succeeded') = (gateway_reference IS NOT NULL)",
        name="succeeded_has_its_reference",
    ),
    # What is forgotten once the payment is final, and what is there from then on.
    sa.CheckConstraint(
        "(status = 'pending') = (payment_token IS NOT NULL)", name="token_only_while_pending"
    ),
    sa.CheckConstraint("(status = 'pending') = (reply IS NULL)", name="reply_once_final"),
    sa.CheckConstraint(
        "status = 'pending' OR lease_until IS NULL", name="lease_only_while_pending"
    ),
    # Resolved before its request arrived: nobody knows what it would have asked for.
    sa.CheckConstraint(
        "(amount_minor IS NULL) = (coalesce(void_reason, '') = 'resolved_before_arrival')",
        name="unseen_has_no_amount",
    ),
    sa.CheckConstraint(
        "(amount_minor IS NULL) = (currency_code IS NULL)"
        " AND (amount_minor IS NULL) = (refunded_minor IS NULL)"
        " AND (amount_minor IS NULL) = (fingerprint IS NULL)",
        name="amount_is_complete",
    ),
    sa.Index(
        "uq_payments_one_live",
        "order_id",
        unique=True,
        postgresql_where=sa.text("status IN ('pending', 'succeeded')"),
        sqlite_where=sa.text("status IN ('pending', 'succeeded')"),
    ),
    sa.Index("ix_payments_order_id_id", "order_id", "id"),
    sa.Index(
        "ix_payments_pending",
        "created_at",
        postgresql_where=sa.text("status = 'pending'"),
        sqlite_where=sa.text("status = 'pending'"),
    ),
    sa.Index("ix_payments_customer_id_id", "customer_id", "id"),
    sa.Index("ix_payments_status_id", "status", "id"),
)

refunds: Final = sa.Table(
    "refunds",
    metadata,
    sa.Column("id", sorted_text(64), primary_key=True),
    sa.Column("payment_id", sa.ForeignKey(payments.c.id), nullable=False),
    sa.Column("order_id", sa.ForeignKey(payment_orders.c.order_id), nullable=False),
    sa.Column("currency_code", sa.String(3), nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("decline_code", sa.String(64)),
    sa.Column("gateway_reference", sa.String(64), unique=True),
    sa.Column("caller_role", sa.String(32), nullable=False),
    sa.Column("caller", sa.String(256), nullable=False),
    sa.Column("idempotency_key", sa.String(64), nullable=False),
    sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
    sa.Column("lease_until", UtcDateTime),
    # When the gateway is asked again, and how often it has been in vain.
    sa.Column("due_at", UtcDateTime),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("reply_ok", sa.Boolean(create_constraint=False)),
    sa.Column("reply", sa.LargeBinary),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("caller_role", "caller", "idempotency_key", name="uq_refunds_key"),
    sa.CheckConstraint(_one_of("status", RefundStatus), name="status_is_known"),
    sa.CheckConstraint("amount_minor >= 1", name="amount_is_positive"),
    sa.CheckConstraint(
        "(status = 'succeeded') = (gateway_reference IS NOT NULL)",
        name="succeeded_has_its_reference",
    ),
    sa.CheckConstraint("(status = 'pending') = (reply IS NULL)", name="reply_once_final"),
    sa.CheckConstraint("(reply IS NULL) = (reply_ok IS NULL)", name="reply_has_its_kind"),
    sa.CheckConstraint(
        "status = 'pending' OR lease_until IS NULL", name="lease_only_while_pending"
    ),
    # A refund that was refused failed too, but the gateway was not asked to decline it.
    sa.CheckConstraint(
        "(status = 'failed' AND reply_ok) = (decline_code IS NOT NULL)",
        name="declined_has_its_decline_code",
    ),
    sa.CheckConstraint("reply_ok OR status <> 'succeeded'", name="refused_did_not_succeed"),
    sa.Index("ix_refunds_payment_id_status", "payment_id", "status"),
    sa.Index(
        "ix_refunds_pending",
        "created_at",
        postgresql_where=sa.text("status = 'pending'"),
        sqlite_where=sa.text("status = 'pending'"),
    ),
)

payment_audit_entries: Final = sa.Table(
    "payment_audit_entries",
    metadata,
    sa.Column(
        "sequence",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        sa.Identity(always=True, cache=1),
        primary_key=True,
    ),
    sa.Column("order_id", sa.ForeignKey(payment_orders.c.order_id), nullable=False),
    sa.Column("payment_id", sa.String(64), nullable=False),
    sa.Column("refund_id", sa.String(64), nullable=False),
    sa.Column("actor_role", sa.String(32), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("event_type", sa.String(64), nullable=False),
    sa.Column("from_status", sa.String(16), nullable=False),
    sa.Column("to_status", sa.String(16), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(64), nullable=False),
    sa.Column("trace_id", sa.String(32), nullable=False),
    *chain_columns(),
    sa.CheckConstraint(_one_of("outcome", Outcome), name="outcome_is_known"),
    sa.Index("uq_payment_audit_entries_place", "order_id", "position", unique=True),
    sa.Index(
        "ix_payment_audit_entries_discrepancies",
        "sequence",
        postgresql_where=sa.text("event_type = 'gateway_discrepancy_found'"),
        sqlite_where=sa.text("event_type = 'gateway_discrepancy_found'"),
    ),
    sqlite_autoincrement=True,
)

payment_audit_actors: Final = actors_table(metadata, "payment_audit_actors", subject="order_id")
payment_audit_anonymisations: Final = anonymisations_table(metadata, "payment_audit_anonymisations")

TRAIL: Final = Trail(
    service="payment-service",
    heads="payment_orders",
    head_id="order_id",
    prefix="payment_audit",
    subject="order_id",
    told=(
        "payment_id",
        "refund_id",
        "at",
        "event_type",
        "from_status",
        "to_status",
        "outcome",
        "reason",
        "trace_id",
    ),
)
