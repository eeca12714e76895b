"""I4 and I5: what was replied stays true, and a key belongs to one request."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from checkout.order.v1 import order_pb2, order_service_pb2
from checkout.payment.v1 import payment_pb2, payment_service_pb2
from order_service.verification.evidence import (
    PAID_STATUSES,
    Evidence,
    Key,
    KeyEvidence,
    Operation,
    Order,
    Payment,
    Refund,
)
from order_service.verification.histories import path, refusals
from service_kit import status
from service_kit.clock import CLOCK_SKEW_MAX

# How long a key is remembered at least.
RETENTION: Final = timedelta(hours=24)

_ENDED_OK: Final = {"succeeded": True, "failed": False}
_SHOWS: Final = {
    "charge": PAID_STATUSES,
    "cancel": frozenset({"cancelled"}),
    "refund": frozenset({"paid", "refunded"}),
}
_REFUSES: Final = {
    "charge": frozenset({"PAYMENT_DECLINED"}),
    "cancel": frozenset({"INVALID_TRANSITION"}),
    "refund": frozenset({"REFUND_DECLINED", "REFUND_EXCEEDS_PAYMENT"}),
}


def operations_have_their_keys(evidence: Evidence) -> Iterator[str]:
    """I4, of an operation's key: it is there while it must be, and has a reply once it ended."""
    for operation in evidence.operations:
        key = evidence.keys.get(operation.key)
        if key is None:
            if operation.status != "voided" and not _is_old(operation, evidence):
                yield f"key {operation.key} of {operation.id} is remembered: found no such key"
        elif key.operation_id == operation.id:
            expected = _ENDED_OK.get(operation.status)
            if key.reply_ok is not expected:
                yield (
                    f"key {key.name} of {operation.id}, {operation.status}, has the reply"
                    f" {_told(expected)}: found {_told(key.reply_ok)}"
                )


def keys_have_one_operation(evidence: Evidence) -> Iterator[str]:
    """I5: a key is bound to one operation, which is of the same request."""
    for operation in evidence.operations:
        key = evidence.keys.get(operation.key)
        if key is None:
            continue
        if key.operation_id != operation.id:
            if operation.status != "voided" and not _is_forgotten_since(operation, key):
                yield f"key {key.name} is bound to {operation.id}: found {key.operation_id}"
        elif operation.status == "voided":
            yield f"key {key.name} is free of the voided {operation.id}: found it bound"
        elif (key.method, key.fingerprint) != (operation.method, operation.fingerprint):
            yield f"key {key.name} and {operation.id} are of one request: found two"


def replies_are_true(evidence: KeyEvidence) -> Iterator[str]:
    """I4, of any key: its reply can be read, and tells what the order was."""
    key = evidence.key
    if key.reply is None:
        return
    if key.reply_ok:
        yield from _success_is_true(evidence, key, key.reply)
    else:
        yield from _refusal_is_true(evidence, key, key.reply)


def payment_replies_are_true(evidence: Evidence) -> Iterator[str]:
    """I4, of the payment service: final and replied are the same, and the reply is the row."""
    for payment in evidence.payments:
        final = payment.status != "pending"
        if final != (payment.reply is not None):
            yield f"payment {payment.id}, {payment.status}, {_has_reply(final)}"
        if final and payment.payment_token is not None:
            yield f"payment {payment.id}, {payment.status}, has no token: found one"
        if payment.reply is not None:
            yield from _payment_reply(payment, payment.reply)
    for refund in evidence.refunds:
        final = refund.status != "pending"
        if final != (refund.reply is not None):
            yield f"refund {refund.id}, {refund.status}, {_has_reply(final)}"
        if refund.reply is not None:
            yield from _refund_reply(refund, refund.reply)


def _success_is_true(evidence: KeyEvidence, key: Key, reply: bytes) -> Iterator[str]:
    order = evidence.order
    told = order_of_reply(key.method, reply)
    if told is None:
        yield f"the reply of key {key.name} is a {key.method}Response: found something else"
        return
    if order is None:
        yield f"the reply of key {key.name} tells of an order that exists: found {told.id}"
        return
    if evidence.operation and evidence.operation.order_id != told.id:
        yield (
            f"the reply of key {key.name} tells of {evidence.operation.order_id}: found {told.id}"
        )
    found, expected = _agreed(told), _agreed_of(order)
    if found != expected:
        yield f"the reply of key {key.name} tells {expected}: found {found}"
    name = _status_name(told)
    statuses = path(evidence.entries)
    version = int(told.etag) if told.etag.isdigit() else 0
    if not 1 <= version <= len(statuses) or statuses[version - 1] != name:
        yield f"the order was {name} at version {told.etag}, as key {key.name} replied: found not"
    kind = evidence.operation.kind if evidence.operation else ""
    if name not in _SHOWS.get(kind, {name}):
        yield f"the reply of key {key.name} shows what a {kind} leads to: found {name}"


