"""What the use cases need from the outside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from order_service.domain.audit import Actor, AuditEntry
from order_service.domain.errors import Refusal
from order_service.domain.money import Money
from order_service.domain.order import Order
from order_service.domain.payment_operation import OperationKind, PaymentOperation
from order_service.domain.state_machine import OrderStatus
from service_kit.errors import FieldViolation
from service_kit.idempotency.keys import LEASE, Claim
from service_kit.idempotency.record import KeyedRequest, Reply

T = TypeVar("T")


class Keys(Protocol):
    """The record of keyed requests. See service_kit.idempotency.keys."""

    def claim(
        self,
        request: KeyedRequest,
        *,
        owner_id: str,
        now: datetime,
        lease: timedelta = LEASE,
        reply: Reply | None = None,
    ) -> Claim:
        """Take the key, with its reply if there is one already, or find what became of it."""

    def lock(self, request: KeyedRequest) -> Claim:
        """Lock the key's row and say what it holds."""

    def record_operation(self, request: KeyedRequest, operation_id: str | None) -> None:
        """Bind the key to an operation, or to none."""

    def finish(self, request: KeyedRequest, reply: Reply, *, now: datetime) -> None:
        """Store the final reply."""

    def release(self, request: KeyedRequest, *, now: datetime) -> None:
        """Let a repeat take over at once."""

    def find(self, request: KeyedRequest) -> Claim:
        """Say what the key holds, without locking it; nothing if there is none."""

    def forget(self, *, limit: int, now: datetime) -> int:
        """Forget at most `limit` keys whose time is over, oldest first. Say how many there were."""


@dataclass(frozen=True)
class OrderFilter:
    """Which orders to list; empty and None stand for any."""

    customer_id: str = ""
    status: OrderStatus | None = None


class Orders(Protocol):
    """The stored orders. A history grows only together with its order."""

    def add(self, order: Order, entry: AuditEntry) -> None:
        """Store a new order with the first entry of its history."""

    def lock(self, order_id: str) -> Order | None:
        """Read an order and keep everybody else from changing it until the end."""

    def get(self, order_id: str) -> Order | None:
        """Read an order."""

    def save(self, order: Order, *entries: AuditEntry) -> None:
        """Write an order that was locked, and what its history tells of it.

        Never a transaction's first write.
        """

    def page(self, wanted: OrderFilter, *, before: str, limit: int) -> Sequence[Order]:
        """List orders with smaller ids than `before` (empty: all), greatest id first."""


@dataclass(frozen=True)
class Unsettled:
    """Something that has been waiting for its outcome: since when, and what stands in its way.

    `what` is the kind of operation, or `payment` for one that its order does not have.
    """

    what: str
    id: str
    order_id: str
    since: datetime
    attempts: int
    problem: str


@dataclass(frozen=True)
class Queue:
    """How many wait, and since when the oldest one does."""

    count: int = 0
    oldest: datetime | None = None


class Operations(Protocol):
    """The stored payment operations."""

    def add(self, operation: PaymentOperation) -> None:
        """Store an intent."""

    def get(self, operation_id: str) -> PaymentOperation:
        """Read an operation whose order is locked."""

    def end(self, operation: PaymentOperation, *, at: datetime) -> None:
        """Write the outcome of an operation that was in flight."""

    def waiting(self, *, started_before: datetime, now: datetime) -> bool:
        """Say whether an operation from before then is still in flight, and due."""

    def take(
        self, *, started_before: datetime, until: datetime, now: datetime
    ) -> PaymentOperation | None:
        """Take the oldest of those. Nobody else takes it until then."""

    def postpone(self, operation_id: str, *, problem: str, now: datetime) -> None:
        """Have an operation that was taken in vain wait; longer each time."""

    def put_back(self, operation_id: str) -> None:
        """Have an operation be as it was before it was taken: due, and not tried."""

    def unsettled(self, *, started_before: datetime) -> Sequence[Unsettled]:
        """List the operations from before then that are in flight, and those with a problem."""

    def in_flight(self) -> Mapping[OperationKind, Queue]:
        """Count the operations in flight, of each kind that has any."""


class Inbox(Protocol):
    """The payments that the payment service says have succeeded, until they are applied."""

    def sequence(self) -> int:
        """Say up to which sequence its history has been read."""

    def receive(self, page: "PaymentPage", *, after: int, now: datetime) -> bool:
        """Keep the payments read after a sequence that their orders lack, and how far that is.

        Does nothing if somebody else has read on from there. Says whether it did something.
        """

    def waiting(self, now: datetime) -> bool:
        """Say whether a payment is not applied yet, and due."""

    def take(self, *, until: datetime, now: datetime) -> "ReceivedPayment | None":
        """Take the oldest of those. Nobody else takes it until then."""

    def apply(self, payment_id: str, *, at: datetime) -> None:
        """Write down that the order is paid by the payment."""

    def postpone(self, payment_id: str, *, problem: str, now: datetime) -> None:
        """Have a payment that was taken in vain wait; longer each time."""

    def put_back(self, payment_id: str) -> None:
        """Have a payment be as it was before it was taken: due, and not tried."""

    def holds(self, order_id: str) -> bool:
        """Say whether a payment of this order is not applied yet."""

    def make_due(self, order_id: str) -> None:
        """Have no payment of this order wait any longer."""

    def unapplied(self, *, received_before: datetime) -> Sequence[Unsettled]:
        """List the payments from before then that are not applied, and those with a problem."""

    def queue(self) -> Queue:
        """Count the payments that are not applied."""


