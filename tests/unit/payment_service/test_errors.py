"""Every exception has its row in the table, and the row says what the exception says."""

from collections.abc import Iterator

import grpc
import pytest

from payment_service.domain import errors
from payment_service.rpc.errors import ERROR_ROWS, ERROR_TABLE
from tests.assertions import told

REFUSED = grpc.StatusCode.FAILED_PRECONDITION


def concrete(kind: type[errors.PaymentError]) -> Iterator[type[errors.PaymentError]]:
    """Walk the subclasses that are raised themselves: the leaves."""
    if not kind.__subclasses__():
        yield kind
    for subclass in kind.__subclasses__():
        yield from concrete(subclass)


ERRORS = list(concrete(errors.PaymentError))
REFUSALS = [kind for kind in ERRORS if issubclass(kind, errors.Refusal)]


def test_every_exception_has_its_row_and_every_row_its_exception() -> None:
    assert set(ERROR_ROWS) == set(ERRORS)


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_has_one_reason_in_the_history_and_for_the_client(
    kind: type[errors.Refusal],
) -> None:
    assert kind.reason == ERROR_ROWS[kind].reason
    assert ERROR_ROWS[kind].code is REFUSED


def test_an_invalid_ticket_names_its_field() -> None:
    refusal = told(
        ERROR_TABLE.status(errors.PaymentTicketInvalid()),
        grpc.StatusCode.INVALID_ARGUMENT,
        "PAYMENT_TICKET_INVALID",
    )
    assert refusal.metadata == {"field": "payment_ticket"}
    assert set(refusal.violations) == {"payment_ticket"}


def test_a_mismatch_names_the_order_and_the_payment() -> None:
    error = errors.PaymentMismatch(order_id="ord_1", payment_id="pay_1")
    refusal = told(ERROR_TABLE.status(error), REFUSED, "PAYMENT_MISMATCH")
    assert refusal.metadata == {"order_id": "ord_1", "payment_id": "pay_1"}
    assert refusal.precondition == ("PAYMENT_ORDER", "payments/pay_1")


def test_a_payment_that_has_not_succeeded_names_its_status() -> None:
    error = errors.PaymentNotSucceeded(payment_id="pay_1", status="failed")
    refusal = told(ERROR_TABLE.status(error), REFUSED, "PAYMENT_NOT_SUCCEEDED")
    assert refusal.metadata == {"payment_id": "pay_1", "status": "failed"}
    assert refusal.precondition == ("PAYMENT_STATUS", "payments/pay_1")


def test_too_much_names_both_amounts() -> None:
    error = errors.RefundExceedsPayment(
        payment_id="pay_1", currency_code="EUR", refundable=1500, requested=2000
    )
    refusal = told(ERROR_TABLE.status(error), REFUSED, "REFUND_EXCEEDS_PAYMENT")
    assert refusal.metadata == {
        "payment_id": "pay_1",
        "currency_code": "EUR",
        "refundable_minor_units": "1500",
        "requested_minor_units": "2000",
    }
    assert refusal.precondition == ("REFUNDABLE_AMOUNT", "payments/pay_1")


def test_an_unknown_payment_is_named() -> None:
    refusal = told(
        ERROR_TABLE.status(errors.PaymentNotFound(payment_id="pay_1")),
        grpc.StatusCode.NOT_FOUND,
        "PAYMENT_NOT_FOUND",
    )
    assert refusal.metadata == {"payment_id": "pay_1"}
    assert refusal.resource == ("checkout.payment.v1.Payment", "pay_1")
