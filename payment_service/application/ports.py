"""What the use cases need from the outside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol, TypeVar

from payment_service.domain.audit import AuditEntry
from payment_service.domain.errors import Refusal
from payment_service.domain.money import Money
from payment_service.domain.payment import Payment
from payment_service.domain.refund import Refund
from payment_service.domain.state_machine import PaymentStatus
from service_kit.idempotency.record import KeyedRequest, Reply

T = TypeVar("T")

# Of a gateway's reference or decline code.
TOLD_CHARACTERS_MAX: Final = 64


@dataclass(frozen=True)
class PaymentRecord:
    """A payment and what is kept beside it: whose key it has and how far it has come.

    `fingerprint` is None for a payment that was resolved before its request arrived: it
    matches any request. `payment_token` is None once the payment is final, `reply` (the final
    one) until then. `lease_until` is set while somebody asks the gateway, `asked_in_vain` says
    how often it gave no answer.
    """

    payment: Payment
    role: str
    caller: str
    key: str
    fingerprint: bytes | None
    payment_token: str | None = None
    lease_until: datetime | None = None
    asked_in_vain: int = 0
    reply: bytes | None = None

    def settled(self, payment: Payment, reply: bytes) -> "PaymentRecord":
        """Return the record of the payment once it is final: the token is forgotten."""
        return replace(self, payment=payment, payment_token=None, lease_until=None, reply=reply)


@dataclass(frozen=True)
class RefundRecord:
    """A refund and what is kept beside it: the request, and how far it has come.

    `reply` is None until the refund is final. `lease_until` is set while somebody asks the
    gateway, `asked_in_vain` says how often it gave no answer.
    """

    refund: Refund
    request: KeyedRequest
    lease_until: datetime | None = None
    asked_in_vain: int = 0
    reply: Reply | None = None

    def settled(self, refund: Refund, reply: Reply) -> "RefundRecord":
        """Return the record of the refund once it is final."""
        return replace(self, refund=refund, lease_until=None, reply=reply)


@dataclass(frozen=True)
class Queue:
    """How many wait, and since when the oldest one does."""

    count: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True)
class PaymentFilter:
    """Which payments to list; empty and None stand for any."""

    customer_id: str = ""
    status: PaymentStatus | None = None
    order_id: str = ""


class Orders(Protocol):
    """What this service knows of orders: that they have payments, and that some are sealed."""

    def lock(self, order_id: str) -> bool:
        """Keep everybody else from the order's payments until the end. Say if it is sealed."""

    def seal(self, order_id: str, *, at: datetime) -> None:
        """Let no payment of the order start any more."""


class Payments(Protocol):
    """The stored payments. Whoever writes has locked the order."""

    def add(self, record: PaymentRecord) -> None:
        """Store a new payment."""

    def get(self, payment_id: str) -> PaymentRecord | None:
        """Read a payment."""

    def lock(self, payment_id: str, *, order_id: str = "") -> PaymentRecord | None:
        """Lock the payment's order, then read the payment. The order need not be known."""

    def by_key(self, role: str, caller: str, key: str) -> PaymentRecord | None:
        """Read the payment that a caller requested with a key."""

    def live(self, order_id: str) -> PaymentRecord | None:
        """Read the order's payment that is PENDING or SUCCEEDED."""

    def lease(self, payment_id: str, until: datetime) -> None:
        """Say that somebody asks the gateway about a PENDING payment."""

    def release(self, payment_id: str, until: datetime, *, now: datetime) -> None:
        """End the lease that was taken until then, unless somebody else has it by now.

        The gateway was asked in vain: it is to be asked again, later each time.
        """

    def waiting(self, now: datetime) -> bool:
        """Say whether a payment is PENDING, due, and nobody asks about it."""

    def lock_due(self, now: datetime) -> PaymentRecord | None:
        """Lock the oldest of those, of which nobody has locked the order."""

    def make_due(self) -> None:
        """End the waiting of every PENDING payment."""

    def pending_since(self, before: datetime) -> Sequence[PaymentRecord]:
        """List the payments that have been PENDING since before then, oldest first."""

    def pending(self) -> Queue:
        """Count the payments that are PENDING."""

    def by_reference(self, reference: str) -> PaymentRecord | None:
        """Read the payment that the gateway knows by its own reference."""

    def settle(self, record: PaymentRecord) -> None:
        """Write the outcome of a PENDING payment and its final reply."""

    def give_back(self, payment: Payment) -> None:
        """Write how much of a SUCCEEDED payment was given back."""

    def page(self, wanted: PaymentFilter, *, before: str, limit: int) -> Sequence[Payment]:
        """List payments with smaller ids than `before` (empty: all), greatest id first."""


