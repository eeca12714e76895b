"""Calls at the same moment: whoever wins, money moves once and nobody is told otherwise."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from checkout.order.v1 import order_pb2
from checkout.payment.v1 import payment_pb2
from tests.builders import money, new_key
from tests.checkout import Checkout
from tests.client import ALICE, OPERATIONS, SHOP, Answer
from tests.system.keyed_calls import KEYED_CALLS
from tests.system.simultaneously import (
    Call,
    final_outcome,
    is_transient,
    reason_of,
    reply_bytes,
    simultaneously,
)

ROUNDS = 50
CALLERS = 8
TOTAL = 4000


def call_of(checkout: Checkout, rpc: str, order: order_pb2.Order, **fields: Any) -> Call:
    """A call about an order that can be sent again with its key."""
    caller = {"RefundOrder": OPERATIONS, "FulfillOrder": SHOP}.get(rpc, ALICE)
    client = checkout.orders(caller)
    return partial(client.answer, rpc, order_id=order.id, idempotency_key=new_key(), **fields)


def settled(call: Call) -> Call:
    """The call, sent again until its answer is final."""

    def until_final() -> Answer:
        outcome = final_outcome(call)
        if isinstance(outcome, Answer):
            return outcome
        raise outcome

    return until_final


@pytest.mark.requirement("FR-207", "FR-110", "FR-205")
@pytest.mark.parametrize("rpc", ["CreateOrder", "PayOrder", "CancelOrder", "RefundOrder"])
def test_the_same_key_eight_times_at_once_has_one_effect_and_one_reply(
    each_checkout: Checkout, pool: ThreadPoolExecutor, rpc: str
) -> None:
    checkout = each_checkout
    for _ in range(ROUNDS):
        call = KEYED_CALLS[rpc](checkout)
        outcomes = simultaneously(pool, [call] * CALLERS)
        final = [outcome for outcome in outcomes if not is_transient(outcome)]
        others = [outcome for outcome in outcomes if is_transient(outcome)]
        assert {reason_of(outcome) for outcome in final} == {"OK"}
        assert {reason_of(outcome) for outcome in others} <= {"REQUEST_IN_PROGRESS"}
        afterwards = call()
        assert {reply_bytes(outcome) for outcome in final} == {afterwards.body}
        order = afterwards.message.order
        assert checkout.ledger.charges(order.id) == {
            "PayOrder": [TOTAL],
            "RefundOrder": [TOTAL],
        }.get(rpc, [])
        assert checkout.ledger.refunds(order.id) == ([1000] if rpc == "RefundOrder" else [])
        assert len(set(checkout.events(order.id))) == len(checkout.events(order.id))


@pytest.mark.requirement("FR-221")
def test_pay_against_cancel_is_paid_with_one_charge_or_cancelled_with_none(
    each_checkout: Checkout, pool: ThreadPoolExecutor
) -> None:
    checkout = each_checkout
    for _ in range(ROUNDS):
        order = checkout.place()
        pay = call_of(checkout, "PayOrder", order, payment_token="tok_visa")
        cancel = call_of(checkout, "CancelOrder", order)
        outcomes = simultaneously(pool, [settled(pay), settled(cancel)])
        status = checkout.order(order.id).status
        told = [reason_of(outcome) for outcome in outcomes]
        if status == order_pb2.ORDER_STATUS_PAID:
            assert told == ["OK", "INVALID_TRANSITION"]
            assert checkout.ledger.charges(order.id) == [TOTAL]
        else:
            assert status == order_pb2.ORDER_STATUS_CANCELLED
            assert told == ["INVALID_TRANSITION", "OK"]
            assert checkout.ledger.charges(order.id) == []


@pytest.mark.requirement("FR-113", "FR-219", "FR-220")
def test_a_direct_payment_against_cancel_pays_the_order_or_is_voided(
    each_checkout: Checkout, pool: ThreadPoolExecutor
) -> None:
    checkout = each_checkout
    for _ in range(ROUNDS):
        order = checkout.place()
        process = partial(
            checkout.payments().answer,
            "ProcessPayment",
            idempotency_key=new_key(),
            payment_ticket=order.payment_ticket,
            payment_token="tok_visa",
        )
        cancel = call_of(checkout, "CancelOrder", order)
        processed, cancelled = simultaneously(pool, [process, settled(cancel)])
        assert isinstance(processed, Answer)
        payment = checkout.payment(processed.message.payment.id)
        order = checkout.order(order.id)
        if reason_of(cancelled) == "OK":
            assert order.status == order_pb2.ORDER_STATUS_CANCELLED
            assert payment.void_reason == payment_pb2.VOID_REASON_ORDER_SEALED
            assert checkout.ledger.charges(order.id) == []
        else:
            assert reason_of(cancelled) == "INVALID_TRANSITION"
            assert order.payment_transaction_id == payment.id
            assert checkout.ledger.charges(order.id) == [TOTAL]


@pytest.mark.requirement("FR-104", "FR-214")
def test_pay_against_a_direct_payment_charges_once(
    each_checkout: Checkout, pool: ThreadPoolExecutor
) -> None:
    checkout = each_checkout
    for _ in range(ROUNDS):
        order = checkout.place()
        pay = call_of(checkout, "PayOrder", order, payment_token="tok_visa")
        process = partial(
            checkout.payments().answer,
            "ProcessPayment",
            idempotency_key=new_key(),
            payment_ticket=order.payment_ticket,
            payment_token="tok_amex",
        )
        paid, processed = simultaneously(pool, [pay, process])
        assert isinstance(processed, Answer)
        payment = processed.message.payment
        assert checkout.ledger.charges(order.id) == [TOTAL]
        if reason_of(paid) == "OK":
            assert payment.void_reason == payment_pb2.VOID_REASON_ANOTHER_PAYMENT_IS_LIVE
        else:
            assert reason_of(paid) == "PAYMENT_IN_PROGRESS"
            assert payment.status == payment_pb2.PAYMENT_STATUS_SUCCEEDED
            mark = call_of(checkout, "MarkOrderPaid", order, transaction_id=payment.id)
            assert reason_of(final_outcome(mark)) == "OK"
            assert reason_of(final_outcome(pay)) == "INVALID_TRANSITION"
        assert checkout.order(order.id).status == order_pb2.ORDER_STATUS_PAID
        assert checkout.ledger.charges(order.id) == [TOTAL]


@pytest.mark.requirement("FR-217", "FR-228")
def test_marking_paid_twice_at_once_is_written_down_once(
    each_checkout: Checkout, pool: ThreadPoolExecutor
) -> None:
    checkout = each_checkout
    for _ in range(ROUNDS):
        order = checkout.place()
        payment = checkout.process(order)
        marks = [
            call_of(checkout, "MarkOrderPaid", order, transaction_id=payment.id) for _ in range(4)
        ]
        outcomes = simultaneously(pool, [settled(mark) for mark in marks])
        assert {reason_of(outcome) for outcome in outcomes} == {"OK"}
        assert checkout.events(order.id) == ["order_created", "order_paid"]


@pytest.mark.requirement("FR-216", "FR-222")
def test_refund_against_fulfil_gives_all_back_or_nothing(
    each_checkout: Checkout, pool: ThreadPoolExecutor
) -> None:
    checkout = each_checkout
    for _ in range(ROUNDS):
        order = checkout.paid()
        refund = call_of(checkout, "RefundOrder", order)
        fulfill = call_of(checkout, "FulfillOrder", order)
        outcomes = simultaneously(pool, [settled(refund), settled(fulfill)])
        status = checkout.order(order.id).status
        told = [reason_of(outcome) for outcome in outcomes]
        if status == order_pb2.ORDER_STATUS_REFUNDED:
            assert told == ["OK", "INVALID_TRANSITION"]
            assert checkout.ledger.refunds(order.id) == [TOTAL]
        else:
            assert status == order_pb2.ORDER_STATUS_FULFILLED
            assert told == ["INVALID_TRANSITION", "OK"]
            assert checkout.ledger.refunds(order.id) == []


@pytest.mark.requirement("FR-117", "FR-222")
@pytest.mark.parametrize(
    ("part", "fitting"), [(1500, 2), (1000, 4)], ids=["more than there is", "exactly all"]
)
def test_four_partial_refunds_at_once_never_give_back_too_much(
    each_checkout: Checkout, pool: ThreadPoolExecutor, part: int, fitting: int
) -> None:
    checkout = each_checkout
    for _ in range(ROUNDS // 2):
        order = checkout.paid()
        refunds = [call_of(checkout, "RefundOrder", order, amount=money(part)) for _ in range(4)]
        outcomes = simultaneously(pool, [settled(refund) for refund in refunds])
        told = sorted(reason_of(outcome) for outcome in outcomes)
        assert told == ["OK"] * fitting + ["REFUND_EXCEEDS_PAYMENT"] * (4 - fitting)
        assert checkout.ledger.refunds(order.id) == [part] * fitting
        order = checkout.order(order.id)
        assert order.refunded_amount == money(part * fitting)
        all_back = part * fitting == TOTAL
        assert order.status == (
            order_pb2.ORDER_STATUS_REFUNDED if all_back else order_pb2.ORDER_STATUS_PAID
        )
        assert checkout.payment(order.payment_transaction_id).refunded_amount == money(
            part * fitting
        )
