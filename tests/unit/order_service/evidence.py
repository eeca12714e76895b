"""Evidence of one paid order whose books agree; a test changes what matters to it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from checkout.order.v1 import order_pb2, order_service_pb2
from checkout.payment.v1 import payment_pb2, payment_service_pb2
from order_service.verification.evidence import (
    Charge,
    Evidence,
    GivenBack,
    Key,
    KeyEvidence,
    Operation,
    Order,
    OrderEntry,
    Payment,
    PaymentEntry,
    Refund,
)

NOW: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
THEN: Final = NOW - timedelta(seconds=5)
TOTAL: Final = 4000


def an_order(**fields: Any) -> Order:
    """An order that was paid."""
    given: dict[str, Any] = {
        "id": "ord_1",
        "customer_id": "alice",
        "status": "paid",
        "currency_code": "EUR",
        "total_minor": TOTAL,
        "refunded_minor": 0,
        "payment_id": "pay_1",
        "version": 2,
    }
    return Order(**{**given, **fields})


def an_operation(**fields: Any) -> Operation:
    """The charge that paid it."""
    given: dict[str, Any] = {
        "id": "op_1",
        "order_id": "ord_1",
        "kind": "charge",
        "status": "succeeded",
        "amount_minor": None,
        "caller_role": "customer",
        "caller": "alice",
        "method": "PayOrder",
        "idempotency_key": "key-1",
        "fingerprint": b"f" * 32,
        "started_at": THEN,
        "ended_at": THEN,
        "problem": "",
    }
    return Operation(**{**given, **fields})


def in_flight(**fields: Any) -> Operation:
    """An operation that has no outcome yet."""
    return an_operation(**{"status": "in_flight", "ended_at": None, **fields})


def a_key(**fields: Any) -> Key:
    """The key of the charge, with its reply."""
    given: dict[str, Any] = {
        "caller_role": "customer",
        "caller": "alice",
        "idempotency_key": "key-1",
        "method": "PayOrder",
        "fingerprint": b"f" * 32,
        "operation_id": "op_1",
        "reply_ok": True,
        "reply": a_reply(),
        "used_at": THEN,
        "replied_at": THEN,
    }
    return Key(**{**given, **fields})


def a_reply(**fields: Any) -> bytes:
    """What PayOrder answered."""
    told = order_pb2.Order(
        id="ord_1", customer_id="alice", status=order_pb2.ORDER_STATUS_PAID, etag="2"
    )
    told.total_amount.currency_code, told.total_amount.minor_units = "EUR", TOTAL
    told.MergeFrom(order_pb2.Order(**fields))
    return order_service_pb2.PayOrderResponse(order=told).SerializeToString()


def an_entry(sequence: int, before: str, after: str, **fields: Any) -> OrderEntry:
    """A change of status in the order's history."""
    given: dict[str, Any] = {
        "sequence": sequence,
        "order_id": "ord_1",
        "actor_role": "customer",
        "actor_id": "alice",
        "at": THEN,
        "event_type": f"order_{after}",
        "from_status": before,
        "to_status": after,
        "outcome": "applied",
        "reason": "",
        "payment_id": "",
    }
    return OrderEntry(**{**given, **fields})


def a_payment(**fields: Any) -> Payment:
    """The payment."""
    given: dict[str, Any] = {
        "id": "pay_1",
        "order_id": "ord_1",
        "customer_id": "alice",
        "currency_code": "EUR",
        "amount_minor": TOTAL,
        "refunded_minor": 0,
        "status": "succeeded",
        "gateway_reference": "ch_1",
        "payment_token": None,
        "caller_role": "order_service",
        "idempotency_key": "op_1",
        "created_at": THEN,
        "updated_at": THEN,
    }
    payment = Payment(**{**given, "reply": None, **fields})
    if "reply" in fields or payment.status == "pending":
        return payment
    told = payment_pb2.Payment(
        id=payment.id,
        order_id=payment.order_id,
        status=payment_pb2.PaymentStatus.Value(f"PAYMENT_STATUS_{payment.status.upper()}"),
    )
    told.amount.minor_units = payment.amount_minor or 0
    response = payment_service_pb2.ProcessPaymentResponse(payment=told)
    return replace(payment, reply=response.SerializeToString())


def a_refund(**fields: Any) -> Refund:
    """A refund of a part."""
    given: dict[str, Any] = {
        "id": "ref_1",
        "payment_id": "pay_1",
        "order_id": "ord_1",
        "currency_code": "EUR",
        "amount_minor": 1000,
        "status": "succeeded",
        "gateway_reference": "re_1",
        "caller_role": "order_service",
        "idempotency_key": "op_2",
        "reply_ok": True,
        "reply": b"",
        "created_at": THEN,
    }
    return Refund(**{**given, **fields})


def a_payment_entry(sequence: int, event_type: str, **fields: Any) -> PaymentEntry:
    """A line of the payments' history."""
    given: dict[str, Any] = {
        "sequence": sequence,
        "order_id": "ord_1",
        "payment_id": "pay_1",
        "refund_id": "",
        "at": THEN,
        "event_type": event_type,
        "from_status": "",
        "to_status": "pending",
        "outcome": "applied",
        "reason": "",
    }
    return PaymentEntry(**{**given, **fields})


def a_charge(**fields: Any) -> Charge:
    """The charge in the ledger."""
    given: dict[str, Any] = {
        "key": "pay_1",
        "reference": "ch_1",
        "order_id": "ord_1",
        "currency_code": "EUR",
        "amount_minor": TOTAL,
        "decline_code": "",
    }
    return Charge(**{**given, **fields})


def given_back(**fields: Any) -> GivenBack:
    """The refund in the ledger."""
    given: dict[str, Any] = {
        "key": "ref_1",
        "reference": "re_1",
        "charge_reference": "ch_1",
        "order_id": "ord_1",
        "currency_code": "EUR",
        "amount_minor": 1000,
        "decline_code": "",
    }
    return GivenBack(**{**given, **fields})


def evidence(**fields: Any) -> Evidence:
    """Everything about the order."""
    key = a_key()
    given: dict[str, Any] = {
        "order_id": "ord_1",
        "now": NOW,
        "order": an_order(),
        "operations": (an_operation(),),
        "keys": {key.name: key},
        "entries": (an_entry(1, "", "created"), an_entry(2, "created", "paid")),
        "payments": (a_payment(),),
        "payment_entries": (
            a_payment_entry(1, "payment_requested"),
            a_payment_entry(2, "payment_succeeded", from_status="pending", to_status="succeeded"),
        ),
        "charges": (a_charge(),),
    }
    return Evidence(**{**given, **fields})


def key_evidence(**fields: Any) -> KeyEvidence:
    """Everything about the key."""
    given: dict[str, Any] = {
        "key": a_key(),
        "operation": an_operation(),
        "order_id": "ord_1",
        "order": an_order(),
        "entries": evidence().entries,
    }
    return KeyEvidence(**{**given, **fields})
