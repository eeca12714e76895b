"""How each of this service's exceptions is told: one row for each."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from payment_service.domain import errors
from service_kit.error_table import ErrorRow, ErrorTable
from service_kit.errors import FieldViolation
from service_kit.status import bad_request, precondition_failure, resource_info


def _payment(kind: str) -> Any:
    def details(error: Any) -> Sequence[Message]:
        subject = f"payments/{error.payment_id}"
        return [precondition_failure(kind=kind, subject=subject, description=str(error))]

    return details


def _facts(*names: str) -> Any:
    return lambda error: {name: getattr(error, name) for name in names}


def _ticket(_error: Any) -> Sequence[Message]:
    description = "must be the payment_ticket of the caller's order, unchanged"
    return [bad_request([FieldViolation("payment_ticket", description)])]


_REFUSED = grpc.StatusCode.FAILED_PRECONDITION

ERROR_ROWS: Final[Mapping[type[Exception], ErrorRow]] = MappingProxyType(
    {
        errors.PaymentTicketInvalid: ErrorRow(
            grpc.StatusCode.INVALID_ARGUMENT,
            "PAYMENT_TICKET_INVALID",
            metadata=lambda _: {"field": "payment_ticket"},
            details=_ticket,
        ),
        errors.PaymentNotFound: ErrorRow(
            grpc.StatusCode.NOT_FOUND,
            "PAYMENT_NOT_FOUND",
            metadata=_facts("payment_id"),
            details=lambda e: [
                resource_info(kind="checkout.payment.v1.Payment", name=e.payment_id)
            ],
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
    }
)

ERROR_TABLE: Final = ErrorTable(ERROR_ROWS)
