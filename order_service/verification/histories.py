"""I7 and I8: every change has its one entry, and every event arrives."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from order_service.domain.state_machine import TRANSITIONS
from order_service.verification.evidence import Evidence, OrderEntry, PaymentEntry

ARROWS: Final = frozenset(
    {("", "created")} | {(source.value, to.value) for (source, _), to in TRANSITIONS.items()}
)
_PAYMENT_ARROWS: Final = frozenset(
    {
        ("payment_requested", "", "pending"),
        ("payment_voided", "", "voided"),
        ("payment_succeeded", "pending", "succeeded"),
        ("payment_failed", "pending", "failed"),
        ("refund_requested", "", "pending"),
        ("refund_succeeded", "pending", "succeeded"),
        ("refund_failed", "pending", "failed"),
    }
)
# These tell of a payment and change nothing about it.
_NO_CHANGE: Final = frozenset({"order_sealed", "gateway_discrepancy_found", "refund_refused"})


def path(entries: Iterable[OrderEntry]) -> list[str]:
    """List the statuses that an order has had, by its entries."""
    return [entry.to_status for entry in entries if is_change(entry)]


def is_change(entry: OrderEntry) -> bool:
    """Say whether the entry tells of a change of status."""
    return entry.outcome == "applied" and entry.from_status != entry.to_status


def orders_move_along_arrows(evidence: Evidence) -> Iterator[str]:
    """I7: an order's entries form a legal path to where it stands, one for each change."""
    order = evidence.order
    if order is None:
        return
    status = ""
    for entry in evidence.entries:
        if entry.from_status != status:
            yield f"entry {entry.sequence} begins at '{status}': found '{entry.from_status}'"
        if is_change(entry):
            if (entry.from_status, entry.to_status) not in ARROWS:
                yield (
                    f"entry {entry.sequence} is an arrow: found {entry.from_status} to"
                    f" {entry.to_status}"
                )
            if entry.event_type != f"order_{entry.to_status}":
                yield f"entry {entry.sequence} is order_{entry.to_status}: found {entry.event_type}"
            status = entry.to_status
    if status != order.status:
        yield f"the entries end where the order is, {order.status}: found '{status}'"
    changes = len(path(evidence.entries))
    if changes != order.version:
        yield f"version {order.version} has as many changes of status: found {changes} entries"


def outcomes_have_their_entries(evidence: Evidence) -> Iterator[str]:
    """I7: each operation that gave money back or was refused is in the history, once."""
    back = [
        entry
        for entry in evidence.entries
        if entry.event_type in {"order_partially_refunded", "order_refunded"}
    ]
    refunds = [o for o in evidence.operations if (o.kind, o.status) == ("refund", "succeeded")]
    if len(back) != len(refunds):
        yield f"{len(refunds)} refunds have one entry each: found {len(back)}"
    for operation in evidence.operations:
        if operation.status == "failed":
            assert operation.ended_at is not None  # the database refuses anything else
            actor = (operation.caller_role, operation.caller)
            found = len(refusals(evidence.entries, actor, operation.ended_at))
            if found != 1:
                yield f"the refusal that ended {operation.id} has one entry: found {found}"


def refusals(
    entries: Iterable[OrderEntry], actor: tuple[str, str], at: datetime
) -> list[OrderEntry]:
    """Find the entries of a refusal by whom it was for and when: both are written at once."""
    role, caller = actor
    # An entry that was made anonymous may have been anybody's.
    return [
        entry
        for entry in entries
        if entry.outcome == "refused"
        and entry.actor_role == role
        and entry.actor_id in {caller, ""}
        and entry.at == at
    ]


def payments_move_along_arrows(evidence: Evidence) -> Iterator[str]:
    """I7: the entries of each payment and refund form a legal path to where it stands."""
    rows = {payment.id: payment.status for payment in evidence.payments}
    rows |= {refund.id: refund.status for refund in evidence.refunds}
    refused = {refund.id for refund in evidence.refunds if refund.reply_ok is False}
    status: dict[str, str] = {}
    for entry in evidence.payment_entries:
        if entry.event_type in _NO_CHANGE:
            continue
        item = entry.refund_id or entry.payment_id
        arrow = (entry.event_type, status.get(item, ""), entry.to_status)
        if arrow not in _PAYMENT_ARROWS or entry.from_status != arrow[1]:
            yield (
                f"entry {entry.sequence} of {item} is an arrow from '{arrow[1]}': found"
                f" {entry.event_type}, '{entry.from_status}' to '{entry.to_status}'"
            )
        status[item] = entry.to_status
    for item in (rows.keys() | status.keys()) - refused:
        stands, ended = rows.get(item, "nowhere"), status.get(item, "nowhere")
        if stands != ended:
            yield f"the entries of {item} end where it is, {stands}: found {ended}"


def seals_and_refusals_have_their_entries(evidence: Evidence) -> Iterator[str]:
    """I7: a seal has exactly one entry, and each refused refund has one."""
    counts = Counter(entry.event_type for entry in evidence.payment_entries)
    sealed = int(evidence.seal is not None and evidence.seal.sealed_at is not None)
    if counts["order_sealed"] != sealed:
        yield f"{sealed} seals have one entry each: found {counts['order_sealed']}"
    refused = sum(refund.reply_ok is False for refund in evidence.refunds)
    if counts["refund_refused"] != refused:
        yield f"{refused} refused refunds have one entry each: found {counts['refund_refused']}"


def successes_arrive(evidence: Evidence) -> Iterator[str]:
    """I8: a payment that the feed has been read beyond is in the inbox, or on its order."""
    on_order = evidence.order.payment_id if evidence.order else None
    received = {row.payment_id: row.order_id for row in evidence.received}
    for entry in _successes(evidence.payment_entries):
        if entry.sequence > evidence.cursor:
            continue
        found = received.get(entry.payment_id)
        if found is None and entry.payment_id != on_order:
            yield (
                f"payment {entry.payment_id} is in the inbox (entry {entry.sequence}, read up to"
                f" {evidence.cursor}): found nothing"
            )
        elif found not in {None, evidence.order_id}:
            yield f"payment {entry.payment_id} in the inbox is of this order: found {found}"


def _successes(entries: Iterable[PaymentEntry]) -> Iterator[PaymentEntry]:
    return (entry for entry in entries if entry.event_type == "payment_succeeded")
