"""Chain the history: positions, seals and heads; who acted stands beside the entries.

A process of the version before can write no entry any more, and none of its changes is kept
without one: stop the service, migrate, start it.

Revision: 0004
"""

from alembic import op

from service_kit.audit.beginning import begin_chain
from service_kit.audit.tables import Trail

revision = "0004"
down_revision = "0003"

# As they were when the chain began.
_TRAIL = Trail(
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


def upgrade() -> None:
    """Seal what is there, and refuse changes of what stands beside it."""
    begin_chain(_TRAIL)
    for statement in _TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)


_TRIGGERS = {
    "sqlite": (
        """CREATE TRIGGER order_audit_actors_never_change BEFORE UPDATE ON order_audit_actors
            BEGIN SELECT RAISE(ABORT, 'order_audit_actors never change'); END""",
        # INSERT OR REPLACE deletes what is in its way without firing the triggers of DELETE.
        """CREATE TRIGGER order_audit_actors_are_never_replaced
            BEFORE INSERT ON order_audit_actors
            WHEN EXISTS (SELECT 1 FROM order_audit_actors
                         WHERE order_id = NEW.order_id AND position = NEW.position)
            BEGIN SELECT RAISE(ABORT, 'order_audit_actors are never replaced'); END""",
        """CREATE TRIGGER order_audit_entries_keep_their_places
            BEFORE INSERT ON order_audit_entries
            WHEN EXISTS (SELECT 1 FROM order_audit_entries
                         WHERE order_id = NEW.order_id AND position = NEW.position)
            BEGIN SELECT RAISE(ABORT, 'order_audit_entries keep their places'); END""",
        """CREATE TRIGGER order_audit_anonymisations_never_change
            BEFORE UPDATE ON order_audit_anonymisations
            BEGIN SELECT RAISE(ABORT, 'order_audit_anonymisations never change'); END""",
        """CREATE TRIGGER order_audit_anonymisations_are_never_deleted
            BEFORE DELETE ON order_audit_anonymisations
            BEGIN SELECT RAISE(ABORT, 'order_audit_anonymisations are never deleted'); END""",
        """CREATE TRIGGER payment_operations_keep_their_callers
            BEFORE UPDATE OF caller, on_behalf_of ON payment_operations
            WHEN (NEW.caller, NEW.on_behalf_of) IS NOT (OLD.caller, OLD.on_behalf_of)
                AND (OLD.ended_at IS NULL OR (NEW.caller, NEW.on_behalf_of) IS NOT ('', ''))
            BEGIN SELECT RAISE(ABORT, 'payment_operations keep their callers'); END""",
    ),
    "postgresql": (
        # Deleting is how a person is made anonymous: a matter of the role.
        """CREATE TRIGGER order_audit_actors_never_change
            BEFORE UPDATE OR TRUNCATE ON order_audit_actors
            FOR EACH STATEMENT EXECUTE FUNCTION refuse()""",
        """CREATE TRIGGER order_audit_anonymisations_never_change
            BEFORE UPDATE OR DELETE OR TRUNCATE ON order_audit_anonymisations
            FOR EACH STATEMENT EXECUTE FUNCTION refuse()""",
        """CREATE TRIGGER payment_operations_keep_their_callers
            BEFORE UPDATE OF caller, on_behalf_of ON payment_operations
            FOR EACH ROW WHEN (
                (NEW.caller, NEW.on_behalf_of) IS DISTINCT FROM (OLD.caller, OLD.on_behalf_of)
                AND (OLD.ended_at IS NULL OR NEW.caller <> '' OR NEW.on_behalf_of <> ''))
            EXECUTE FUNCTION refuse()""",
    ),
}
