"""The first schema: payments, refunds, the orders they belong to, and their history.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

from service_kit.database import UtcDateTime, sorted_text
from service_kit.ids import new_id

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables, and the triggers that refuse what no code should try."""
    op.create_table(
        "instance",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
    )
    op.create_table(
        "payment_orders",
        sa.Column("order_id", sorted_text(64), nullable=False),
        sa.Column("sealed_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_payment_orders")),
    )
    op.create_table(
        "payment_audit_entries",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=True, cache=1),
            nullable=False,
        ),
        sa.Column("order_id", sorted_text(64), nullable=False),
        sa.Column("payment_id", sa.String(length=64), nullable=False),
        sa.Column("refund_id", sa.String(length=64), nullable=False),
        sa.Column("actor_role", sa.String(length=32), nullable=False),
        sa.Column("actor_id", sa.String(length=256), nullable=False),
        sa.Column("on_behalf_of", sa.String(length=256), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("event_type", sa.String(length=64), nullable=False),
        sa.Column("from_status", sa.String(length=16), nullable=False),
        sa.Column("to_status", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('applied', 'refused')",
            name=op.f("ck_payment_audit_entries_outcome_is_known"),
        ),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["payment_orders.order_id"],
            name=op.f("fk_payment_audit_entries_order_id"),
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_payment_audit_entries")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_payment_audit_entries_order_id_sequence",
        "payment_audit_entries",
        ["order_id", "sequence"],
    )
    op.create_table(
        "payments",
        sa.Column("id", sorted_text(64), nullable=False),
        sa.Column("order_id", sorted_text(64), nullable=False),
        sa.Column("customer_id", sa.String(length=256), nullable=False),
        sa.Column("currency_code", sa.String(length=3)),
        sa.Column("amount_minor", sa.BigInteger()),
        sa.Column("refunded_minor", sa.BigInteger()),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("decline_code", sa.String(length=64)),
        sa.Column("void_reason", sa.String(length=32)),
        sa.Column("gateway", sa.String(length=32)),
        sa.Column("gateway_reference", sa.String(length=64)),
        sa.Column("payment_token", sa.String(length=256)),
        sa.Column("caller_role", sa.String(length=32), nullable=False),
        sa.Column("caller", sa.String(length=256), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32)),
        sa.Column("lease_until", UtcDateTime()),
        sa.Column("reply", sa.LargeBinary()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint(
            "(amount_minor IS NULL) = (coalesce(void_reason, '') = 'resolved_before_arrival')",
            name=op.f("ck_payments_unseen_has_no_amount"),
        ),
        sa.CheckConstraint(
            "(status = 'failed') = (decline_code IS NOT NULL)",
            name=op.f("ck_payments_failed_has_its_decline_code"),
        ),
        sa.CheckConstraint(
            "(status = 'pending') = (payment_token IS NOT NULL)",
            name=op.f("ck_payments_token_only_while_pending"),
        ),
        sa.CheckConstraint(
            "(status = 'pending') = (reply IS NULL)", name=op.f("ck_payments_reply_once_final")
        ),
        sa.CheckConstraint(
            "(status = 'succeeded') = (gateway_reference IS NOT NULL)",
            name=op.f("ck_payments_succeeded_has_its_reference"),
        ),
        sa.CheckConstraint(
            "(status = 'voided') = (gateway IS NULL)",
            name=op.f("ck_payments_voided_asked_no_gateway"),
        ),
        sa.CheckConstraint(
            "(status = 'voided') = (void_reason IS NOT NULL)",
            name=op.f("ck_payments_voided_has_its_reason"),
        ),
        sa.CheckConstraint(
            "refunded_minor BETWEEN 0 AND amount_minor"
            " AND (refunded_minor = 0 OR status = 'succeeded')",
            name=op.f("ck_payments_refunded_is_at_most_amount"),
        ),
        sa.CheckConstraint(
            "status = 'pending' OR lease_until IS NULL",
            name=op.f("ck_payments_lease_only_while_pending"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'succeeded', 'failed', 'voided')",
            name=op.f("ck_payments_status_is_known"),
        ),
        sa.CheckConstraint(
            "void_reason IN ('order_sealed', 'another_payment_is_live', 'resolved_before_arrival')",
            name=op.f("ck_payments_void_reason_is_known"),
        ),
        sa.CheckConstraint(
            "(amount_minor IS NULL) = (currency_code IS NULL)"
            " AND (amount_minor IS NULL) = (refunded_minor IS NULL)"
            " AND (amount_minor IS NULL) = (fingerprint IS NULL)",
            name=op.f("ck_payments_amount_is_complete"),
        ),
        sa.CheckConstraint(
            "amount_minor BETWEEN 1 AND 1000000000000", name=op.f("ck_payments_amount_is_bounded")
        ),
        sa.ForeignKeyConstraint(
            ["order_id"], ["payment_orders.order_id"], name=op.f("fk_payments_order_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint("caller_role", "caller", "idempotency_key", name="uq_payments_key"),
        sa.UniqueConstraint("gateway_reference", name=op.f("uq_payments_gateway_reference")),
    )
    op.create_index("ix_payments_customer_id_id", "payments", ["customer_id", "id"])
    op.create_index("ix_payments_order_id_id", "payments", ["order_id", "id"])
    op.create_index("ix_payments_status_id", "payments", ["status", "id"])
    op.create_index(
        "uq_payments_one_live",
        "payments",
        ["order_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('pending', 'succeeded')"),
        sqlite_where=sa.text("status IN ('pending', 'succeeded')"),
    )
    op.create_table(
        "refunds",
        sa.Column("id", sorted_text(64), nullable=False),
        sa.Column("payment_id", sorted_text(64), nullable=False),
        sa.Column("order_id", sorted_text(64), nullable=False),
        sa.Column("currency_code", sa.String(length=3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("decline_code", sa.String(length=64)),
        sa.Column("gateway_reference", sa.String(length=64)),
        sa.Column("caller_role", sa.String(length=32), nullable=False),
        sa.Column("caller", sa.String(length=256), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("lease_until", UtcDateTime()),
        sa.Column("reply_ok", sa.Boolean()),
        sa.Column("reply", sa.LargeBinary()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint(
            "(status = 'failed' AND reply_ok) = (decline_code IS NOT NULL)",
            name=op.f("ck_refunds_declined_has_its_decline_code"),
        ),
        sa.CheckConstraint(
            "(status = 'pending') = (reply IS NULL)", name=op.f("ck_refunds_reply_once_final")
        ),
        sa.CheckConstraint(
            "(status = 'succeeded') = (gateway_reference IS NOT NULL)",
            name=op.f("ck_refunds_succeeded_has_its_reference"),
        ),
        sa.CheckConstraint(
            "reply_ok OR status <> 'succeeded'", name=op.f("ck_refunds_refused_did_not_succeed")
        ),
        sa.CheckConstraint(
            "status = 'pending' OR lease_until IS NULL",
            name=op.f("ck_refunds_lease_only_while_pending"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'succeeded', 'failed')", name=op.f("ck_refunds_status_is_known")
        ),
        sa.CheckConstraint(
            "(reply IS NULL) = (reply_ok IS NULL)", name=op.f("ck_refunds_reply_has_its_kind")
        ),
        sa.CheckConstraint("amount_minor >= 1", name=op.f("ck_refunds_amount_is_positive")),
        sa.ForeignKeyConstraint(
            ["order_id"], ["payment_orders.order_id"], name=op.f("fk_refunds_order_id")
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_refunds_payment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
        sa.UniqueConstraint("caller_role", "caller", "idempotency_key", name="uq_refunds_key"),
        sa.UniqueConstraint("gateway_reference", name=op.f("uq_refunds_gateway_reference")),
    )
    op.create_index("ix_refunds_payment_id_status", "refunds", ["payment_id", "status"])
    op.execute(sa.text("INSERT INTO instance (id) VALUES (:id)").bindparams(id=new_id("db_")))
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_REFUSE)
    for rule in _RULES:
        op.execute(_trigger(op.get_bind().dialect.name, *rule))
    if op.get_bind().dialect.name == "sqlite":
        for table, there_already in _REPLACED.items():
            op.execute(_never_replaced(table, there_already))


# What a payment and a refund are from their first moment on, and what they ended with.
_PAYMENT = (
    "id, order_id, customer_id, currency_code, amount_minor, gateway,"
    " caller_role, caller, idempotency_key, fingerprint, created_at"
)
_PAYMENT_OUTCOME = "decline_code, void_reason, gateway_reference, reply"
_REFUND = (
    "id, payment_id, order_id, currency_code, amount_minor,"
    " caller_role, caller, idempotency_key, fingerprint, created_at"
)
_REFUND_OUTCOME = "decline_code, gateway_reference, reply_ok, reply"

_ARROW_IS_ILLEGAL = (
    "OLD.status <> NEW.status"
    " AND OLD.status || ' ' || NEW.status NOT IN ('pending succeeded', 'pending failed')"
)


def _changes(columns: str) -> str:
    rows = (", ".join(f"{row}.{name}" for name in columns.split(", ")) for row in ("OLD", "NEW"))
    return "({}) IS DISTINCT FROM ({})".format(*rows)


# The name says what holds; a row that meets the condition is refused, and without a condition
# every row is.
_RULES = (
    (
        "payments_begin_pending_or_voided",
        "INSERT",
        "payments",
        "NEW.status NOT IN ('pending', 'voided')",
    ),
    ("payments_move_along_an_arrow", "UPDATE", "payments", _ARROW_IS_ILLEGAL),
    ("payments_stay_what_was_asked_for", "UPDATE", "payments", _changes(_PAYMENT)),
    (
        "payments_stay_as_they_ended",
        "UPDATE",
        "payments",
        f"OLD.status <> 'pending' AND {_changes(_PAYMENT_OUTCOME)}",
    ),
    (
        "payments_give_back_more_or_the_same",
        "UPDATE",
        "payments",
        "NEW.refunded_minor < OLD.refunded_minor",
    ),
    ("payments_are_never_deleted", "DELETE", "payments", ""),
    (
        "refunds_begin_pending_or_refused",
        "INSERT",
        "refunds",
        "NEW.status <> 'pending' AND (NEW.status <> 'failed' OR NEW.reply_ok)",
    ),
    ("refunds_move_along_an_arrow", "UPDATE", "refunds", _ARROW_IS_ILLEGAL),
    ("refunds_stay_what_was_asked_for", "UPDATE", "refunds", _changes(_REFUND)),
    (
        "refunds_stay_as_they_ended",
        "UPDATE",
        "refunds",
        f"OLD.status <> 'pending' AND {_changes(_REFUND_OUTCOME)}",
    ),
    ("refunds_are_never_deleted", "DELETE", "refunds", ""),
    (
        "payment_orders_stay_sealed",
        "UPDATE",
        "payment_orders",
        f"{_changes('order_id')} OR (OLD.sealed_at IS NOT NULL AND {_changes('sealed_at')})",
    ),
    ("payment_orders_are_never_deleted", "DELETE", "payment_orders", ""),
    ("payment_audit_entries_never_change", "UPDATE", "payment_audit_entries", ""),
    ("payment_audit_entries_are_never_deleted", "DELETE", "payment_audit_entries", ""),
)

_REFUSE = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '%: %', TG_TABLE_NAME, TG_NAME; END $$"""


# SQLite's INSERT OR REPLACE deletes what is in its way without firing DELETE's triggers.
_REPLACED = {
    "payments": "EXISTS (SELECT 1 FROM payments WHERE id = NEW.id)",
    "refunds": "EXISTS (SELECT 1 FROM refunds WHERE id = NEW.id)",
    "payment_audit_entries": (
        "EXISTS (SELECT 1 FROM payment_audit_entries WHERE sequence = NEW.sequence)"
    ),
}


def _never_replaced(table: str, there_already: str) -> str:
    return _trigger("sqlite", f"{table}_are_never_replaced", "INSERT", table, there_already)


def _trigger(dialect: str, name: str, event: str, table: str, condition: str) -> str:
    if dialect == "sqlite":
        # SQLite knows IS DISTINCT FROM since 3.39 only, and has always called it IS NOT.
        when = f"WHEN {condition.replace('IS DISTINCT FROM', 'IS NOT')}" if condition else ""
        return (
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} {when}"
            f" BEGIN SELECT RAISE(ABORT, '{table}: {name}'); END"
        )
    scope = f"FOR EACH ROW WHEN ({condition})" if condition else "FOR EACH STATEMENT"
    event = "DELETE OR TRUNCATE" if event == "DELETE" else event
    return f"CREATE TRIGGER {name} BEFORE {event} ON {table} {scope} EXECUTE FUNCTION refuse()"
