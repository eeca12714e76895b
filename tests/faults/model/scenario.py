"""Who takes part: focused configurations of the one protocol, each small enough to exhaust."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from tests.faults.model.guards import Guard
from tests.faults.model.state import (
    NOBODY,
    NONE,
    OUT_OF_SIGHT,
    PAID,
    SUCCEEDED,
    Item,
    Key,
    State,
)

# Who has to take a step: only workers never tire.
WORKER = "worker"
CALLER = "caller"
TIME = "time"
OPERATOR = "operator"


class Step(NamedTuple):
    """One transaction, delivery or gateway execution, and the entries committed with it."""

    says: str
    state: State
    entries: tuple[tuple[object, ...], ...] = ()
    by: str = CALLER


@dataclass(frozen=True)
class Scenario:
    """What may happen, as often as the lists are long.

    `charges` names the key of each PayOrder operation, `refunds` the amount of each RefundOrder
    (0: all that is left), `direct` counts payments made at the payment service.
    """

    name: str
    charges: tuple[str, ...] = ()
    direct: int = 0
    cancel: bool = False
    refunds: tuple[int, ...] = ()
    fulfil: bool = False
    is_paid: bool = False
    declines: bool = True
    # Gateway keys get old, and an operator settles; `errs`: he says what he likes.
    ages: bool = False
    errs: bool = False
    # Callers repeat calls that were refused, and keys are forgotten.
    repeats: bool = False
    forgets: bool = False
    without: frozenset[Guard] = field(default_factory=frozenset)

    def has(self, guard: Guard) -> bool:
        """Whether the guard is in its place."""
        return guard not in self.without

    def worker(self, guard: Guard) -> str:
        """Who takes the step: a worker if there is one, otherwise whoever likes to."""
        return WORKER if self.has(guard) else CALLER

    @cached_property
    def charge_keys(self) -> tuple[int, ...]:
        """The place of each charge's key."""
        names = list(dict.fromkeys(self.charges))
        return tuple(names.index(name) for name in self.charges)

    @property
    def cancel_key(self) -> int:
        """The place of the cancellation's key."""
        return len(set(self.charges))

    def refund_key(self, place: int) -> int:
        """The place of a refund's key."""
        return self.cancel_key + self.cancel + place

    @property
    def start(self) -> State:
        """Where it begins: an order that was placed, or paid directly."""
        payments = [Item() for _ in range(len(self.charges) + self.direct)]
        if self.is_paid:
            payments.append(Item(SUCCEEDED, (SUCCEEDED,), moved=1, fed=OUT_OF_SIGHT))
        start = State(
            charges=(NONE,) * len(self.charges),
            give_backs=(NONE,) * len(self.refunds),
            keys=(Key(),) * self.refund_key(len(self.refunds)),
            payments=tuple(payments),
            refunds=(Item(amount=0),) * len(self.refunds),
        )
        if self.is_paid:
            return start._replace(status=PAID, paid_by=len(payments) - 1)
        return start._replace(paid_by=NOBODY)
