"""The checker of histories finds what it is for: each of these stories is broken in one place."""

from dataclasses import replace
from typing import Any

import pytest

from tests.client import ALICE, OPERATIONS, SHOP
from tests.faults.history import (
    Answered,
    Call,
    Outcome,
    Refused,
    Request,
    SeenOrder,
    SeenPayment,
    Unknown,
    ask,
)
from tests.faults.history_check import problems
from tests.faults.truth import Booked, Entry, Truth

ORDER = "ord_1"
PAYMENT = "pay_1"
TOTAL = 4000

CREATE = ask("CreateOrder", ALICE, idempotency_key="create", about=ORDER)
PAY = ask("PayOrder", ALICE, idempotency_key="pay", order_id=ORDER)
AGAIN = ask("PayOrder", ALICE, idempotency_key="again", order_id=ORDER)
CANCEL = ask("CancelOrder", ALICE, idempotency_key="cancel", order_id=ORDER)
FULFILL = ask("FulfillOrder", SHOP, idempotency_key="fulfill", order_id=ORDER)
REFUND = ask("RefundOrder", OPERATIONS, idempotency_key="refund", order_id=ORDER)
READ = ask("GetOrder", ALICE, order_id=ORDER)
DIRECT = ask("ProcessPayment", ALICE, idempotency_key="direct", about=ORDER)


def seen(status: str, version: int, refunded: int = 0) -> Answered:
    order = SeenOrder(ORDER, status, version, refunded, PAYMENT if version > 1 else "")
    return Answered(reply=f"{status} {version} {refunded}".encode(), order=order)


def call(request: Request, outcome: Outcome, *, at: float) -> Call:
    """A call that took a second."""
    return Call("somebody", request, invoked=at, returned=at + 1, outcome=outcome)


def entry(sequence: int, request: Request, event: str, path: str, **fields: Any) -> Entry:
    before, _, after = path.partition(">")
    return Entry(
        sequence=sequence,
        order_id=ORDER,
        event_type=event,
        from_status=before,
        to_status=after,
        applied="reason" not in fields,
        trace_id=request.trace_id,
        **fields,
    )


CREATED = seen("created", 1)
PAID = seen("paid", 2)
REFUNDED = seen("refunded", 3, TOTAL)
DECLINED = Refused("PAYMENT_DECLINED", final=True, reply=b"declined", payment_id="pay_0")
TOO_LATE = Refused("INVALID_TRANSITION", final=True, reply=b"too late")
LOST = Unknown("UNAVAILABLE Socket closed")

CALLS = [
    call(CREATE, CREATED, at=0),
    call(PAY, LOST, at=2),
    call(PAY, DECLINED, at=4),
    call(AGAIN, LOST, at=6),
    call(AGAIN, PAID, at=8),
    call(CANCEL, TOO_LATE, at=10),
    call(READ, PAID, at=12),
    call(REFUND, REFUNDED, at=14),
    call(READ, REFUNDED, at=16),
    # A stored reply is as old as it is.
    call(AGAIN, replace(PAID, replayed=True), at=18),
]
ENTRIES = [
    entry(1, CREATE, "order_created", ">created"),
    entry(2, PAY, "payment_failed", "created>created", reason="PAYMENT_DECLINED"),
    entry(3, AGAIN, "order_paid", "created>paid", payment_id=PAYMENT),
    entry(5, CANCEL, "invalid_transition_attempted", "paid>paid", reason="INVALID_TRANSITION"),
    entry(8, REFUND, "order_refunded", "paid>refunded", payment_id=PAYMENT),
]
CHARGES = [Booked(PAYMENT, ORDER, TOTAL)]
REFUNDS = [Booked("ref_1", ORDER, TOTAL)]


def found(
    calls: list[Call] = CALLS,
    entries: list[Entry] = ENTRIES,
    charges: list[Booked] = CHARGES,
    refunds: list[Booked] = REFUNDS,
) -> list[str]:
    return problems(calls, Truth(entries, charges, refunds))


def without(*requests: Request) -> list[Call]:
    return [call for call in CALLS if call.request not in requests]


def test_a_history_that_holds_has_no_problems() -> None:
    assert found() == []


def test_an_unknown_change_may_have_happened_or_not() -> None:
    calls = [*without(REFUND, READ), call(REFUND, LOST, at=14)]
    assert found(calls) == []
    assert found(calls, ENTRIES[:-1], refunds=[]) == []


def test_a_cancellation_that_comes_too_late_may_find_the_payment() -> None:
    calls = [call(CREATE, CREATED, at=0), call(CANCEL, TOO_LATE, at=2)]
    paid = entry(2, CANCEL, "order_paid", "created>paid", payment_id=PAYMENT)
    assert found(calls, [ENTRIES[0], paid, ENTRIES[3]], refunds=[]) == []


def test_a_payment_that_nobody_reported_is_found_by_a_worker() -> None:
    direct = Answered(reply=b"payment", payment=SeenPayment(PAYMENT, "succeeded"))
    calls = [call(CREATE, CREATED, at=0), call(DIRECT, direct, at=2), call(READ, PAID, at=9)]
    paid = replace(ENTRIES[2], trace_id="a worker's", actor_role="order_service")
    assert found(calls, [ENTRIES[0], paid], refunds=[]) == []


WORKER = replace(ENTRIES[2], actor_role="order_service")
FULFILLED = entry(4, FULFILL, "order_fulfilled", "paid>fulfilled")
UNPAID = [ENTRIES[0]]