class Refunds(Protocol):
    """The stored refunds. Whoever writes has locked the payment's order."""

    def add(self, record: RefundRecord) -> None:
        """Store a new refund."""

    def get(self, refund_id: str) -> RefundRecord | None:
        """Read a refund."""

    def by_key(self, role: str, caller: str, key: str) -> RefundRecord | None:
        """Read the refund that a caller requested with a key."""

    def reserved(self, payment_id: str) -> int:
        """Add up, in minor units, the payment's refunds that are PENDING or SUCCEEDED."""

    def lease(self, refund_id: str, until: datetime) -> None:
        """Say that somebody asks the gateway about a PENDING refund."""

    def release(self, refund_id: str, until: datetime, *, now: datetime) -> None:
        """End the lease that was taken until then, unless somebody else has it by now.

        The gateway was asked in vain: it is to be asked again, later each time.
        """

    def waiting(self, now: datetime) -> bool:
        """Say whether a refund is PENDING, due, and nobody asks about it."""

    def lock_due(self, now: datetime) -> RefundRecord | None:
        """Lock the oldest of those, of which nobody has locked the order."""

    def make_due(self) -> None:
        """End the waiting of every PENDING refund."""

    def pending_since(self, before: datetime) -> Sequence[RefundRecord]:
        """List the refunds that have been PENDING since before then, oldest first."""

    def pending(self) -> Queue:
        """Count the refunds that are PENDING."""

    def by_reference(self, reference: str) -> RefundRecord | None:
        """Read the refund that the gateway knows by its own reference."""

    def settle(self, record: RefundRecord) -> None:
        """Write the outcome of a PENDING refund and its final reply."""


class Audit(Protocol):
    """The history."""

    def append(self, entry: AuditEntry) -> None:
        """Write an entry. Never a transaction's first write."""


class Work(Protocol):
    """One transaction."""

    @property
    def orders(self) -> Orders: ...
    @property
    def payments(self) -> Payments: ...
    @property
    def refunds(self) -> Refunds: ...
    @property
    def audit(self) -> Audit: ...


@dataclass(frozen=True)
class StoredEntry:
    """An audit entry with its place in the one order of all entries."""

    sequence: int
    entry: AuditEntry


class Store(Protocol):
    """The database."""

    def discrepancies(self) -> Sequence[StoredEntry]:
        """Read the entries that tell of a gateway that contradicted itself."""

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


class Replies(Protocol):
    """Turns outcomes into the bytes that are stored and sent."""

    def processed(self, payment: Payment) -> bytes:
        """Encode the success of ProcessPayment."""

    def refunded(self, refund: Refund, payment: Payment) -> bytes:
        """Encode the success of RefundPayment."""

    def refusal(self, refusal: Refusal) -> bytes:
        """Encode a refusal as a google.rpc.Status."""


@dataclass(frozen=True)
class Succeeded:
    """The money moved; `reference` is the gateway's own.

    Raises ValueError for one that could not be told from another, or kept: 1 to 64 characters.
    """

    reference: str

    def __post_init__(self) -> None:
        _require_kept(self.reference)


@dataclass(frozen=True)
class Declined:
    """The gateway said no; no money moved. Raises ValueError as Succeeded does."""

    code: str

    def __post_init__(self) -> None:
        _require_kept(self.code)


@dataclass(frozen=True)
class NotFound:
    """The gateway has not seen the key so far. It still may: a request can be on its way."""


@dataclass(frozen=True)
class Unknown:
    """The gateway did not answer: the money moved or it did not."""


Answer = Succeeded | Declined | Unknown


def _require_kept(told: str) -> None:
    if not 1 <= len(told) <= TOLD_CHARACTERS_MAX:
        raise ValueError(f"the gateway told {len(told)} characters")


@dataclass(frozen=True)
class Charge:
    """What the gateway is asked to take. `key` is the payment's id, for ever."""

    key: str
    order_id: str
    amount: Money
    payment_token: str


@dataclass(frozen=True)
class GiveBack:
    """What the gateway is asked to give back. `key` is the refund's id, for ever."""

    key: str
    charge_reference: str
    amount: Money


class Gateway(Protocol):
    """Whoever moves the money.

    The same key with the same request moves money once and is answered alike every time. It may
    come again while the first is still executed: that is no answer yet, and never a decline. No
    method raises for an answer that is merely unknown; `timeout_seconds` bounds the wait.
    """

    @property
    def name(self) -> str:
        """What `Payment.gateway` says."""

    @property
    def accepted_tokens(self) -> str:
        """Say, after "must be", which payment tokens are accepted."""

    def accepts(self, payment_token: str) -> bool:
        """Say whether the token is one that can be charged at all."""

    def charge(self, charge: Charge, *, timeout_seconds: float) -> Answer:
        """Take the money, once per key."""

    def refund(self, refund: GiveBack, *, timeout_seconds: float) -> Answer:
        """Give the money back, once per key."""

    def find_charge(self, key: str, *, timeout_seconds: float) -> Answer | NotFound:
        """Look up what became of a charge. Moves nothing."""

    def find_refund(self, key: str, *, timeout_seconds: float) -> Answer | NotFound:
        """Look up what became of a refund. Moves nothing."""


class Deadline(Protocol):
    """Until when the caller waits."""

    def remaining_seconds(self) -> float:
        """Say how many seconds are left; negative when it is over."""