def _refusal_is_true(evidence: KeyEvidence, key: Key, reply: bytes) -> Iterator[str]:
    reason = reason_of_reply(reply)
    if not reason:
        yield f"the refusal of key {key.name} has a reason: found none"
        return
    if evidence.operation:
        expected = _REFUSES[evidence.operation.kind]
        if reason not in expected:
            yield f"key {key.name} was refused by {' or '.join(sorted(expected))}: found {reason}"
    if evidence.order is None:
        yield f"the refusal of key {key.name} is of an order that exists: found none"


def refusals_have_their_entries(evidence: KeyEvidence) -> Iterator[str]:
    """I7: each stored refusal has exactly one entry in the order's history."""
    key = evidence.key
    if key.reply is None or key.reply_ok or key.replied_at is None or evidence.order is None:
        return
    reason = reason_of_reply(key.reply)
    found = refusals(evidence.entries, (key.caller_role, key.caller), key.replied_at)
    found = [entry for entry in found if entry.reason == reason]
    if len(found) != 1:
        yield f"the refusal {reason} of key {key.name} has one entry: found {len(found)}"


class Subject(NamedTuple):
    """What a stored reply is about: an order, or only a payment."""

    order_id: str = ""
    payment_id: str = ""


def subject_of(key: Key) -> Subject:
    """Read what a key's reply is about; nothing if it does not say."""
    if key.reply is None:
        return Subject()
    if key.reply_ok:
        order = order_of_reply(key.method, key.reply)
        return Subject(order.id if order else "")
    try:
        facts = status.metadata_of(status.parse(key.reply))
    except DecodeError:
        return Subject()
    return Subject(facts.get("order_id", ""), facts.get("payment_id", ""))


def order_of_reply(method: str, reply: bytes) -> order_pb2.Order | None:
    """Read the order in a stored success; None if it is none."""
    kind: Any = getattr(order_service_pb2, f"{method}Response", None)
    try:
        response = kind.FromString(reply) if kind else None
    except DecodeError:
        return None
    order: order_pb2.Order | None = getattr(response, "order", None)
    return order if order is not None and order.id else None


def reason_of_reply(reply: bytes) -> str:
    """Read the reason of a stored refusal; nothing if it has none."""
    try:
        return status.reason_of(status.parse(reply))
    except DecodeError:
        return ""


def _agreed(told: order_pb2.Order) -> tuple[object, ...]:
    total = told.total_amount
    return (told.id, told.customer_id, total.currency_code, total.minor_units)


def _agreed_of(order: Order) -> tuple[object, ...]:
    return (order.id, order.customer_id, order.currency_code, order.total_minor)


def _status_name(told: order_pb2.Order) -> str:
    return order_pb2.OrderStatus.Name(told.status).removeprefix("ORDER_STATUS_").lower()


def _payment_reply(payment: Payment, reply: bytes) -> Iterator[str]:
    try:
        told = payment_service_pb2.ProcessPaymentResponse.FromString(reply).payment
        name = payment_pb2.PaymentStatus.Name(told.status)
    except (DecodeError, ValueError):
        yield f"the reply of payment {payment.id} can be read: found that it cannot"
        return
    found = (told.id, told.order_id, name, told.amount.minor_units)
    expected = (
        payment.id,
        payment.order_id,
        f"PAYMENT_STATUS_{payment.status.upper()}",
        payment.amount_minor or 0,
    )
    if found != expected:
        yield f"the reply of payment {payment.id} tells {expected}: found {found}"


def _refund_reply(refund: Refund, reply: bytes) -> Iterator[str]:
    if not refund.reply_ok:
        if not reason_of_reply(reply):
            yield f"the refusal of refund {refund.id} has a reason: found none"
        return
    try:
        told = payment_service_pb2.RefundPaymentResponse.FromString(reply).refund
        name = payment_pb2.RefundStatus.Name(told.status)
    except (DecodeError, ValueError):
        yield f"the reply of refund {refund.id} can be read: found that it cannot"
        return
    found = (told.id, told.payment_id, name, told.amount.minor_units)
    expected = (
        refund.id,
        refund.payment_id,
        f"REFUND_STATUS_{refund.status.upper()}",
        refund.amount_minor,
    )
    if found != expected:
        yield f"the reply of refund {refund.id} tells {expected}: found {found}"


def _is_old(operation: Operation, evidence: Evidence) -> bool:
    remembered = RETENTION - CLOCK_SKEW_MAX
    return operation.ended_at is not None and evidence.now - operation.ended_at >= remembered


def _is_forgotten_since(operation: Operation, key: Key) -> bool:
    # Then the key may have been used for something else.
    return operation.ended_at is not None and key.used_at - operation.ended_at >= RETENTION


def _told(reply_ok: bool | None) -> str:  # noqa: FBT001 - a column's value
    return {None: "none", True: "OK", False: "refused"}[reply_ok]


def _has_reply(final: bool) -> str:  # noqa: FBT001 - likewise
    return "has its reply: found none" if final else "has no reply: found one"
