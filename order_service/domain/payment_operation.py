"""A charge, cancellation or refund: recorded before the payment service is asked."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from order_service.domain.audit import Actor
from order_service.domain.money import Money


class OperationKind(Enum):
    """What is asked of the payment service."""

    CHARGE = "charge"
    CANCEL = "cancel"
    REFUND = "refund"


class OperationStatus(Enum):
    """How far it has come. Only an IN_FLIGHT operation changes."""

    IN_FLIGHT = "in_flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    VOIDED = "voided"


@dataclass(frozen=True)
class PaymentOperation:
    """The intent and, later, its outcome.

    `id` is the idempotency key of the remote call, for ever. `actor`, `method`,
    `idempotency_key` and `fingerprint` are those of the request that began it: whoever settles
    it writes the audit entry and the reply in their name. `amount` and `payment_id` are a
    refund's.
    """

    id: str
    order_id: str
    kind: OperationKind
    status: OperationStatus
    actor: Actor
    method: str
    idempotency_key: str
    fingerprint: bytes
    started_at: datetime
    amount: Money | None = None
    payment_id: str = ""

    def ended(self, status: OperationStatus) -> "PaymentOperation":
        """Return the operation with its outcome. Raises ValueError if it has one already."""
        if self.status is not OperationStatus.IN_FLIGHT:
            raise ValueError(f"operation {self.id} is {self.status.value} already")
        return replace(self, status=status)
