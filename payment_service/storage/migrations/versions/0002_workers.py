"""What the workers need: when the gateway is asked again, and where it contradicted itself.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

from service_kit.database import UtcDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns, and an index of what is pending, to payments and refunds."""
    for table in ("payments", "refunds"):
        op.add_column(table, sa.Column("due_at", UtcDateTime()))
        op.add_column(
            table, sa.Column("attempts", sa.Integer(), nullable=False, server_default="0")
        )
        op.create_index(
            f"ix_{table}_pending",
            table,
            ["created_at"],
            postgresql_where=sa.text("status = 'pending'"),
            sqlite_where=sa.text("status = 'pending'"),
        )
    op.create_index(
        "ix_payment_audit_entries_discrepancies",
        "payment_audit_entries",
        ["sequence"],
        postgresql_where=sa.text("event_type = 'gateway_discrepancy_found'"),
        sqlite_where=sa.text("event_type = 'gateway_discrepancy_found'"),
    )
