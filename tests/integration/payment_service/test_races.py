"""Many at once: the database decides, and money moves once."""

from collections.abc import Callable
from functools import partial

import grpc
import pytest

from checkout.payment.v1 import payment_pb2
from service_kit.ids import new_id
from tests.builders import new_key
from tests.integration.payment_service.desk import Desk, at_once

SUCCEEDED = payment_pb2.PAYMENT_STATUS_SUCCEEDED
PENDING = payment_pb2.PAYMENT_STATUS_PENDING
VOIDED = payment_pb2.PAYMENT_STATUS_VOIDED

ROUNDS = 50
FEW_ROUNDS = 15


def test_the_same_key_eight_times_charges_once(desk: Desk) -> None:
    for _ in range(ROUNDS):
        request = desk.process_request()
        answers = at_once([partial(desk.calls.answer, "ProcessPayment", request)] * 8)
        payments = [answer.message.payment for answer in answers]
        assert {payment.id for payment in payments} == {payments[0].id}
        assert {payment.status for payment in payments} <= {PENDING, SUCCEEDED}
        assert len({a.body for a in answers if a.message.payment.status == SUCCEEDED}) == 1
        assert len(desk.charges(payments[0].order_id)) == 1
        assert len(desk.payment_rows(payments[0].order_id)) == 1


def test_eight_keys_for_one_order_charge_once(desk: Desk) -> None:
    for _ in range(FEW_ROUNDS):
        order_id = new_id("ord_")
        payments = at_once([partial(desk.process, order_id=order_id)] * 8)
        assert sorted(payment.status for payment in payments) == [SUCCEEDED] + [VOIDED] * 7
        assert len(desk.charges(order_id)) == 1


def test_one_key_for_eight_orders_is_one_request(desk: Desk) -> None:
    key = new_key()
    orders = [new_id("ord_") for _ in range(8)]

    def process(order_id: str) -> bool:
        request = desk.process_request(key=key, order_id=order_id)
        try:
            desk.calls.ProcessPayment(request)
        except grpc.RpcError:
            return False
        return True

    assert sum(at_once([partial(process, order) for order in orders])) == 1
    assert sum(len(desk.charges(order)) for order in orders) == 1


@pytest.mark.parametrize("first", ["", "tok_chargeDeclined"], ids=["new-order", "known-order"])
def test_a_seal_and_a_payment_exclude_each_other(desk: Desk, first: str) -> None:
    """Of a new order whoever inserts its row is first; of a known one whoever locks it."""
    for _ in range(ROUNDS):
        order_id = new_id("ord_")
        if first:
            desk.process(first, order_id=order_id)
        both: list[Callable[[], payment_pb2.Payment | None]] = [
            partial(desk.process, order_id=order_id),
            partial(desk.seal, order_id),
        ]
        payment, sealed = at_once(both)
        assert payment is not None
        if payment.status == VOIDED:
            # The seal came first: it saw no payment, and there never was one.
            assert sealed is None
            assert desk.charges(order_id) == []
        else:
            # The payment came first: the seal saw it.
            assert sealed is not None
            assert sealed.id == payment.id
            assert len(desk.charges(order_id)) == 1
        assert desk.process(order_id=order_id).status == VOIDED
        sequences = [entry.sequence for entry in desk.history(order_id)]
        assert sequences == sorted(sequences)


def test_a_resolve_and_a_payment_exclude_each_other(desk: Desk) -> None:
    for _ in range(FEW_ROUNDS):
        order_id, key = new_id("ord_"), new_key()
        payment, resolved = at_once(
            [
                partial(desk.process, order_id=order_id, key=key),
                partial(desk.resolve, order_id, key),
            ]
        )
        assert payment.id == resolved.id
        charged = len(desk.charges(order_id))
        assert charged == (0 if payment.status == VOIDED else 1)
        if resolved.status == VOIDED:
            assert payment == resolved


def test_repeats_of_an_unknown_outcome_find_one_charge(desk: Desk) -> None:
    for token in ("tok_timeoutBeforeCharge", "tok_timeoutAfterCharge") * 5:
        request = desk.process_request(token)
        payment = desk.calls.ProcessPayment(request).payment
        at_once([partial(desk.calls.answer, "ProcessPayment", request)] * 8)
        assert desk.calls.ProcessPayment(request).payment.status == SUCCEEDED
        assert len(desk.charges(payment.order_id)) == 1
        assert desk.events(payment.order_id) == ["payment_requested", "payment_succeeded"]
