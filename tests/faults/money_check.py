"""Check what was told about money against what the gateway has booked."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from tests.faults.history import Answered, Call, Refused, SeenPayment
from tests.faults.truth import Truth

# The order's money is here, or was and went back.
PAID: Final = frozenset({"paid", "fulfilled", "refunded", "archived"})
_REFUNDS: Final = frozenset({"order_partially_refunded", "order_refunded"})


def money_problems(calls: Iterable[Call], truth: Truth) -> Iterator[str]:
    """List charges that should not be, that are missing, and that clients were misled about."""
    yield from _of_orders(truth)
    yield from _of_refunds(truth)
    approved = {charge.key for charge in truth.charges}
    for call in calls:
        match call.outcome:
            case Refused(reason="PAYMENT_DECLINED", payment_id=payment_id):
                if payment_id in approved:
                    yield f"{call}: told declined, and {payment_id} was charged"
            case Answered(payment=SeenPayment() as payment):
                yield from _of_payment(call, payment, approved, truth)
            case _:
                pass


def double_charges(truth: Truth) -> int:
    """Count the charges that should not be because their order had been charged already."""
    return len(truth.charges) - len({charge.order_id for charge in truth.charges})


def lost_payments(calls: Iterable[Call], truth: Truth) -> int:
    """Count money that only one side knows of: taken for nothing, or shown and never taken."""
    approved = {charge.key for charge in truth.charges}
    for_nothing = {c.key for c in truth.charges if truth.status(c.order_id) not in PAID}
    shown = {
        call.outcome.payment.id
        for call in calls
        if isinstance(call.outcome, Answered)
        and call.outcome.payment is not None
        and call.outcome.payment.status == "succeeded"
    }
    paid = {step.payment_id for steps in truth.steps.values() for step in steps if step.payment_id}
    return len(for_nothing | ((shown | paid) - approved))


def _of_orders(truth: Truth) -> Iterator[str]:
    charged = {charge.order_id for charge in truth.charges}
    for order_id in charged | truth.steps.keys():
        keys = [charge.key for charge in truth.charges_of(order_id)]
        status = truth.status(order_id)
        if len(keys) > 1:
            yield f"order {order_id}: charged {len(keys)} times, by {', '.join(keys)}"
        if status in PAID:
            paid = next((s.payment_id for s in truth.steps[order_id] if s.to_status == "paid"), "")
            if paid not in keys:
                yield f"order {order_id}: {status} by {paid or 'nothing'}, which was not charged"
        elif keys:
            yield f"order {order_id}: {status or 'does not exist'}, and charged by {keys[0]}"


def _of_refunds(truth: Truth) -> Iterator[str]:
    written = Counter(e.order_id for e in truth.entries if e.applied and e.event_type in _REFUNDS)
    given = {refund.order_id for refund in truth.refunds}
    for order_id in given | written.keys():
        amounts = [refund.minor_units for refund in truth.refunds_of(order_id)]
        charged = sum(charge.minor_units for charge in truth.charges_of(order_id))
        if len(amounts) != written[order_id]:
            yield f"order {order_id}: {len(amounts)} refunds, {written[order_id]} written down"
        if sum(amounts) > charged:
            yield f"order {order_id}: {sum(amounts)} given back of {charged}"
        if (truth.status(order_id) == "refunded") != (sum(amounts) == charged):
            yield f"order {order_id}: {truth.status(order_id)}, {sum(amounts)} of {charged} back"


def _of_payment(
    call: Call, payment: SeenPayment, approved: set[str], truth: Truth
) -> Iterator[str]:
    if (payment.id in approved) != (payment.status == "succeeded"):
        was = "was" if payment.id in approved else "was not"
        yield f"{call}: told {payment.status}, and {payment.id} {was} charged"
    order_id = call.request.order_id
    if payment.status == "succeeded" and truth.status(order_id) not in PAID:
        yield f"{call}: told succeeded, and the order is {truth.status(order_id)}"
