"""I1, I2, I3 and I6: where the money is, by three books that must agree."""

from collections.abc import Iterable, Iterator

from order_service.verification.evidence import (
    PAID_STATUSES,
    Charge,
    Evidence,
    GivenBack,
    Payment,
    Refund,
)

# On whose word a payment ended if not on the gateway's: then the ledger may know nothing of it.
_BY_OPERATOR = "settled_by_operator"


def taken_at_most_once(evidence: Evidence) -> Iterator[str]:
    """I1: at most one payment succeeded, and at most one charge was approved."""
    if len(evidence.succeeded) > 1:
        yield f"at most one succeeded payment: found {_ids(evidence.succeeded)}"
    if len(evidence.approved) > 1:
        keys = ", ".join(charge.key for charge in evidence.approved)
        yield f"at most one approved charge in the ledger: found charges under the keys {keys}"


def charges_are_payments(evidence: Evidence) -> Iterator[str]:
    """I1: the ledger and the payments tell the same."""
    if not evidence.has_ledger:
        return
    charges = {charge.key: charge for charge in evidence.approved}
    for payment in evidence.succeeded:
        charge = charges.get(payment.id)
        if charge is None:
            if not _by_operator(evidence, payment.id):
                yield f"payment {payment.id} succeeded: found no approved charge in the ledger"
        elif _of_charge(charge) != _of_payment(payment):
            yield (
                f"payment {payment.id} and its charge agree: found {_of_payment(payment)} and"
                f" {_of_charge(charge)}"
            )
    payments = {payment.id: payment for payment in evidence.payments}
    for key in charges:
        found = payments.get(key)
        if found is None:
            yield f"the approved charge {key} has its payment: found none"
        elif found.status not in {"succeeded", "pending"}:
            yield f"payment {key} is {found.status}: found an approved charge in the ledger"


def gateway_never_contradicted_itself(evidence: Evidence) -> Iterator[str]:
    """I1: no answer of the gateway contradicted a settled payment or refund."""
    for entry in evidence.payment_entries:
        if entry.event_type == "gateway_discrepancy_found":
            yield (
                f"the gateway agrees with {entry.refund_id or entry.payment_id}:"
                f" found {entry.reason} (entry {entry.sequence})"
            )


def paid_by_its_payment(evidence: Evidence) -> Iterator[str]:
    """I2: an order that was ever paid has exactly one payment, which fits; another has none."""
    order = evidence.order
    if order is None:
        for payment in evidence.payments:
            yield f"payment {payment.id} is of an order that exists: found no such order"
        for charge in evidence.approved:
            yield f"charge {charge.key} is of an order that exists: found no such order"
        return
    if order.status not in PAID_STATUSES:
        if order.payment_id:
            yield f"a {order.status} order has no payment: found {order.payment_id}"
        return
    if len(evidence.succeeded) != 1:
        found = _ids(evidence.succeeded) or "none"
        yield f"a {order.status} order has exactly one succeeded payment: found {found}"
        return
    [payment] = evidence.succeeded
    if payment.id != order.payment_id:
        yield f"the order is paid by {payment.id}: found {order.payment_id}"
    expected = (order.customer_id, order.currency_code, order.total_minor)
    told = (payment.customer_id, payment.currency_code, payment.amount_minor)
    if told != expected:
        yield f"payment {payment.id} is of {expected}: found {told}"


def charged_as_operations_ended(evidence: Evidence) -> Iterator[str]:
    """I2: a charge operation ended as the payment under its id did."""
    payments = {
        payment.idempotency_key: payment
        for payment in evidence.payments
        if payment.caller_role == "order_service"
    }
    for operation in evidence.operations:
        if operation.kind != "charge" or operation.status == "in_flight":
            continue
        payment = payments.get(operation.id)
        found = payment.status if payment else "no payment"
        if found != operation.status:
            yield f"charge {operation.id} ended {operation.status}: found its payment {found}"


def cancelled_for_good(evidence: Evidence) -> Iterator[str]:
    """I3: a cancelled order took no money, and none can be taken any more."""
    if evidence.order is None or evidence.order.status != "cancelled":
        return
    for payment in evidence.payments:
        if payment.status in {"succeeded", "pending"}:
            yield f"a cancelled order has no payment: found {payment.id} {payment.status}"
    for charge in evidence.approved:
        yield f"a cancelled order has no approved charge: found {charge.key}"
    if evidence.seal is None or evidence.seal.sealed_at is None:
        yield "a cancelled order is sealed: found no seal"


def all_books_give_back_the_same(evidence: Evidence) -> Iterator[str]:
    """I6: order, operations, payment, refunds and ledger know the same amount given back."""
    order = evidence.order
    if order is None:
        return
    ended = _sum(o for o in evidence.operations if o.kind == "refund" and o.status == "succeeded")
    if order.refunded_minor != ended:
        yield f"the order's refunds are {ended}: found {order.refunded_minor} in the order"
    if (order.status == "refunded") != (order.refunded_minor == order.total_minor):
        yield (
            f"refunded means all of {order.total_minor}: found the order {order.status} with"
            f" {order.refunded_minor} given back"
        )
    under_way = _sum(o for o in evidence.in_flight if o.kind == "refund")
    for payment in evidence.succeeded:
        known = payment.refunded_minor or 0
        # The payment service is ahead by what is in flight, or by nothing yet.
        if known not in {order.refunded_minor, order.refunded_minor + under_way}:
            yield f"payment {payment.id} gave back {order.refunded_minor}: found {known}"


