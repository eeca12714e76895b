"""How each of this service's exceptions is told: one row for each."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from checkout.error.v1 import error_details_pb2
from order_service.domain import errors
from service_kit.error_table import (
    ABORTED_RETRY_SECONDS,
    UNAVAILABLE_RETRY_SECONDS,
    ErrorRow,
    ErrorTable,
)
from service_kit.status import precondition_failure, resource_info, retry_info


def _order(kind: str) -> Any:
    def details(error: Any) -> Sequence[Message]:
        subject = f"orders/{error.order_id}"
        return [precondition_failure(kind=kind, subject=subject, description=str(error))]

    return details


def _payment(kind: str) -> Any:
    def details(error: Any) -> Sequence[Message]:
        subject = f"payments/{error.payment_id}"
        return [precondition_failure(kind=kind, subject=subject, description=str(error))]

    return details


def _facts(*names: str) -> Any:
    return lambda error: {name: getattr(error, name) for name in names}


def _invalid_transition(error: errors.InvalidTransition) -> Sequence[Message]:
    typed = error_details_pb2.InvalidTransition(
        current_status=error.status, attempted=error.action, allowed=error.allowed
    )
    return [*_order("ORDER_STATUS")(error), typed]


def _retry(seconds: float) -> Any:
    return lambda _error: [retry_info(seconds)]


_REFUSED = grpc.StatusCode.FAILED_PRECONDITION

ERROR_ROWS: Final[Mapping[type[Exception], ErrorRow]] = MappingProxyType(
    {
        errors.InvalidTransition: ErrorRow(
            _REFUSED,
            "INVALID_TRANSITION",
            metadata=lambda e: {
                "order_id": e.order_id,
                "current_status": e.status,
                "attempted": e.action,
                "allowed": ",".join(e.allowed),
            },
            details=_invalid_transition,
        ),
        errors.PaymentDeclined: ErrorRow(
            _REFUSED,
            "PAYMENT_DECLINED",
            metadata=_facts("order_id", "payment_id", "decline_code"),
            details=_payment("PAYMENT_STATUS"),
        ),
        errors.PaymentMismatch: ErrorRow(
            _REFUSED,
            "PAYMENT_MISMATCH",
            metadata=_facts("order_id", "payment_id"),
            details=_payment("PAYMENT_ORDER"),
        ),
        errors.PaymentNotSucceeded: ErrorRow(
            _REFUSED,
            "PAYMENT_NOT_SUCCEEDED",
            metadata=_facts("payment_id", "status"),
            details=_payment("PAYMENT_STATUS"),
        ),
        errors.RefundDeclined: ErrorRow(
            _REFUSED,
            "REFUND_DECLINED",
            metadata=_facts("order_id", "decline_code"),
            details=_order("REFUND_STATUS"),
        ),
        errors.RefundExceedsPayment: ErrorRow(
            _REFUSED,
            "REFUND_EXCEEDS_PAYMENT",
            metadata=lambda e: {
                "payment_id": e.payment_id,
                "currency_code": e.currency_code,
                "refundable_minor_units": str(e.refundable),
                "requested_minor_units": str(e.requested),
            },
            details=_payment("REFUNDABLE_AMOUNT"),
        ),
        errors.OrderNotFound: ErrorRow(
            grpc.StatusCode.NOT_FOUND,
            "ORDER_NOT_FOUND",
            metadata=_facts("order_id"),
            details=lambda e: [resource_info(kind="checkout.order.v1.Order", name=e.order_id)],
        ),
        errors.PaymentNotFound: ErrorRow(
            grpc.StatusCode.NOT_FOUND,
            "PAYMENT_NOT_FOUND",
            metadata=_facts("payment_id"),
            details=lambda e: [
                resource_info(kind="checkout.payment.v1.Payment", name=e.payment_id)
            ],
        ),
        errors.PaymentInProgress: ErrorRow(
            grpc.StatusCode.ABORTED,
            "PAYMENT_IN_PROGRESS",
            metadata=_facts("order_id", "operation"),
            details=_retry(ABORTED_RETRY_SECONDS),
        ),
        errors.RefundInProgress: ErrorRow(
            grpc.StatusCode.ABORTED,
            "REFUND_IN_PROGRESS",
            metadata=_facts("order_id"),
            details=_retry(ABORTED_RETRY_SECONDS),
        ),
        errors.EtagMismatch: ErrorRow(
            grpc.StatusCode.ABORTED,
            "ETAG_MISMATCH",
            metadata=_facts("order_id", "current_etag"),
        ),
        errors.PaymentOutcomeUnknown: ErrorRow(
            grpc.StatusCode.UNAVAILABLE,
            "PAYMENT_OUTCOME_UNKNOWN",
            metadata=_facts("order_id", "operation"),
            details=_retry(UNAVAILABLE_RETRY_SECONDS),
        ),
        errors.PaymentServiceUnavailable: ErrorRow(
            grpc.StatusCode.UNAVAILABLE,
            "PAYMENT_SERVICE_UNAVAILABLE",
            details=_retry(UNAVAILABLE_RETRY_SECONDS),
        ),
    }
)

ERROR_TABLE: Final = ErrorTable(ERROR_ROWS)
