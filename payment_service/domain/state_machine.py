"""The life cycles of payments and refunds, as data. Everything else is derived from here."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class PaymentStatus(Enum):
    """Where a payment stands. The value is what is stored."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    VOIDED = "voided"


class PaymentAction(Enum):
    """What can happen to a payment."""

    REQUEST = "request"
    VOID = "void"
    SUCCEED = "succeed"
    FAIL = "fail"


class RefundStatus(Enum):
    """Where a refund stands. The value is what is stored."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class RefundAction(Enum):
    """What can happen to a refund."""

    REQUEST = "request"
    SUCCEED = "succeed"
    FAIL = "fail"


# None is the status of what does not exist yet.
PAYMENT_TRANSITIONS: Final[Mapping[tuple[PaymentStatus | None, PaymentAction], PaymentStatus]] = (
    MappingProxyType(
        {
            (None, PaymentAction.REQUEST): PaymentStatus.PENDING,
            (None, PaymentAction.VOID): PaymentStatus.VOIDED,
            (PaymentStatus.PENDING, PaymentAction.SUCCEED): PaymentStatus.SUCCEEDED,
            (PaymentStatus.PENDING, PaymentAction.FAIL): PaymentStatus.FAILED,
        }
    )
)

REFUND_TRANSITIONS: Final[Mapping[tuple[RefundStatus | None, RefundAction], RefundStatus]] = (
    MappingProxyType(
        {
            (None, RefundAction.REQUEST): RefundStatus.PENDING,
            (RefundStatus.PENDING, RefundAction.SUCCEED): RefundStatus.SUCCEEDED,
            (RefundStatus.PENDING, RefundAction.FAIL): RefundStatus.FAILED,
        }
    )
)

# The money of an order is, or may be, taken by a payment in one of these.
LIVE_PAYMENT_STATUSES: Final = frozenset({PaymentStatus.PENDING, PaymentStatus.SUCCEEDED})
# A refund in one of these counts against what is left of its payment.
RESERVING_REFUND_STATUSES: Final = frozenset({RefundStatus.PENDING, RefundStatus.SUCCEEDED})


def next_payment_status(status: PaymentStatus | None, action: PaymentAction) -> PaymentStatus:
    """Return the status that the action leads to. Raises ValueError if there is none: a bug."""
    if (status, action) not in PAYMENT_TRANSITIONS:
        raise ValueError(f"a payment that is {status} cannot {action.value}")
    return PAYMENT_TRANSITIONS[status, action]


def next_refund_status(status: RefundStatus | None, action: RefundAction) -> RefundStatus:
    """Return the status that the action leads to. Raises ValueError if there is none: a bug."""
    if (status, action) not in REFUND_TRANSITIONS:
        raise ValueError(f"a refund that is {status} cannot {action.value}")
    return REFUND_TRANSITIONS[status, action]
