"""What there is: two databases, the gateway's books, and what has been said."""

from collections.abc import Iterator
from typing import Final, NamedTuple, TypeVar

T = TypeVar("T")

# An order's status.
CREATED: Final = "created"
PAID: Final = "paid"
FULFILLED: Final = "fulfilled"
CANCELLED: Final = "cancelled"
REFUNDED: Final = "refunded"
ARCHIVED: Final = "archived"

NONE: Final = ""

# The status of a payment operation; NONE before it has begun.
IN_FLIGHT: Final = "in flight"
ENDED_WELL: Final = "ended well"
ENDED_BADLY: Final = "ended badly"
ENDED_VOID: Final = "ended void"

# The status of a payment or a refund; NONE before it has arrived. A refund that the payment
# service refuses without asking the gateway is VOIDED here, and FAILED in the code.
PENDING: Final = "pending"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
VOIDED: Final = "voided"

# How old a gateway key is: nothing is sent under an old one; some time later nothing of it is
# on its way any more; in the end the gateway has forgotten it.
FRESH: Final = 0
OLD: Final = 1
ARRIVED_OR_LOST: Final = 2
FORGOTTEN: Final = 3

# Where the feed's entry of a payment is.
UNWRITTEN: Final = 0
WRITTEN: Final = 1
IN_INBOX: Final = 2
OUT_OF_SIGHT: Final = 3

PAYMENT: Final = "payment"
REFUND: Final = "refund"

NOBODY: Final = -1
PRICE: Final = 2


class Item(NamedTuple):
    """A payment or a refund, and what the gateway knows of it.

    `row` is what is stored, `said` every final answer that was ever given, `moved` how often the
    gateway has moved its amount. `word` is what an operator has read in the gateway's books,
    `ruling` the outcome he is about to write down and whose word it is. `heard` and `recorded`:
    the gateway has contradicted the final row, and an entry says so.
    """

    row: str = NONE
    said: tuple[str, ...] = ()
    moved: int = 0
    is_declined: bool = False
    age: int = FRESH
    amount: int = PRICE
    fed: int = UNWRITTEN
    word: str = NONE
    ruling: tuple[str, str] = (NONE, NONE)
    heard: bool = False
    recorded: bool = False

    @property
    def is_live(self) -> bool:
        """Whether it has moved money, or may."""
        return self.row in (PENDING, SUCCEEDED)

    @property
    def booked(self) -> str:
        """What the gateway has answered."""
        if self.moved:
            return SUCCEEDED
        return FAILED if self.is_declined else NONE

    def is_written(self, row: str) -> "Item":
        """The item with that status stored, and answered if it is final."""
        said = self.said
        if row != PENDING and row not in said:
            said = (*said, row)
        # A ruling that says otherwise is on its way still, and comes too late.
        ruling = (NONE, NONE) if self.ruling[0] == row else self.ruling
        return self._replace(row=row, said=said, word=NONE, ruling=ruling)


class Key(NamedTuple):
    """An idempotency key of the order service.

    `bound` is the operation that a repeat continues, `reply` the stored reply, `told` the final
    replies that were given in the last 24 hours.
    """

    bound: int = NOBODY
    reply: str = ""
    told: tuple[str, ...] = ()
    is_claim_old: bool = False


class State(NamedTuple):
    """One order. `charges` are operations, each with the payment in the same place.

    Payments made directly come after those. `give_backs` are operations, each with its refund.
    """

    status: str = CREATED
    paid_by: int = NOBODY
    refunded: int = 0
    charges: tuple[str, ...] = ()
    cancellation: str = NONE
    give_backs: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    is_sealed: bool = False
    # Every answer a seal has given: NOBODY, or the payment that has succeeded.
    seal_said: tuple[int, ...] = ()
    payments: tuple[Item, ...] = ()
    refunds: tuple[Item, ...] = ()
    given_back: int = 0
    # A transaction that has read and not yet written: only where a lock was taken away.
    looking: tuple[str, int] = (NONE, NOBODY)

    @property
    def is_busy(self) -> bool:
        """Whether an operation is in flight on the order."""
        return (
            self.cancellation == IN_FLIGHT
            or IN_FLIGHT in self.charges
            or IN_FLIGHT in self.give_backs
        )

    def items(self) -> Iterator[tuple[str, int, Item]]:
        """All payments and refunds, each with what names it."""
        for place, payment in enumerate(self.payments):
            yield PAYMENT, place, payment
        for place, refund in enumerate(self.refunds):
            yield REFUND, place, refund

    def put(self, kind: str, place: int, item: Item) -> "State":
        """The state with that payment or refund."""
        if kind == PAYMENT:
            return self._replace(payments=replaced(self.payments, place, item))
        return self._replace(refunds=replaced(self.refunds, place, item))

    def with_key(self, place: int, key: Key) -> "State":
        """The state with that key."""
        return self._replace(keys=replaced(self.keys, place, key))


def replaced(row: tuple[T, ...], place: int, value: T) -> tuple[T, ...]:
    """The row with another value in that place."""
    return (*row[:place], value, *row[place + 1 :])
