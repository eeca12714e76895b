"""What the payment service tells Prometheus besides what every server tells."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from payment_service.application.backlog import Backlog
from payment_service.application.needs_human import NeedsHuman
from service_kit.metrics.stored import Numbers, StoredGauge

_KINDS: Final = ("payment", "refund")

PENDING: Final = StoredGauge(
    "checkout_gateway_pending",
    "Payments and refunds whose outcome the gateway has not told, by kind.",
    label="kind",
    values=_KINDS,
)
PENDING_OLDEST: Final = StoredGauge(
    "checkout_gateway_pending_oldest_age_seconds",
    "How long ago the oldest of them was requested, by kind; 0 without one.",
    label="kind",
    values=_KINDS,
)
NEEDS_HUMAN: Final = StoredGauge(
    "checkout_needs_human",
    "What no repeat will end, by kind: a person has to look.",
    label="kind",
    values=(*_KINDS, "discrepancy"),
)
STORED_GAUGES: Final = (PENDING, PENDING_OLDEST, NEEDS_HUMAN)


def stored_numbers(backlog: Backlog, needs_human: NeedsHuman) -> Callable[[], Numbers]:
    """Return what reads the gauges."""

    def read() -> Numbers:
        now = backlog()
        return {
            PENDING: {"payment": now.payments.count, "refund": now.refunds.count},
            PENDING_OLDEST: {
                "payment": now.payments.oldest_seconds,
                "refund": now.refunds.oldest_seconds,
            },
            NEEDS_HUMAN: Counter(case.what for case in needs_human()),
        }

    return read
