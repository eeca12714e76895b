"""What the three sources say, row by row: plain facts, as they were read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final, NamedTuple

PAID_STATUSES: Final = frozenset({"paid", "fulfilled", "refunded", "archived"})


class KeyName(NamedTuple):
    """What names an idempotency key."""

    caller_role: str
    caller: str
    idempotency_key: str

    def __str__(self) -> str:
        return f"{self.idempotency_key} of {self.caller_role} {self.caller}"


@dataclass(frozen=True)
class Order:
    """A row of the orders."""

    id: str
    customer_id: str
    status: str
    currency_code: str
    total_minor: int
    refunded_minor: int
    payment_id: str | None
    version: int


@dataclass(frozen=True)
class Operation:
    """A charge, cancellation or refund that the order service began."""

    id: str
    order_id: str
    kind: str
    status: str
    amount_minor: int | None
    caller_role: str
    caller: str
    method: str
    idempotency_key: str
    fingerprint: bytes
    started_at: datetime
    ended_at: datetime | None
    problem: str

    @property
    def key(self) -> KeyName:
        """The key of the request that began it."""
        return KeyName(self.caller_role, self.caller, self.idempotency_key)


@dataclass(frozen=True)
class Key:
    """What the order service remembers of a keyed request."""

    caller_role: str
    caller: str
    idempotency_key: str
    method: str
    fingerprint: bytes
    operation_id: str | None
    reply_ok: bool | None
    reply: bytes | None
    used_at: datetime
    replied_at: datetime | None

    @property
    def name(self) -> KeyName:
        """What names it."""
        return KeyName(self.caller_role, self.caller, self.idempotency_key)


@dataclass(frozen=True)
class OrderEntry:
    """A line of an order's history."""

    sequence: int
    order_id: str
    actor_role: str
    actor_id: str
    at: datetime
    event_type: str
    from_status: str
    to_status: str
    outcome: str
    reason: str
    payment_id: str


@dataclass(frozen=True)
class Received:
    """A row of the inbox: a payment that the feed told of."""

    payment_id: str
    order_id: str
    received_at: datetime
    applied_at: datetime | None
    problem: str


@dataclass(frozen=True)
class Payment:
    """A row of the payments."""

    id: str
    order_id: str
    customer_id: str
    currency_code: str | None
    amount_minor: int | None
    refunded_minor: int | None
    status: str
    gateway_reference: str | None
    payment_token: str | None
    caller_role: str
    idempotency_key: str
    reply: bytes | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Refund:
    """A row of the refunds."""

    id: str
    payment_id: str
    order_id: str
    currency_code: str
    amount_minor: int
    status: str
    gateway_reference: str | None
    caller_role: str
    idempotency_key: str
    reply_ok: bool | None
    reply: bytes | None
    created_at: datetime


@dataclass(frozen=True)
class PaymentEntry:
    """A line of the history of an order's payments."""

    sequence: int
    order_id: str
    payment_id: str
    refund_id: str
    at: datetime
    event_type: str
    from_status: str
    to_status: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class Seal:
    """Since when no payment of an order may start."""

    order_id: str
    sealed_at: datetime | None


@dataclass(frozen=True)
class Charge:
    """A charge in the gateway's ledger. With a decline code no money moved."""

    key: str
    reference: str
    order_id: str
    currency_code: str
    amount_minor: int
    decline_code: str


@dataclass(frozen=True)
class GivenBack:
    """A refund in the gateway's ledger. With a decline code no money moved."""

    key: str
    reference: str
    charge_reference: str
    order_id: str
    currency_code: str
    amount_minor: int
    decline_code: str


@dataclass(frozen=True)
class Evidence:
    """All that is known of one order. `now` is when it was read, `cursor` how far the feed was."""

    order_id: str
    now: datetime
    order: Order | None = None
    operations: tuple[Operation, ...] = ()
    keys: Mapping[KeyName, Key] = field(default_factory=dict)
    entries: tuple[OrderEntry, ...] = ()
    received: tuple[Received, ...] = ()
    cursor: int = 0
    seal: Seal | None = None
    payments: tuple[Payment, ...] = ()
    refunds: tuple[Refund, ...] = ()
    payment_entries: tuple[PaymentEntry, ...] = ()
    has_ledger: bool = True
    charges: tuple[Charge, ...] = ()
    given_back: tuple[GivenBack, ...] = ()

    @cached_property
    def succeeded(self) -> tuple[Payment, ...]:
        """The payments that took money."""
        return tuple(payment for payment in self.payments if payment.status == "succeeded")

    @cached_property
    def approved(self) -> tuple[Charge, ...]:
        """The charges that took money."""
        return tuple(charge for charge in self.charges if not charge.decline_code)

    @cached_property
    def approved_back(self) -> tuple[GivenBack, ...]:
        """The refunds that gave money back."""
        return tuple(refund for refund in self.given_back if not refund.decline_code)

    @cached_property
    def in_flight(self) -> tuple[Operation, ...]:
        """The operations that have no outcome yet."""
        return tuple(operation for operation in self.operations if operation.status == "in_flight")


@dataclass(frozen=True)
class KeyEvidence:
    """All that is known of one idempotency key, and of the order that its reply tells of."""

    key: Key
    operation: Operation | None
    order_id: str
    order: Order | None
    entries: tuple[OrderEntry, ...]
