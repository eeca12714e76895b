"""The first schema: orders, their operations, their history, and the keys of requests.

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
        "idempotency_keys",
        sa.Column("caller_role", sa.String(length=32), nullable=False),
        sa.Column("caller", sa.String(length=256), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("operation_id", sa.String(length=64)),
        sa.Column("owner_id", sa.String(length=64), nullable=False),
        sa.Column("lease_until", UtcDateTime(), nullable=False),
        sa.Column("reply_ok", sa.Boolean()),
        sa.Column("reply", sa.LargeBinary()),
        sa.Column("used_at", UtcDateTime(), nullable=False),
        sa.Column("replied_at", UtcDateTime()),
        sa.CheckConstraint(
            "(reply IS NULL) = (replied_at IS NULL)",
            name=op.f("ck_idempotency_keys_reply_has_its_time"),
        ),
        sa.CheckConstraint(
            "(reply IS NULL) = (reply_ok IS NULL)",
            name=op.f("ck_idempotency_keys_reply_has_its_kind"),
        ),
        sa.PrimaryKeyConstraint(
            "caller_role", "caller", "idempotency_key", name=op.f("pk_idempotency_keys")
        ),
    )
    op.create_table(
        "instance",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
    )
    op.create_table(
        "orders",
        sa.Column("id", sorted_text(64), nullable=False),
        sa.Column("customer_id", sa.String(length=256), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("currency_code", sa.String(length=3), nullable=False),
        sa.Column("total_minor", sa.BigInteger(), nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.String(length=64)),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint(
            "(payment_id IS NULL) = (status IN ('created', 'cancelled'))",
            name=op.f("ck_orders_paid_by_a_payment"),
        ),
        sa.CheckConstraint(
            "(status = 'refunded') = (refunded_minor = total_minor)",
            name=op.f("ck_orders_refunded_is_all_of_it"),
        ),
        sa.CheckConstraint(
            "status IN ('created', 'paid', 'fulfilled', 'cancelled', 'refunded', 'archived')",
            name=op.f("ck_orders_status_is_known"),
        ),
        sa.CheckConstraint(
            "refunded_minor BETWEEN 0 AND total_minor",
            name=op.f("ck_orders_refunded_is_at_most_total"),
        ),
        sa.CheckConstraint(
            "total_minor BETWEEN 1 AND 1000000000000", name=op.f("ck_orders_total_is_bounded")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
        sa.UniqueConstraint("payment_id", name=op.f("uq_orders_payment_id")),
    )
    op.create_index("ix_orders_customer_id_id", "orders", ["customer_id", "id"])
    op.create_index("ix_orders_status_id", "orders", ["status", "id"])
    op.create_table(
        "order_audit_entries",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=True, cache=1),
            nullable=False,
        ),
        sa.Column("order_id", sorted_text(64), nullable=False),
        sa.Column("actor_role", sa.String(length=32), nullable=False),
        sa.Column("actor_id", sa.String(length=256), nullable=False),
        sa.Column("on_behalf_of", sa.String(length=256), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("event_type", sa.String(length=64), nullable=False),
        sa.Column("from_status", sa.String(length=16), nullable=False),
        sa.Column("to_status", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("payment_id", sa.String(length=64), nullable=False),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('applied', 'refused')",
            name=op.f("ck_order_audit_entries_outcome_is_known"),
        ),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_order_audit_entries_order_id")
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_order_audit_entries")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_order_audit_entries_order_id_sequence", "order_audit_entries", ["order_id", "sequence"]
    )
    op.create_table(
        "order_items",
        sa.Column("order_id", sorted_text(64), nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sku", sa.String(length=256), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_price_minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("line BETWEEN 1 AND 100", name=op.f("ck_order_items_line_is_bounded")),
        sa.CheckConstraint(
            "quantity BETWEEN 1 AND 10000", name=op.f("ck_order_items_quantity_is_bounded")
        ),
        sa.CheckConstraint(
            "unit_price_minor BETWEEN 0 AND 10000000000",
            name=op.f("ck_order_items_price_is_bounded"),
        ),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_items_order_id")),
        sa.PrimaryKeyConstraint("order_id", "line", name=op.f("pk_order_items")),
    )
    op.create_table(
        "payment_operations",
        sa.Column("id", sorted_text(64), nullable=False),
        sa.Column("order_id", sorted_text(64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("amount_minor", sa.BigInteger()),
        sa.Column("currency_code", sa.String(length=3)),
        sa.Column("payment_id", sa.String(length=64)),
        sa.Column("caller_role", sa.String(length=32), nullable=False),
        sa.Column("caller", sa.String(length=256), nullable=False),
        sa.Column("on_behalf_of", sa.String(length=256), nullable=False),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.CheckConstraint(
            "(status = 'in_flight') = (ended_at IS NULL)",
            name=op.f("ck_payment_operations_ended_has_its_time"),
        ),
        sa.CheckConstraint(
            "kind <> 'refund' OR (coalesce(amount_minor, 0) > 0 AND currency_code IS NOT NULL"
            " AND payment_id IS NOT NULL)",
            name=op.f("ck_payment_operations_refund_has_an_amount"),
        ),
        sa.CheckConstraint(
            "kind IN ('charge', 'cancel', 'refund')",
            name=op.f("ck_payment_operations_kind_is_known"),
        ),
        sa.CheckConstraint(
            "status IN ('in_flight', 'succeeded', 'failed', 'voided')",
            name=op.f("ck_payment_operations_status_is_known"),
        ),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_payment_operations_order_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_operations")),
    )
    op.create_index(
        "ix_payment_operations_in_flight",
        "payment_operations",
        ["order_id"],
        postgresql_where=sa.text("status = 'in_flight'"),
        sqlite_where=sa.text("status = 'in_flight'"),
    )
    op.create_index(
        "uq_payment_operations_one_charge_or_cancel",
        "payment_operations",
        ["order_id"],
        unique=True,
        postgresql_where=sa.text("kind <> 'refund' AND status IN ('in_flight', 'succeeded')"),
        sqlite_where=sa.text("kind <> 'refund' AND status IN ('in_flight', 'succeeded')"),
    )
    op.create_index(
        "uq_payment_operations_one_refund",
        "payment_operations",
        ["order_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'refund' AND status = 'in_flight'"),
        sqlite_where=sa.text("kind = 'refund' AND status = 'in_flight'"),
    )
    op.execute(sa.text("INSERT INTO instance (id) VALUES (:id)").bindparams(id=new_id("db_")))
    for statement in _TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)


_ILLEGAL_ARROW = """OLD.status || ' ' || NEW.status NOT IN (
    'created paid', 'created cancelled', 'paid fulfilled', 'paid refunded', 'fulfilled archived')"""

_TRIGGERS = {
    "sqlite": (
        f"""CREATE TRIGGER orders_status_moves_along_an_arrow BEFORE UPDATE OF status ON orders
            WHEN OLD.status <> NEW.status AND {_ILLEGAL_ARROW}
            BEGIN SELECT RAISE(ABORT, 'orders.status: no such arrow'); END""",
        """CREATE TRIGGER orders_begin_as_created BEFORE INSERT ON orders
            WHEN NEW.status <> 'created'
            BEGIN SELECT RAISE(ABORT, 'orders.status: an order begins as created'); END""",
        """CREATE TRIGGER orders_keep_what_was_agreed
            BEFORE UPDATE OF id, customer_id, currency_code, total_minor, payment_id ON orders
            WHEN (OLD.id, OLD.customer_id, OLD.currency_code, OLD.total_minor)
                 IS NOT (NEW.id, NEW.customer_id, NEW.currency_code, NEW.total_minor)
                 OR (OLD.payment_id IS NOT NULL AND OLD.payment_id IS NOT NEW.payment_id)
            BEGIN SELECT RAISE(ABORT, 'orders: what was agreed does not change'); END""",
        """CREATE TRIGGER orders_are_never_deleted BEFORE DELETE ON orders
            BEGIN SELECT RAISE(ABORT, 'orders are never deleted'); END""",
        # INSERT OR REPLACE deletes what is in its way without firing the triggers of DELETE.
        """CREATE TRIGGER orders_are_never_replaced BEFORE INSERT ON orders
            WHEN EXISTS (SELECT 1 FROM orders WHERE id = NEW.id)
            BEGIN SELECT RAISE(ABORT, 'orders are never replaced'); END""",
        """CREATE TRIGGER order_items_never_change BEFORE UPDATE ON order_items
            BEGIN SELECT RAISE(ABORT, 'order_items_never_change'); END""",
        """CREATE TRIGGER order_items_are_never_deleted BEFORE DELETE ON order_items
            BEGIN SELECT RAISE(ABORT, 'order_items_are_never_deleted'); END""",
        """CREATE TRIGGER order_audit_entries_never_change BEFORE UPDATE ON order_audit_entries
            BEGIN SELECT RAISE(ABORT, 'order_audit_entries never change'); END""",
        """CREATE TRIGGER order_audit_entries_are_never_deleted
            BEFORE DELETE ON order_audit_entries
            BEGIN SELECT RAISE(ABORT, 'order_audit_entries are never deleted'); END""",
        """CREATE TRIGGER order_audit_entries_are_never_replaced
            BEFORE INSERT ON order_audit_entries
            WHEN EXISTS (SELECT 1 FROM order_audit_entries WHERE sequence = NEW.sequence)
            BEGIN SELECT RAISE(ABORT, 'order_audit_entries are never replaced'); END""",
    ),
    "postgresql": (
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION '%: %', TG_TABLE_NAME, TG_NAME; END $$""",
        f"""CREATE TRIGGER orders_status_moves_along_an_arrow BEFORE UPDATE OF status ON orders
            FOR EACH ROW WHEN (OLD.status <> NEW.status AND {_ILLEGAL_ARROW})
            EXECUTE FUNCTION refuse()""",
        """CREATE TRIGGER orders_begin_as_created BEFORE INSERT ON orders
            FOR EACH ROW WHEN (NEW.status <> 'created') EXECUTE FUNCTION refuse()""",
        """CREATE TRIGGER orders_keep_what_was_agreed
            BEFORE UPDATE OF id, customer_id, currency_code, total_minor, payment_id ON orders
            FOR EACH ROW WHEN (
                (OLD.id, OLD.customer_id, OLD.currency_code, OLD.total_minor)
                IS DISTINCT FROM (NEW.id, NEW.customer_id, NEW.currency_code, NEW.total_minor)
                OR (OLD.payment_id IS NOT NULL AND OLD.payment_id IS DISTINCT FROM NEW.payment_id))
            EXECUTE FUNCTION refuse()""",
        """CREATE TRIGGER orders_are_never_deleted BEFORE DELETE OR TRUNCATE ON orders
            FOR EACH STATEMENT EXECUTE FUNCTION refuse()""",
        """CREATE TRIGGER order_items_never_change
            BEFORE UPDATE OR DELETE OR TRUNCATE ON order_items
            FOR EACH STATEMENT EXECUTE FUNCTION refuse()""",
        """CREATE TRIGGER order_audit_entries_never_change
            BEFORE UPDATE OR DELETE OR TRUNCATE ON order_audit_entries
            FOR EACH STATEMENT EXECUTE FUNCTION refuse()""",
    ),
}
