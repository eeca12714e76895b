"""Find the keys to be forgotten without looking through all of them.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

from service_kit.database import UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the moment each key was first claimed, and an index on it."""
    # No key is younger than its last use: one that is found too late is only kept too long.
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.add_column(sa.Column("claimed_at", UtcDateTime()))
    op.execute("UPDATE idempotency_keys SET claimed_at = used_at")
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.alter_column("claimed_at", existing_type=UtcDateTime(), nullable=False)
    op.create_index("ix_idempotency_keys_claimed_at", "idempotency_keys", ["claimed_at"])