def refunds_stay_below_the_payment(evidence: Evidence) -> Iterator[str]:
    """I6: what a payment gave back is the sum of its refunds, and never more than it took."""
    for payment in evidence.succeeded:
        refunds = [refund for refund in evidence.refunds if refund.payment_id == payment.id]
        known = payment.refunded_minor or 0
        given = _sum(refund for refund in refunds if refund.status == "succeeded")
        if given != known:
            yield f"the refunds of payment {payment.id} are {known}: found {given}"
        if given > (payment.amount_minor or 0):
            yield f"payment {payment.id} gave back at most {payment.amount_minor}: found {given}"
        if evidence.has_ledger:
            yield from _ledger_gave(evidence, payment, refunds)
    taken = {payment.id for payment in evidence.succeeded}
    for refund in evidence.refunds:
        if refund.status == "succeeded" and refund.payment_id not in taken:
            yield f"refund {refund.id} is of a succeeded payment: found {refund.payment_id}"


def refunds_are_in_the_ledger(evidence: Evidence) -> Iterator[str]:
    """I6: the ledger and the refunds tell the same."""
    if not evidence.has_ledger:
        return
    references = {payment.id: payment.gateway_reference for payment in evidence.payments}
    booked = {refund.key: refund for refund in evidence.approved_back}
    for refund in evidence.refunds:
        found = booked.pop(refund.id, None)
        if refund.status == "succeeded" and found is None:
            if not _by_operator(evidence, refund.id):
                yield f"refund {refund.id} succeeded: found none in the ledger"
        elif refund.status == "failed" and found:
            yield f"refund {refund.id} is failed: found it approved in the ledger"
        elif refund.status == "succeeded" and found:
            expected = _of_refund(refund, references.get(refund.payment_id))
            if _of_given_back(found) != expected:
                yield (
                    f"refund {refund.id} and the ledger agree: found {expected} and"
                    f" {_of_given_back(found)}"
                )
    for key in booked:
        yield f"the approved refund {key} in the ledger has its refund: found none"


def refunded_as_operations_ended(evidence: Evidence) -> Iterator[str]:
    """I6: a refund operation ended as the refund under its id did."""
    refunds = {
        refund.idempotency_key: refund
        for refund in evidence.refunds
        if refund.caller_role == "order_service"
    }
    for operation in evidence.operations:
        if operation.kind != "refund" or operation.status == "in_flight":
            continue
        refund = refunds.get(operation.id)
        found = (refund.status, refund.amount_minor) if refund else "no refund"
        expected = (operation.status, operation.amount_minor)
        if found != expected:
            yield f"refund operation {operation.id} is {expected}: found {found}"


def _ledger_gave(evidence: Evidence, payment: Payment, refunds: list[Refund]) -> Iterator[str]:
    booked = [
        refund
        for refund in evidence.approved_back
        if refund.charge_reference == payment.gateway_reference
    ]
    given = _sum(booked)
    if given > (payment.amount_minor or 0):
        yield f"the ledger gave back at most {payment.amount_minor}: found {given}"
    keys = {refund.key for refund in booked}
    # Booked, and the payment service does not know yet; or known on an operator's word only.
    ahead = _sum(r for r in refunds if r.status == "pending" and r.id in keys)
    behind = _sum(
        r
        for r in refunds
        if r.status == "succeeded" and r.id not in keys and _by_operator(evidence, r.id)
    )
    expected = (payment.refunded_minor or 0) + ahead - behind
    if given != expected:
        yield f"the ledger gave back {expected} of payment {payment.id}: found {given}"


def _by_operator(evidence: Evidence, item_id: str) -> bool:
    return any(
        entry.reason == _BY_OPERATOR and (entry.refund_id or entry.payment_id) == item_id
        for entry in evidence.payment_entries
    )


def _of_payment(payment: Payment) -> tuple[object, ...]:
    return (payment.gateway_reference, payment.currency_code, payment.amount_minor)


def _of_charge(charge: Charge) -> tuple[object, ...]:
    return (charge.reference, charge.currency_code, charge.amount_minor)


def _of_refund(refund: Refund, charge_reference: str | None) -> tuple[object, ...]:
    return (refund.gateway_reference, charge_reference, refund.currency_code, refund.amount_minor)


def _of_given_back(refund: GivenBack) -> tuple[object, ...]:
    return (refund.reference, refund.charge_reference, refund.currency_code, refund.amount_minor)


def _ids(payments: Iterable[Payment]) -> str:
    return ", ".join(payment.id for payment in payments)


def _sum(rows: Iterable[object]) -> int:
    return sum(getattr(row, "amount_minor") or 0 for row in rows)  # noqa: B009
