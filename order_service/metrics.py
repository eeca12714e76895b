"""What the order service tells Prometheus besides what every server tells."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from order_service.application.backlog import Backlog
from order_service.application.needs_human import NeedsHuman
from order_service.domain.payment_operation import OperationKind
from service_kit.metrics.stored import Numbers, StoredGauge

_KINDS: Final = tuple(kind.value for kind in OperationKind)

IN_FLIGHT: Final = StoredGauge(
    "checkout_payment_operations_in_flight",
    "Charges, cancellations and refunds begun and not ended, by kind.",
    label="kind",
    values=_KINDS,
)
IN_FLIGHT_OLDEST: Final = StoredGauge(
    "checkout_payment_operations_oldest_age_seconds",
    "How long ago the oldest operation in flight began, by kind; 0 without one.",
    label="kind",
    values=_KINDS,
)
INBOX: Final = StoredGauge(
    "checkout_payment_inbox_waiting",
    "Succeeded payments that are read and not applied to their orders.",
)
INBOX_OLDEST: Final = StoredGauge(
    "checkout_payment_inbox_oldest_age_seconds",
    "How long ago the oldest of them was read; 0 without one.",
)
NEEDS_HUMAN: Final = StoredGauge(
    "checkout_needs_human",
    "What no repeat will end, by kind: a person has to look.",
    label="kind",
    # A payment is one that has succeeded and that its order does not have.
    values=(*_KINDS, "payment"),
)
STORED_GAUGES: Final = (IN_FLIGHT, IN_FLIGHT_OLDEST, INBOX, INBOX_OLDEST, NEEDS_HUMAN)

FEED_LAG: Final = (
    "checkout_payment_feed_lag_seconds",
    "How long ago this process had read all of the payment history.",
)


def stored_numbers(backlog: Backlog, needs_human: NeedsHuman) -> Callable[[], Numbers]:
    """Return what reads the gauges."""

    def read() -> Numbers:
        now = backlog()
        operations = {kind.value: waiting for kind, waiting in now.operations.items()}
        return {
            IN_FLIGHT: {kind: waiting.count for kind, waiting in operations.items()},
            IN_FLIGHT_OLDEST: {kind: w.oldest_seconds for kind, w in operations.items()},
            INBOX: {"": now.inbox.count},
            INBOX_OLDEST: {"": now.inbox.oldest_seconds},
            NEEDS_HUMAN: Counter(case.what for case in needs_human()),
        }

    return read