class Work(Protocol):
    """One transaction."""

    @property
    def keys(self) -> Keys: ...
    @property
    def orders(self) -> Orders: ...
    @property
    def operations(self) -> Operations: ...
    @property
    def inbox(self) -> Inbox: ...


@dataclass(frozen=True)
class StoredEntry:
    """An audit entry with its place in the one order of all entries."""

    sequence: int
    entry: AuditEntry


class Store(Protocol):
    """The database."""

    def transact(self, work: Callable[[Work], T]) -> T:
        """Run the function in one transaction, again if the race was lost, and commit."""

    def change(self, work: Callable[[Work], T]) -> T:
        """Do so, perhaps without locks: what the function reads may be outdated, once.

        It is run again if what it was about to change is not as it was, and if it raises.
        """

    def read(self, work: Callable[[Work], T]) -> T:
        """Run a function that only reads."""

    def audit_entries(self, *, after: int, order_id: str, limit: int) -> Sequence[StoredEntry]:
        """Read the history in order, without ever skipping an entry."""

    def settled_entries(
        self, *, after: int, up_to: int, order_id: str, limit: int
    ) -> Sequence[StoredEntry]:
        """Read a part of the history that is whole, in order."""


class Head(Protocol):
    """How far the history is whole. Whoever waits for more of it is woken."""

    @property
    def sequence(self) -> int: ...


class Replies(Protocol):
    """Turns outcomes into the bytes that are stored and sent."""

    def response(self, method: str, order: Order) -> bytes:
        """Encode the success of a method."""

    def refusal(self, refusal: Refusal) -> bytes:
        """Encode a refusal as a google.rpc.Status."""


@dataclass(frozen=True)
class PaymentFacts:
    """What the payment service says of a payment."""

    id: str
    order_id: str
    customer_id: str
    status: str
    amount: Money | None
    decline_code: str = ""


@dataclass(frozen=True)
class Succeeded:
    """The money was taken."""

    payment: PaymentFacts


@dataclass(frozen=True)
class Declined:
    """The gateway said no; no money moved."""

    payment: PaymentFacts


@dataclass(frozen=True)
class Voided:
    """The gateway was not asked and, for this operation, never will be."""

    payment: PaymentFacts


@dataclass(frozen=True)
class Rejected:
    """The payment service refused the request's fields; it may have recorded nothing."""

    violations: tuple[FieldViolation, ...]


@dataclass(frozen=True)
class Unknown:
    """Nobody can say yet.

    `unreachable` says that the payment service did not answer at all, `problem` names a refusal
    that it would repeat.
    """

    unreachable: bool = False
    problem: str = ""


@dataclass(frozen=True)
class NoPayment:
    """The order is sealed, has no live payment and never will have one."""


@dataclass(frozen=True)
class Refunded:
    """The money was given back."""


@dataclass(frozen=True)
class RefundRefused:
    """The refund did not happen; `refusal` says why."""

    refusal: Refusal


ChargeAnswer = Succeeded | Declined | Voided | Unknown
SealAnswer = NoPayment | Succeeded | Unknown
RefundAnswer = Refunded | RefundRefused | Unknown


@dataclass(frozen=True)
class ReceivedPayment:
    """A payment that has succeeded, according to the payment service's history."""

    payment_id: str
    order_id: str


@dataclass(frozen=True)
class PaymentPage:
    """A piece of that history: where it ends, and the payments that succeeded in it.

    `is_last` says that there was nothing more to read.
    """

    last_sequence: int
    payments: tuple[ReceivedPayment, ...]
    is_last: bool = True


class Payments(Protocol):
    """The payment service. No method raises for an answer that is merely unknown."""

    def require_available(self) -> None:
        """Raise PaymentServiceUnavailable if the connection is known to be broken."""

    def charge(
        self, operation: PaymentOperation, order: Order, *, payment_token: str
    ) -> ChargeAnswer | Rejected:
        """Charge the order's total under the operation's id."""

    def resolve(self, operation: PaymentOperation) -> ChargeAnswer:
        """Ask what became of a charge; one that has not arrived never will."""

    def seal(self, operation: PaymentOperation) -> SealAnswer:
        """Let no payment of the order start any more, and ask for the one there is."""

    def refund(self, operation: PaymentOperation) -> RefundAnswer:
        """Give the operation's amount back under its id."""

    def get(self, payment_id: str, *, by: Actor) -> PaymentFacts:
        """Read a payment. Raises PaymentNotFound, PaymentServiceUnavailable."""

    def succeeded_since(self, sequence: int) -> PaymentPage:
        """Read on in the history of payments. Raises PaymentServiceUnavailable."""

    def answers(self) -> bool:
        """Say whether the payment service is there and well."""
