"""Every exception has its row in the table, and the row says what the exception says."""

import inspect
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as rpc_details

from checkout.error.v1 import error_details_pb2, error_reason_pb2
from order_service.domain import errors
from order_service.domain.audit import EventType
from order_service.rpc.errors import ERROR_ROWS, ERROR_TABLE
from tests.assertions import told

REFUSED = grpc.StatusCode.FAILED_PRECONDITION
ABORTED = grpc.StatusCode.ABORTED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def concrete(kind: type[errors.OrderError]) -> Iterator[type[errors.OrderError]]:
    """Walk the subclasses that are raised themselves: the leaves."""
    if not kind.__subclasses__():
        yield kind
    for subclass in kind.__subclasses__():
        yield from concrete(subclass)


ERRORS = list(concrete(errors.OrderError))
REFUSALS = [kind for kind in ERRORS if issubclass(kind, errors.Refusal)]


class TestTable:
    def test_has_a_row_for_every_exception_but_the_one_that_is_a_bug(self) -> None:
        assert set(ERRORS) - set(ERROR_ROWS) == {errors.PaymentInvariantBroken}
        assert set(ERROR_ROWS) <= set(ERRORS)

    def test_tells_a_broken_invariant_as_a_bug(self) -> None:
        broken = errors.PaymentInvariantBroken(order_id="ord_1", payment_id="pay_1")

        assert ERROR_TABLE.status(broken) is None
        assert (broken.order_id, broken.payment_id) == ("ord_1", "pay_1")

    def test_gives_only_reasons_that_the_contract_has_and_each_once(self) -> None:
        reasons = [row.reason for row in ERROR_ROWS.values()]
        known = error_reason_pb2.ErrorReason.keys()

        assert {f"ERROR_REASON_{reason}" for reason in reasons} <= set(known)
        assert len(set(reasons)) == len(reasons)


class TestRefusals:
    @pytest.mark.parametrize("kind", REFUSALS)
    def test_say_in_the_audit_trail_what_they_say_to_the_client(
        self, kind: type[errors.Refusal]
    ) -> None:
        assert kind.reason == ERROR_ROWS[kind].reason
        assert isinstance(kind.event_type, EventType)

    @pytest.mark.parametrize("kind", ERRORS)
    def test_alone_are_final(self, kind: type[errors.OrderError]) -> None:
        row = ERROR_ROWS.get(kind)

        assert (row is not None and row.code is REFUSED) is issubclass(kind, errors.Refusal)

    @pytest.mark.parametrize("kind", ERRORS)
    def test_are_made_from_facts_by_name(self, kind: type[errors.OrderError]) -> None:
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]

        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)


