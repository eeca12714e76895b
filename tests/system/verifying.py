"""Verifications of a running checkout."""

from datetime import timedelta
from typing import Any

from checkout.order.v1 import order_pb2
from order_service.verification.report import Report
from order_service.verification.verify import verify
from tests.checkout import Checkout
from tests.clock import MovableClock


def verified(checkout: Checkout, *, later: timedelta = timedelta(0), **options: Any) -> Report:
    """Verify a checkout, as of now or of a later moment."""
    clock = MovableClock()
    clock.move(checkout.clock.now() - clock.now() + later)
    options.setdefault("ledger", checkout.payment_settings.effective_gateway_ledger())
    return verify(
        order_database=checkout.order_database,
        payment_database=checkout.payment_database,
        clock=clock,
        **options,
    )


def broken(checkout: Checkout, order: order_pb2.Order, **options: Any) -> dict[str, str]:
    """Verify one order of a checkout that is at rest: what is said of each broken guarantee."""
    return told(verified(checkout, order_id=order.id, pauses_seconds=(0,), **options), order)


def told(report: Report, order: order_pb2.Order) -> dict[str, str]:
    """Return what a report says about an order, by guarantee."""
    found: dict[str, str] = {}
    for violation in report.violations:
        if violation.order_id == order.id:
            before = found.get(violation.guarantee, "")
            found[violation.guarantee] = f"{before}{violation.told}\n"
    return found
