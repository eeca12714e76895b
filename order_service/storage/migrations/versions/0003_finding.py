"""Find the keys to be forgotten, and an order's payments, without looking through all of them.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

from service_kit.database import UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the moment each key was first claimed, and the indexes."""
    # Those that are there count as claimed now, and are only kept too long. The default also
    # serves processes of the version before, which may still run.
    now = sa.func.current_timestamp()
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.add_column(sa.Column("claimed_at", UtcDateTime(), nullable=False, server_default=now))
    op.create_index("ix_idempotency_keys_claimed_at", "idempotency_keys", ["claimed_at"])
    op.create_index(
        "ix_payment_inbox_order_id",
        "payment_inbox",
        ["order_id"],
        postgresql_where=sa.text("applied_at IS NULL"),
        sqlite_where=sa.text("applied_at IS NULL"),
    )