class TestDetails:
    def test_of_an_invalid_transition_are_for_people_and_for_programs(self) -> None:
        error = errors.InvalidTransition(
            order_id="ord_1", status="paid", action="cancel", allowed=("fulfill", "refund")
        )
        refusal = told(ERROR_TABLE.status(error), REFUSED, "INVALID_TRANSITION")

        assert refusal.metadata == {
            "order_id": "ord_1",
            "current_status": "paid",
            "attempted": "cancel",
            "allowed": "fulfill,refund",
        }
        assert refusal.precondition == ("ORDER_STATUS", "orders/ord_1")
        typed = refusal.detail(error_details_pb2.InvalidTransition)
        assert (typed.current_status, typed.attempted, list(typed.allowed)) == (
            "paid",
            "cancel",
            ["fulfill", "refund"],
        )

    @pytest.mark.parametrize(
        ("error", "reason", "precondition", "metadata"),
        [
            (
                errors.PaymentDeclined(order_id="ord_1", payment_id="pay_1", decline_code="lost"),
                "PAYMENT_DECLINED",
                ("PAYMENT_STATUS", "payments/pay_1"),
                {"order_id": "ord_1", "payment_id": "pay_1", "decline_code": "lost"},
            ),
            (
                errors.PaymentMismatch(order_id="ord_1", payment_id="pay_1"),
                "PAYMENT_MISMATCH",
                ("PAYMENT_ORDER", "payments/pay_1"),
                {"order_id": "ord_1", "payment_id": "pay_1"},
            ),
            (
                errors.PaymentNotSucceeded(payment_id="pay_1", status="voided"),
                "PAYMENT_NOT_SUCCEEDED",
                ("PAYMENT_STATUS", "payments/pay_1"),
                {"payment_id": "pay_1", "status": "voided"},
            ),
            (
                errors.RefundDeclined(order_id="ord_1", decline_code="refund_failed"),
                "REFUND_DECLINED",
                ("REFUND_STATUS", "orders/ord_1"),
                {"order_id": "ord_1", "decline_code": "refund_failed"},
            ),
            (
                errors.RefundExceedsPayment(
                    payment_id="pay_1", currency_code="EUR", refundable=1500, requested=2000
                ),
                "REFUND_EXCEEDS_PAYMENT",
                ("REFUNDABLE_AMOUNT", "payments/pay_1"),
                {
                    "payment_id": "pay_1",
                    "currency_code": "EUR",
                    "refundable_minor_units": "1500",
                    "requested_minor_units": "2000",
                },
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_of_a_refusal_name_the_state_in_the_way(
        self,
        error: errors.Refusal,
        reason: str,
        precondition: tuple[str, str],
        metadata: dict[str, str],
    ) -> None:
        refusal = told(ERROR_TABLE.status(error), REFUSED, reason)

        assert refusal.precondition == precondition
        assert refusal.metadata == metadata

    @pytest.mark.parametrize(
        ("error", "reason", "resource"),
        [
            (
                errors.OrderNotFound(order_id="ord_1"),
                "ORDER_NOT_FOUND",
                ("checkout.order.v1.Order", "ord_1"),
            ),
            (
                errors.PaymentNotFound(payment_id="pay_1"),
                "PAYMENT_NOT_FOUND",
                ("checkout.payment.v1.Payment", "pay_1"),
            ),
        ],
    )
    def test_of_what_is_not_found_name_it(
        self, error: errors.OrderError, reason: str, resource: tuple[str, str]
    ) -> None:
        refusal = told(ERROR_TABLE.status(error), grpc.StatusCode.NOT_FOUND, reason)

        assert refusal.resource == resource
        assert list(refusal.metadata.values()) == [resource[1]]

    @pytest.mark.parametrize(
        ("error", "code", "reason", "metadata"),
        [
            (
                errors.PaymentInProgress(order_id="ord_1", operation="cancel"),
                ABORTED,
                "PAYMENT_IN_PROGRESS",
                {"order_id": "ord_1", "operation": "cancel"},
            ),
            (
                errors.RefundInProgress(order_id="ord_1"),
                ABORTED,
                "REFUND_IN_PROGRESS",
                {"order_id": "ord_1"},
            ),
            (
                errors.PaymentOutcomeUnknown(order_id="ord_1", operation="charge"),
                UNAVAILABLE,
                "PAYMENT_OUTCOME_UNKNOWN",
                {"order_id": "ord_1", "operation": "charge"},
            ),
            (errors.PaymentServiceUnavailable(), UNAVAILABLE, "PAYMENT_SERVICE_UNAVAILABLE", {}),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_of_what_passes_say_when_to_come_back(
        self, error: errors.OrderError, code: grpc.StatusCode, reason: str, metadata: Any
    ) -> None:
        refusal = told(ERROR_TABLE.status(error), code, reason)

        assert refusal.retry_seconds > 0
        assert refusal.metadata == metadata

    @pytest.mark.requirement("FR-225")
    def test_of_a_stale_etag_do_not_ask_to_send_the_same_again(self) -> None:
        error = errors.EtagMismatch(order_id="ord_1", current_etag="2")
        refusal = told(ERROR_TABLE.status(error), ABORTED, "ETAG_MISMATCH")

        assert refusal.metadata == {"order_id": "ord_1", "current_etag": "2"}
        assert refusal.details(rpc_details.RetryInfo) == []