BROKEN: dict[str, tuple[str, list[str]]] = {
    "an acknowledged order is gone": (
        "answered, but done 0 times",
        found([CALLS[0]], [], [], []),
    ),
    "an acknowledged payment is lost": (
        "shown paid in version 2 of 1",
        found([CALLS[0], CALLS[4]], UNPAID, [], []),
    ),
    "a change was made twice": (
        "answered, but done 2 times",
        found(entries=[*ENTRIES, replace(ENTRIES[4], sequence=9)]),
    ),
    "an unknown change was made twice": (
        "told nothing final, but done 2 times",
        found(
            [*without(REFUND, READ), call(REFUND, LOST, at=14)],
            [*ENTRIES, replace(ENTRIES[4], sequence=9, event_type="order_partially_refunded")],
        ),
    ),
    "a change was made after it was refused for good": (
        "refused for good (INVALID_TRANSITION), but done 1 times",
        found(entries=[*ENTRIES, entry(9, CANCEL, "order_cancelled", "created>cancelled")]),
    ),
    "a stored refusal was not written down": (
        "refused for good (INVALID_TRANSITION), but done 0 times, refused []",
        found(entries=[e for e in ENTRIES if e.reason != "INVALID_TRANSITION"]),
    ),
    "a change was made that was only refused for now": (
        "told nothing final, but done 1 times",
        found(
            [*CALLS, call(FULFILL, Refused("REFUND_IN_PROGRESS", final=False), at=14)],
            [*ENTRIES[:4], FULFILLED, ENTRIES[4]],
        ),
    ),
    "told declined, and charged": (
        "told declined, and pay_0 was charged",
        found(charges=[*CHARGES, Booked("pay_0", ORDER, TOTAL)]),
    ),
    "charged twice": (
        "charged 2 times",
        found(charges=[*CHARGES, Booked("pay_2", ORDER, TOTAL)]),
    ),
    "cancelled, and charged": (
        "order ord_1: cancelled, and charged by pay_1",
        found(
            [CALLS[0], call(CANCEL, seen("cancelled", 2), at=2)],
            [ENTRIES[0], entry(2, CANCEL, "order_cancelled", "created>cancelled")],
            refunds=[],
        ),
    ),
    "charged, and the order does not know": (
        "order ord_1: created, and charged by pay_1",
        found([CALLS[0]], UNPAID, refunds=[]),
    ),
    "paid without a charge": (
        "paid by pay_1, which was not charged",
        found([CALLS[0], CALLS[4]], [ENTRIES[0], ENTRIES[2]], [], []),
    ),
    "given back twice": (
        "2 refunds, 1 written down",
        found(refunds=[*REFUNDS, Booked("ref_2", ORDER, TOTAL)]),
    ),
    "refunded, and nothing was given back": (
        "refunded, 0 of 4000 back",
        found(refunds=[]),
    ),
    "two final replies under one key": (
        "2 different final replies",
        found([*CALLS, call(AGAIN, replace(PAID, reply=b"other bytes"), at=18)]),
    ),
    "a refusal follows an answer": (
        "2 different final replies",
        found([*CALLS, call(AGAIN, TOO_LATE, at=18)]),
    ),
    "a read goes back": (
        "GetOrder was shown (2, 0) after RefundOrder had been shown (3, 4000)",
        found([*CALLS, call(READ, PAID, at=18)]),
    ),
    "a partial refund is forgotten by a read": (
        "GetOrder was shown (2, 0) after GetOrder had been shown (2, 1000)",
        found([*CALLS[:7], call(READ, seen("paid", 2, 1000), at=13.5), call(READ, PAID, at=15)]),
    ),
    "a state was shown that never was": (
        "shown fulfilled, was refunded in version 3",
        found([*without(READ), call(READ, seen("fulfilled", 3), at=18)]),
    ),
    "an order was shown and then not found": (
        "not found, and had been shown before",
        found([*CALLS, call(READ, Refused("ORDER_NOT_FOUND", final=False), at=18)]),
    ),
    "a reused key changed something": (
        "the key again of alice was good for several",
        found(
            [*CALLS, call(replace(AGAIN, body=b"other fields", trace_id="other"), LOST, at=18)],
            [*ENTRIES, replace(ENTRIES[3], sequence=9, trace_id="other")],
        ),
    ),
    "a change came after one that was asked for later": (
        "was told before",
        found(
            [*CALLS[:5], call(REFUND, REFUNDED, at=14), call(FULFILL, seen("fulfilled", 3), at=20)],
            [*ENTRIES[:3], FULFILLED, ENTRIES[4]],
        ),
    ),
    "a change that nobody asked for": (
        "nobody asked for order_refunded",
        found(without(REFUND)),
    ),
    "a worker that refunds": (
        "nobody asked for order_refunded",
        found(without(REFUND), [*ENTRIES[:2], WORKER, ENTRIES[4]]),
    ),
    "a direct payment that succeeded and did not pay": (
        "told succeeded, and the order is created",
        found(
            [
                CALLS[0],
                call(
                    DIRECT,
                    Answered(reply=b"payment", payment=SeenPayment(PAYMENT, "succeeded")),
                    at=2,
                ),
            ],
            UNPAID,
            refunds=[],
        ),
    ),
    "told voided, and charged": (
        "told voided, and pay_1 was charged",
        found(
            [
                *CALLS,
                call(
                    DIRECT, Answered(reply=b"payment", payment=SeenPayment(PAYMENT, "voided")), at=2
                ),
            ]
        ),
    ),
    "a bug that was admitted": (
        "INTERNAL",
        found([*CALLS, call(FULFILL, Refused("INTERNAL", final=False), at=18)]),
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_is_found(broken: str) -> None:
    expected, listed = BROKEN[broken]
    assert [problem for problem in listed if expected in problem], listed
