"""Every cell of status and action, walked."""

from itertools import product

import pytest

from payment_service.domain.state_machine import (
    LIVE_PAYMENT_STATUSES,
    PAYMENT_TRANSITIONS,
    REFUND_TRANSITIONS,
    RESERVING_REFUND_STATUSES,
    PaymentAction,
    PaymentStatus,
    RefundAction,
    RefundStatus,
    next_payment_status,
    next_refund_status,
)

PAYMENT_CELLS = list(product([None, *PaymentStatus], PaymentAction))
REFUND_CELLS = list(product([None, *RefundStatus], RefundAction))


@pytest.mark.parametrize(("status", "action"), PAYMENT_CELLS)
def test_a_payment_moves_as_the_table_says_and_no_other_way(
    status: PaymentStatus | None, action: PaymentAction
) -> None:
    if target := PAYMENT_TRANSITIONS.get((status, action)):
        assert next_payment_status(status, action) is target
    else:
        with pytest.raises(ValueError, match=action.value):
            next_payment_status(status, action)


@pytest.mark.parametrize(("status", "action"), REFUND_CELLS)
def test_a_refund_moves_as_the_table_says_and_no_other_way(
    status: RefundStatus | None, action: RefundAction
) -> None:
    if target := REFUND_TRANSITIONS.get((status, action)):
        assert next_refund_status(status, action) is target
    else:
        with pytest.raises(ValueError, match=action.value):
            next_refund_status(status, action)


def test_the_arrows_are_exactly_these() -> None:
    payments = {
        (source and source.value, to.value) for (source, _), to in PAYMENT_TRANSITIONS.items()
    }
    refunds = {
        (source and source.value, to.value) for (source, _), to in REFUND_TRANSITIONS.items()
    }
    settled = {(None, "pending"), ("pending", "succeeded"), ("pending", "failed")}
    assert payments == settled | {(None, "voided")}
    assert refunds == settled


def test_every_status_is_reached_and_only_pending_is_left() -> None:
    assert set(PAYMENT_TRANSITIONS.values()) == set(PaymentStatus)
    assert set(REFUND_TRANSITIONS.values()) == set(RefundStatus)
    assert {source for source, _ in PAYMENT_TRANSITIONS} == {None, PaymentStatus.PENDING}
    assert {source for source, _ in REFUND_TRANSITIONS} == {None, RefundStatus.PENDING}


def test_money_that_is_or_may_be_moved_counts() -> None:
    assert {PaymentStatus.PENDING, PaymentStatus.SUCCEEDED} == LIVE_PAYMENT_STATUSES
    assert {RefundStatus.PENDING, RefundStatus.SUCCEEDED} == RESERVING_REFUND_STATUSES
