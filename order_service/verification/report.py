"""What a verification found."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Violation:
    """A guarantee that does not hold: what was expected and what was found, with all ids."""

    guarantee: str
    order_id: str
    told: str


@dataclass(frozen=True, order=True)
class Waiting:
    """Something that only a person can end. It breaks no guarantee."""

    order_id: str
    told: str


@dataclass(frozen=True)
class Report:
    """The result: how many orders were looked at, and what is wrong with them."""

    orders: int
    violations: tuple[Violation, ...]
    waiting: tuple[Waiting, ...] = ()
    has_ledger: bool = True
