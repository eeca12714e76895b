"""What the workers need: when work is due, how far the payments were read, which are waiting.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

from service_kit.database import UtcDateTime, sorted_text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns and the two tables."""
    op.add_column("payment_operations", sa.Column("due_at", UtcDateTime()))
    op.add_column(
        "payment_operations",
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
    )
    op.add_column(
        "payment_operations",
        sa.Column("problem", sa.String(length=64), nullable=False, server_default=""),
    )
    feed = op.create_table(
        "payment_feed",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_payment_feed_is_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_feed")),
    )
    op.bulk_insert(feed, [{"id": 1, "sequence": 0}])
    op.create_table(
        "payment_inbox",
        sa.Column("payment_id", sorted_text(64), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("applied_at", UtcDateTime()),
        sa.Column("due_at", UtcDateTime()),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("problem", sa.String(length=64), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("payment_id", name=op.f("pk_payment_inbox")),
    )
    op.create_index(
        "ix_payment_inbox_waiting",
        "payment_inbox",
        ["received_at"],
        postgresql_where=sa.text("applied_at IS NULL"),
        sqlite_where=sa.text("applied_at IS NULL"),
    )
