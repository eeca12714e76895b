"""What a verification found, and how it is told."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass


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

    def lines(self) -> Iterator[str]:
        """Tell it to people, the sum last."""
        if not self.has_ledger:
            yield "there is no ledger: what the gateway itself has booked was not compared"
        for case in self.waiting:
            yield f"waits for a person: order {case.order_id}: {case.told}"
        for violation in self.violations:
            order = f"order {violation.order_id}" if violation.order_id else "no order"
            yield f"{violation.guarantee} does not hold: {order}: {violation.told}"
        found = _counted(len(self.violations), "violation")
        yield f"{found} in {_counted(self.orders, 'order')}"

    def json(self) -> str:
        """Tell it to programs, in one line."""
        return json.dumps(
            {
                "orders": self.orders,
                "ledger": self.has_ledger,
                "violations": [asdict(violation) for violation in self.violations],
                "waiting": [asdict(case) for case in self.waiting],
            }
        )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
